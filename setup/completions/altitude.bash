# SPDX-License-Identifier: MIT
# Completion of altitude(1) for bash.

_altitude_volumes() {
	altitude volumes --json 2>/dev/null | sed -n 's/^ *"\(\/.*\)",\{0,1\}$/\1/p'
}

_altitude_filters() {
	local dir program
	program=$(command -v altitude)
	for dir in ${ALTITUDE_REGISTRY:-/etc/altitude/registry.d "${program%/bin/altitude}/etc/altitude/registry.d"}; do
		sed -n 's/^Name=//p' "$dir"/*.ini 2>/dev/null
	done
}

_altitude() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		words='mount unmount mount-add volumes filters instances load unload attach detach watch stats groups doctor
			--help --version'
		COMPREPLY=($(compgen -W "$words" -- "$word"))
		return
	fi
	case $before in
	-f | --filter)
		COMPREPLY=($(compgen -W "$(_altitude_filters)" -- "$word"))
		return ;;
	-o | --option)
		COMPREPLY=($(compgen -W 'allow_other default_permissions filter= nodev noexec nonempty nosuid open=no passthrough= ring_depth= ro threads= timeout_ms= transport= ttl_ms=' -- "$word"))
		return ;;
	-t | --timeout-ms | -i | --instance | -a | --altitude)
		# "-a" of mount is a switch.
		[ "${COMP_WORDS[1]}" = mount ] && [ "$before" = -a ] || return ;;
	esac
	case $word in
	-*)
		case ${COMP_WORDS[1]} in
		mount) words='--filter --option --foreground --allow-other --read-only --timeout-ms --verify' ;;
		unmount) words='--lazy' ;;
		volumes | filters | instances | stats | groups | doctor) words='--json' ;;
		unload) words='--mandatory' ;;
		attach) words='--instance --altitude' ;;
		watch) words='--once' ;;
		esac
		COMPREPLY=($(compgen -W "$words --help" -- "$word"))
		return ;;
	esac
	case ${COMP_WORDS[1]} in
	mount)
		case $word in
		/* | .*) COMPREPLY=($(compgen -d -- "$word")) ;;
		*) COMPREPLY=($(compgen -W 'dir: mem:' -- "$word") $(compgen -d -- "$word")) ;;
		esac ;;
	mount-add) COMPREPLY=($(compgen -W "$(_altitude_volumes)" -- "$word") $(compgen -d -- "$word")) ;;
	unmount | filters | instances | watch | stats) COMPREPLY=($(compgen -W "$(_altitude_volumes)" -- "$word")) ;;
	load | unload | attach | detach)
		if [ "$COMP_CWORD" -eq 2 ]; then
			COMPREPLY=($(compgen -W "$(_altitude_filters)" -- "$word"))
		else
			COMPREPLY=($(compgen -W "$(_altitude_volumes)" -- "$word"))
		fi ;;
	esac
}

complete -F _altitude altitude
