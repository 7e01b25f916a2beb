# SPDX-License-Identifier: MIT
"""What "meson install" puts where, and that it works there: command, library, modules, headers, mount(8), unit."""
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAIN = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) and mount namespaces are root's")


def run(*args, check=True, env=PLAIN, **kw):
    done = subprocess.run([str(arg) for arg in args], text=True, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=kw.pop("timeout", 300), **kw)
    if check and done.returncode != 0:
        raise AssertionError(f"{shlex.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def mounted(path):
    with open("/proc/self/mountinfo") as lines:
        return any(line.split()[4] == str(path) for line in lines)


class Installed:
    def __init__(self, place):
        self.build, self.prefix = place / "build", place / "prefix"
        run("meson", "setup", self.build, ROOT, f"--prefix={self.prefix}")
        run("ninja", "-C", self.build)
        run("meson", "install", "-C", self.build, "--no-rebuild")
        self.libdir = next(self.prefix.glob("lib*/**/libaltitude.so")).parent
        self.cli = self.prefix / "bin/altitude"
        self.helper = self.prefix / "sbin/mount.altitude"

    def altitude(self, *args, **kw):
        return run(self.cli, *args, **kw)

    def pkg_config(self, *args):
        return run("pkg-config", *args, "altitude", env=dict(PLAIN, PKG_CONFIG_PATH=str(self.libdir / "pkgconfig"))).stdout.split()

    def modules(self):
        return sorted(path.name[:-3] for path in (self.build / "modules").glob("*.so"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    for tool in ("meson", "ninja", "cc", "pkg-config", "pandoc"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    place = tmp_path_factory.mktemp("install")
    for path in (place, place.parent):
        path.chmod(0o755)
    return Installed(place)


@pytest.fixture
def volumes(installed, tmp_path):
    """Directories for a volume, and the end of what is left mounted there."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not open to this user")
    tmp_path.chmod(0o755)
    (tmp_path / "tree").mkdir()
    (tmp_path / "mnt").mkdir()
    yield tmp_path
    left = mounted(tmp_path / "mnt")
    if left:
        run(*(["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]), tmp_path / "mnt")
    assert not left, "the volume is still mounted"


# ---- what is there ----

def names_expected(installed):
    version = re.search(r"version: '([\d.]+)'", (ROOT / "meson.build").read_text())[1]
    lib = installed.libdir.relative_to(installed.prefix)
    yield "bin/altitude"
    yield "sbin/mount.altitude"
    yield "lib/systemd/system/altitude@.service"
    yield "share/bash-completion/completions/altitude"
    yield "share/zsh/site-functions/_altitude"
    yield "share/fish/vendor_completions.d/altitude.fish"
    yield "share/man/man1/altitude.1"
    yield "share/man/man8/mount.altitude.8"
    yield "share/man/man8/altitude@.service.8"
    yield from (f"{lib}/libaltitude.so{end}" for end in ("", ".0", f".{version}"))
    yield f"{lib}/pkgconfig/altitude.pc"
    for header in (ROOT / "include").rglob("*.h"):
        yield str(header.relative_to(ROOT))
    for name in installed.modules():
        yield f"{lib}/altitude/{name}.so"
        folder = next(path.parent for path in ROOT.glob(f"*/{name}/*.c"))
        yield f"share/man/man7/altitude-{name}.7"
        if (folder / f"{name}.ini").exists():
            yield f"etc/altitude/registry.d/{name}.ini"


def files_below(place):
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_everything_named_is_there_and_nothing_else(installed):
    assert files_below(installed.prefix) == set(names_expected(installed))


def test_destdir_takes_the_same_files(installed, tmp_path):
    run("meson", "install", "-C", installed.build, "--no-rebuild", env=dict(PLAIN, DESTDIR=str(tmp_path / "dest")))
    assert files_below(pathlib.Path(f"{tmp_path}/dest{installed.prefix}")) == files_below(installed.prefix)


def test_modes_are_right_and_no_place_holder_is_left(installed):
    for path in (installed.cli, installed.helper):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    for path in (installed.prefix / "lib/systemd/system/altitude@.service", *(installed.prefix / "etc").rglob("*.ini")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for path in (installed.helper, installed.prefix / "lib/systemd/system/altitude@.service"):
        assert "@bindir@" not in path.read_text() and f"{installed.prefix}/bin/altitude" in path.read_text()


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_mount_and_systemd_find_their_files_under_the_usual_prefixes(prefix, tmp_path):
    if not shutil.which("meson"):
        pytest.skip("meson is not installed")
    run("meson", "setup", tmp_path / "plan", ROOT, f"--prefix={prefix}", "-Dmanpages=disabled")
    places = json.loads(run("meson", "introspect", "--installed", tmp_path / "plan").stdout).values()
    assert "/usr/sbin/mount.altitude" in places
    assert f"{prefix}/lib/systemd/system/altitude@.service" in places
    assert f"{prefix}/bin/altitude" in places


# ---- the command, the library, the modules ----

def test_the_command_works_without_environment_variables(installed, volumes):
    assert run(installed.cli, "--version", env={}).stdout.startswith("altitude ")
    (volumes / "tree/a").write_text("hello")
    run(installed.cli, "mount", "--filter", "stats", "--filter", "trace:file=" + str(volumes / "log"), f"dir:{volumes}/tree",
        volumes / "mnt", env={"PATH": PLAIN["PATH"]})
    assert (volumes / "mnt/a").read_text() == "hello"
    told = run(installed.cli, "instances", "--json", volumes / "mnt", env={})
    assert [one["filter"] for one in json.loads(told.stdout)] == ["stats", "trace"]
    run(installed.cli, "unmount", volumes / "mnt", env={"PATH": PLAIN["PATH"]})
    assert " /a " in (volumes / "log").read_text()


def test_every_installed_filter_is_known_by_name(installed, volumes):
    needs = {"delay": ":op=bmap", "error": ":op=bmap"}
    installed.altitude("mount", "mem:", volumes / "mnt")
    for name in installed.modules():
        if name not in ("dir", "mem", "hello"):
            installed.altitude("attach", name + needs.get(name, ""), volumes / "mnt")
            installed.altitude("detach", name, volumes / "mnt")
    installed.altitude("unmount", volumes / "mnt")


def test_a_filter_built_outside_of_the_tree_works_on_a_volume(installed, volumes):
    source = volumes / "upside.c"
    source.write_text((ROOT / "examples/rot13/rot13.c").read_text().replace('"rot13"', '"upside"'))
    module = volumes / "upside.so"
    flags = installed.pkg_config("--cflags")
    assert flags == [f"-I{installed.prefix}/include"]
    run("cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *flags, "-o", module, source)
    module.chmod(0o755)
    installed.altitude("mount", "--filter", module, f"dir:{volumes}/tree", volumes / "mnt")
    (volumes / "mnt/a").write_text("hello\n")
    assert (volumes / "tree/a").read_text() == "uryyb\n"
    assert (volumes / "mnt/a").read_text() == "hello\n"
    installed.altitude("detach", "upside", volumes / "mnt")
    installed.altitude("unload", "upside", volumes / "mnt")
    installed.altitude("attach", module, volumes / "mnt")
    assert '"upside"' in installed.altitude("instances", "--json", volumes / "mnt").stdout
    installed.altitude("unmount", volumes / "mnt")


def test_a_file_system_built_outside_of_the_tree_works(installed, volumes):
    module = volumes / "greet.so"
    (volumes / "greet.c").write_text((ROOT / "examples/hello/hello.c").read_text().replace('.name = "hello"', '.name = "greet"'))
    run("cc", "-shared", "-fPIC", "-Wall", *installed.pkg_config("--cflags"), "-o", module, volumes / "greet.c")
    module.chmod(0o755)
    installed.altitude("mount", "./greet.so:", volumes / "mnt", cwd=volumes)
    assert (volumes / "mnt/hello").read_text() == "Hello from altitude.\n"
    installed.altitude("unmount", volumes / "mnt")


def test_a_program_links_the_library_by_pkg_config(installed, tmp_path):
    (tmp_path / "main.c").write_text("#include <altitude/op.h>\n#include <stdio.h>\nint main(void) { puts(alt_op_name(ALT_OP_READ)); }\n")
    run("cc", "-o", tmp_path / "main", tmp_path / "main.c", *installed.pkg_config("--cflags", "--libs"))
    assert run(tmp_path / "main", env={"LD_LIBRARY_PATH": str(installed.libdir)}).stdout == "read\n"
    assert installed.pkg_config("--variable=moduledir") == [str(installed.libdir / "altitude")]


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_finds_the_pages(installed):
    for page in ("altitude", "mount.altitude", "altitude@.service", *(f"altitude-{name}" for name in installed.modules())):
        assert run("man", "-M", installed.prefix / "share/man", "-w", page).stdout.startswith(str(installed.prefix))


# ---- the unit ----

def unit_lines(installed):
    return (installed.prefix / "lib/systemd/system/altitude@.service").read_text().splitlines()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(installed, tmp_path):
    unit = tmp_path / "altitude@files.service"
    shutil.copy(installed.prefix / "lib/systemd/system/altitude@.service", unit)
    done = run("systemd-analyze", "verify", "--man=no", unit, check=False)
    assert "altitude@" not in done.stdout + done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_the_units_command_tells_when_the_volume_is_ready_and_unmounts_at_sigterm(installed, volumes):
    command = next(line[10:] for line in unit_lines(installed) if line.startswith("ExecStart="))
    values = {"VOLUME": f"dir:{volumes}/tree", "DIRECTORY": str(volumes / "mnt"), "OPTIONS": "--filter stats -o ttl_ms=0"}
    args = []
    for word in command.split():
        args += values[word[1:]].split() if re.fullmatch(r"\$\w+", word) else [re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], word)]
    (volumes / "tree/a").write_text("hello")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(volumes / "notify"))
        notify.settimeout(20)
        server = subprocess.Popen(args, env=dict(PLAIN, NOTIFY_SOCKET=str(volumes / "notify")), stderr=subprocess.PIPE, text=True)
        assert notify.recv(100) == b"READY=1"
    assert (volumes / "mnt/a").read_text() == "hello"
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    assert server.stderr.read() == ""
    assert not mounted(volumes / "mnt")


# ---- mount(8) ----

# Runs in a mount namespace of its own, where /usr/sbin holds our helper alone.
NAMESPACE = r"""
set -eu
mount -t tmpfs tmpfs "$(realpath /sbin)"
cp "$HELPER" "$(realpath /sbin)/mount.altitude"
kind() { findmnt -n -o FSTYPE --mountpoint "$1" || true; }
count() { grep -c " $1 " /proc/self/mountinfo || true; }
cd "$PLACE"
"""


def in_namespace(installed, place, script, check=True):
    env = dict(PLAIN, HELPER=str(installed.helper), PLACE=str(place), ALTITUDE=str(installed.cli))
    return run("unshare", "--mount", "--propagation", "private", "sh", "-c", NAMESPACE + script, env=env, check=check, timeout=120)


@root_only
def test_mount_8_mounts_and_umount_8_ends_the_server(installed, volumes):
    (volumes / "tree/a").write_text("hello")
    done = in_namespace(installed, volumes, r"""
mount -t altitude "dir:$PLACE/tree" mnt -o filter=stats,noatime,noexec,x-systemd.automount
cat mnt/a; echo
kind "$PLACE/mnt"
"$ALTITUDE" instances "$PLACE/mnt"
findmnt -n -o OPTIONS --mountpoint "$PLACE/mnt"
server=$("$ALTITUDE" volumes --json | sed -n "/$(basename "$PLACE")/,/pid/s/.*\"pid\": \([0-9]*\).*/\1/p")
umount mnt
kind "$PLACE/mnt"
tail --pid="$server" -f /dev/null
""")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["hello", "fuse.altitude"]
    assert lines[3].split()[0] == "stats"
    assert "noexec" in lines[4].split(",") and len(lines) == 5


@root_only
def test_fstab_lines_are_mounted_once(installed, volumes):
    (volumes / "tree/a").write_text("hello")
    (volumes / "with blank").mkdir()
    (volumes / "fstab").write_text(
        f"dir:{volumes}/tree {volumes}/mnt altitude filter=stats,filter=null@5,nofail,_netdev,x-systemd.automount,x-systemd.requires=a.service 0 0\n"
        f"mem: {volumes}/with\\040blank altitude noauto,ro,user,comment=x 0 0\n")
    done = in_namespace(installed, volumes, r"""
mount -T fstab -a
mount -T fstab -a
count "$PLACE/mnt"
cat mnt/a; echo
"$ALTITUDE" instances --json "$PLACE/mnt" | grep -c '"altitude"'
kind "$PLACE/with blank"
mount -T fstab "$PLACE/with blank"
kind "$PLACE/with blank"
touch "with blank/x" 2>&1 || true
umount "$PLACE/with blank"
umount mnt
""")
    assert done.stdout.splitlines() == ["1", "hello", "2", "fuse.altitude",
                                        "touch: cannot touch 'with blank/x': Read-only file system"]
    assert [line for line in done.stderr.splitlines() if "(hint)" not in line and "systemctl daemon-reload" not in line] == []


@root_only
def test_a_subtype_is_the_file_system_and_fake_mounts_nothing(installed, volumes):
    (volumes / "tree/a").write_text("hello")
    done = in_namespace(installed, volumes, r"""
mount -f -v -t altitude mem: mnt
count "$PLACE/mnt"
mount -t altitude.dir "$PLACE/tree" mnt
cat mnt/a
umount mnt
""")
    assert done.stdout.endswith("\n0\nhello") and f"{installed.cli} mount -- mem: {volumes}/mnt" in done.stdout


@root_only
def test_mount_8_reaches_another_mount_namespace(installed, volumes):
    done = in_namespace(installed, volumes, r"""
unshare --mount --propagation private sleep 1000 &
other=$!
while [ "$(readlink /proc/$other/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do :; done
mount -N $other -t altitude mem: "$PLACE/mnt"
count "$PLACE/mnt"
nsenter --mount=/proc/$other/ns/mnt grep -c " $PLACE/mnt " /proc/self/mountinfo
nsenter --mount=/proc/$other/ns/mnt umount "$PLACE/mnt"
kill $other
""")
    assert done.stdout.splitlines() == ["0", "1"]


@root_only
@pytest.mark.parametrize("command,code,says", [
    ("mount -t altitude mem: mnt -o filter=nosuch", 32, "unknown filter 'nosuch'"),
    ("mount -t altitude mem: mnt -o bogus", 32, "file system 'mem' has no option 'bogus'"),
    ("mount -t altitude mem mnt", 1, "'mem' is not FS:ARG"),
    ("mount -t altitude mem: mnt -o remount", 1, "cannot be remounted"),
    ("/sbin/mount.altitude mem:", 1, "needs FS:ARG DIR"),
    ("/sbin/mount.altitude mem: mnt -x", 1, "'-x' is not an option"),
    ("/sbin/mount.altitude mem: mnt -o", 1, "needs a value"),
])
def test_mount_8_tells_what_was_wrong(installed, volumes, command, code, says):
    done = in_namespace(installed, volumes, command, check=False)
    assert done.returncode == code
    assert says in done.stderr.splitlines()[0]


def test_the_helper_runs_as_an_ordinary_command(installed, volumes):
    """What a user's line in fstab runs: mount(8) drops its rights before."""
    run(installed.helper, "mem:", volumes / "mnt", "-o", "rw,noexec,nosuid,nodev,user=me")
    (volumes / "mnt/a").write_text("x")
    installed.altitude("unmount", volumes / "mnt")


FILTERS_KNOWN = {
    "bash": '. "$1/share/bash-completion/completions/altitude"; _altitude_filters',
    "zsh": 'compadd() { shift; print -l -- ${(P)2:-${(P)1}}; }; compdef() { :; }\n'
           '. <(sed "s/^_altitude \\"\\$@\\"//" "$1/share/zsh/site-functions/_altitude"); _altitude_filters',
    "fish": 'source $argv[1]/share/fish/vendor_completions.d/altitude.fish; __altitude_filters',
}


@pytest.mark.parametrize("shell", FILTERS_KNOWN)
def test_completion_finds_the_registry_of_its_prefix(installed, shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    path = f"{installed.prefix}/bin:{PLAIN['PATH']}"
    name = ["bash"] if shell != "fish" else []
    found = run(shell, "-c", FILTERS_KNOWN[shell], *name, installed.prefix, env=dict(PLAIN, PATH=path, HOME="/nonexistent")).stdout
    assert "content_screener" in found.split()
