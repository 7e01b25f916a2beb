# SPDX-License-Identifier: MIT
# Completion of altitude(1) for fish.

function __altitude_volumes
	altitude volumes --json 2>/dev/null | string replace -rf '^ *"(/.*)",?$' '$1'
end

function __altitude_filters
	set -l places /etc/altitude/registry.d (string replace -r '/bin/altitude$' /etc/altitude/registry.d (command -v altitude))
	set -q ALTITUDE_REGISTRY; and set places $ALTITUDE_REGISTRY
	for place in $places
		test -d $place; and cat $place/*.ini | string replace -rf '^Name=' ''
	end
end

complete -c altitude -n __fish_use_subcommand -f -s h -l help -d 'explain'
complete -c altitude -n __fish_use_subcommand -f -l version -d 'tell the version'
complete -c altitude -n __fish_use_subcommand -f -a mount -d 'Make a file system visible at a directory, with filters above it'
complete -c altitude -n __fish_use_subcommand -f -a unmount -d 'Unmount a volume, and end its server'
complete -c altitude -n __fish_use_subcommand -f -a mount-add -d 'Show a mounted volume at one more mounting point'
complete -c altitude -n __fish_use_subcommand -f -a volumes -d 'List the volumes and where they are mounted'
complete -c altitude -n __fish_use_subcommand -f -a filters -d 'List the filters in memory'
complete -c altitude -n __fish_use_subcommand -f -a instances -d 'List the stack of each volume, highest altitude first'
complete -c altitude -n __fish_use_subcommand -f -a load -d 'Load a filter into a volume\'s server, without attaching it'
complete -c altitude -n __fish_use_subcommand -f -a unload -d 'Detach a filter\'s instances and take it out of memory'
complete -c altitude -n __fish_use_subcommand -f -a attach -d 'Attach a filter to a volume in use'
complete -c altitude -n __fish_use_subcommand -f -a detach -d 'Detach a filter from a volume in use'
complete -c altitude -n __fish_use_subcommand -f -a watch -d 'Show operations as they happen (activity_monitor)'
complete -c altitude -n __fish_use_subcommand -f -a stats -d 'Count what a volume was asked, and what its filters report'
complete -c altitude -n __fish_use_subcommand -f -a groups -d 'List the load order groups and their altitudes, top of the stack first'
complete -c altitude -n __fish_use_subcommand -f -a doctor -d 'Tell what this machine offers, what is missing, and what to do'

complete -c altitude -n '__fish_seen_subcommand_from mount' -s f -l filter -x -a '(__altitude_filters)' -d 'attach a filter; may be given many times'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s o -l option -x -d 'an option of the file system, or of mount(8)'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s F -l foreground -f -d 'stay; Ctrl-C unmounts'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s a -l allow-other -f -d 'let other users in (the default for root)'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s r -l read-only -f -d 'refuse every change'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s t -l timeout-ms -x -d 'answer a request with an error after so many milliseconds'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s V -l verify -f -d 'stop at the first breach of the filters\' contract, and name who did it'
complete -c altitude -n '__fish_seen_subcommand_from mount' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from mount' -a 'dir: mem:'

complete -c altitude -n '__fish_seen_subcommand_from unmount' -s l -l lazy -f -d 'detach it now; it ends when the last user lets go'
complete -c altitude -n '__fish_seen_subcommand_from unmount' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from unmount' -f -a '(__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from mount-add' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from mount-add' -f -a '(__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from volumes' -s j -l json -f -d 'as JSON'
complete -c altitude -n '__fish_seen_subcommand_from volumes' -s h -l help -f -d 'explain'

complete -c altitude -n '__fish_seen_subcommand_from filters' -s j -l json -f -d 'as JSON'
complete -c altitude -n '__fish_seen_subcommand_from filters' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from filters' -f -a '(__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from instances' -s j -l json -f -d 'as JSON'
complete -c altitude -n '__fish_seen_subcommand_from instances' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from instances' -f -a '(__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from load' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from load' -f -a '(__altitude_filters) (__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from unload' -s m -l mandatory -f -d 'tell the filter instead of asking it'
complete -c altitude -n '__fish_seen_subcommand_from unload' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from unload' -f -a '(__altitude_filters) (__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from attach' -s i -l instance -x -d 'name of the instance (default: the filter\'s)'
complete -c altitude -n '__fish_seen_subcommand_from attach' -s a -l altitude -x -d 'its altitude (default: the filter\'s)'
complete -c altitude -n '__fish_seen_subcommand_from attach' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from attach' -f -a '(__altitude_filters) (__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from detach' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from detach' -f -a '(__altitude_filters) (__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from watch' -s 1 -l once -f -d 'what is there now, then end'
complete -c altitude -n '__fish_seen_subcommand_from watch' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from watch' -f -a '(__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from stats' -s j -l json -f -d 'as JSON'
complete -c altitude -n '__fish_seen_subcommand_from stats' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from stats' -f -a '(__altitude_volumes)'

complete -c altitude -n '__fish_seen_subcommand_from groups' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from groups' -s j -l json -f -d 'as JSON'

complete -c altitude -n '__fish_seen_subcommand_from doctor' -s h -l help -f -d 'explain'
complete -c altitude -n '__fish_seen_subcommand_from doctor' -s j -l json -f -d 'as JSON'
