# SPDX-License-Identifier: MIT
"""Fixtures for tests on mounted volumes. `mount` makes a volume, and makes sure that it ends well.

    def test_reads(mount):
        volume = mount("mem:", "stats", "delay:ms=1")
        (volume.mnt / "a").write_text("hello")
"""
import fcntl
import json
import os
import pathlib
import shutil
import signal
import select
import socket
import stat
import subprocess
import textwrap
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ALTITUDE_BUILD", ROOT / "build"))
CLI = BUILD / "altitude"
SWITCH = pathlib.Path("/sys/module/fuse/parameters/enable_uring")
ENV = dict(os.environ, ALTITUDE_MODULE_PATH=str(BUILD / "modules"),
           ALTITUDE_REGISTRY=str(BUILD / "modules"),
           LD_LIBRARY_PATH=str(BUILD))


def mounted(path):
    """The mountinfo line of what is mounted at path, or None."""
    wanted = str(path).replace(" ", "\\040")
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            if line.split()[4] == wanted:
                return line
    return None


def until(what, condition, seconds=60):
    """Wait for an event that nobody announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.01)


def run_cli(*args, check=True, timeout=60, **kw):
    done = subprocess.run([str(CLI), *map(str, args)], env=ENV, text=True, errors="surrogateescape",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)
    if check and done.returncode != 0:
        raise AssertionError(f"altitude {' '.join(map(str, args))}: exit {done.returncode}\n"
                             f"{done.stdout}{done.stderr}")
    return done


USER = 12001

# As root in the new namespace: a /dev of our own, a name for the user (fusermount3 asks for it), then the user's script.
# The namespace takes every mount with it. Other volumes are none of its business: it would keep their servers from ending.
PRIVATE = """
set -eu
findmnt -rn -t fuse.altitude -o TARGET | while read -r other; do umount -l "$(printf %b "$other")"; done
mount -t tmpfs -o mode=0755 dev "$1"
for node in fuse:10:229 null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
	IFS=: read -r name major minor <<-END
	$node
	END
	mknod -m 0666 "$1/$name" c "$major" "$minor"
done
mkdir "$1/shm" && chmod 1777 "$1/shm"
ln -s /proc/self/fd "$1/fd"
cp /etc/passwd "$1/passwd"
echo "user:x:USER:USER::/:/bin/bash" >>"$1/passwd"
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1" /dev
exec setpriv --reuid USER --regid USER --clear-groups bash -euo pipefail -c "$2"
""".replace("USER", str(USER))


def user_shell(home, dev, env):
    """run(script): as an ordinary user, where /dev/fuse is open to all; home is the user's, dev an empty directory."""
    helper = shutil.which("fusermount3")
    if not helper or not os.stat(helper).st_mode & stat.S_ISUID:
        pytest.skip("no fusermount3 that may mount (package fuse3)")
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no mount namespaces here")
    env = dict(env, HOME=str(home), TMPDIR=str(home), USER="user", LOGNAME="user", LC_ALL="C.UTF-8",
               PATH=f"{BUILD}:/usr/bin:/bin:/usr/sbin:/sbin")

    def run(script, check=True, timeout=120):
        done = subprocess.run(["unshare", "-m", "--propagation", "private", "bash", "-c", PRIVATE, "private", str(dev),
                               textwrap.dedent(script)], env=env, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    probe = run("altitude --version 2>/dev/null || altitude --help >/dev/null", check=False)
    if probe.returncode:
        pytest.skip(f"another user cannot run {CLI}: {probe.stderr}")
    return run


def tests_as_user(tmp_path, *tests, timeout=500):
    """Run tests of this tree once more, as an ordinary user; returns how pytest ended, having been asked for each result."""
    home, dev = tmp_path / "home", tmp_path / "dev"
    for path in (home, dev):
        path.mkdir()
    os.chown(home, USER, USER)
    let_through(tmp_path)
    run = user_shell(home, dev, dict(ENV, ALTITUDE_RUNTIME=str(home)))
    return run(f"""
        cd {ROOT}
        /usr/bin/python3 -B -m pytest -q -rA -p no:cacheprovider --import-mode=importlib -c tests/pytest.ini --rootdir=. \\
            --confcutdir=. --basetemp="$HOME/t" {" ".join(tests)}
    """, check=False, timeout=timeout)


def let_through(tmp_path):
    """Other users may come to it. Nothing is taken away: with --basetemp one of those above can be /tmp itself."""
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        try:
            os.chmod(path, mode | 0o055)
        except OSError:
            pass


class Volume:
    def __init__(self, fs, mnt, filters, options, log):
        self.fs, self.mnt, self.log = fs, pathlib.Path(mnt), pathlib.Path(log)
        args = [str(CLI), "mount", "--foreground"]
        for name in filters:
            args += ["--filter", name]
        for key, value in options.items():
            args += ["-o", key if value is True else f"{key}={value}"]
        args += [fs, str(mnt)]
        self.output = open(log, "wb")
        # Mounted is not yet ready: the control socket comes after the mount. READY=1 says that both are there.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")                 # a name of the kernel's choice
            notify = "@" + ready.getsockname()[1:].decode()
            self.server = subprocess.Popen(args, env=dict(ENV, NOTIFY_SOCKET=notify), stdin=subprocess.DEVNULL,
                                           stdout=self.output, stderr=subprocess.STDOUT)
            end = os.pidfd_open(self.server.pid)
            try:
                came = select.select([ready, end], [], [], 30)[0]
            finally:
                os.close(end)
            if ready not in came:
                self.server.kill()
                self.server.wait()
                self.abort()
                raise AssertionError(f"{' '.join(args)}: {'ended' if came else 'not ready after 30 s'}, "
                                     f"exit {self.server.returncode}\n{self.said()}")
            assert ready.recv(64) == b"READY=1"

    def said(self):
        return self.log.read_text(errors="replace")

    @property
    def pid(self):
        return self.server.pid

    def cli(self, *args, **kw):
        return run_cli(*args, **kw)

    def attach(self, spec, **kw):
        return run_cli("attach", spec, self.mnt, **kw)

    def detach(self, name, **kw):
        return run_cli("detach", name, self.mnt, **kw)

    def instances(self):
        return json.loads(run_cli("instances", "--json", self.mnt).stdout)

    def stats(self):
        return json.loads(run_cli("stats", "--json", self.mnt).stdout)

    def report(self, instance):
        """What an instance tells `altitude stats`, {first word: the numbers behind it}."""
        lines = self.stats()["lines"]
        own = lines[lines.index(f"[{instance}]") + 1:]
        own = own[:next((n for n, line in enumerate(own) if line.startswith("[")), len(own))]
        return {words[0]: [int(word) for word in words[1:]] for words in map(str.split, own)}

    def unmount(self, timeout=20):
        """Unmount and wait for the server's end; its exit status."""
        if self.server.poll() is None:
            if mounted(self.mnt):
                if subprocess.run(["umount", str(self.mnt)], stderr=subprocess.DEVNULL).returncode != 0:
                    self.server.send_signal(signal.SIGTERM)
            try:
                self.server.wait(timeout)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
                self.abort()
                raise AssertionError(f"the server did not end {timeout} s after the unmount\n{self.said()}")
        self.abort()
        return self.server.returncode

    def abort(self):
        if mounted(self.mnt):
            subprocess.run(["umount", "-l", str(self.mnt)], stderr=subprocess.DEVNULL)
        if not self.output.closed:
            self.output.close()


@pytest.fixture(scope="session")
def altitude():
    """Run the CLI: altitude("filters"), answers a CompletedProcess."""
    if not CLI.exists():
        pytest.skip("build/altitude is not built")
    return run_cli


@pytest.fixture
def mount(tmp_path):
    """Factory: mount(fs_arg, *filters, **options). "dir:" alone gets a directory of its own, volume.tree."""
    if not CLI.exists():
        pytest.skip("build/altitude is not built")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not open to this user")
    let_through(tmp_path)
    made = []

    def make(fs="dir:", *filters, **options):
        number = len(made)
        mnt = tmp_path / f"mnt{number}"
        mnt.mkdir()
        tree = None
        if fs == "dir:":
            tree = tmp_path / f"tree{number}"
            tree.mkdir()
            fs = f"dir:{tree}"
        elif fs.startswith("dir:"):
            tree = pathlib.Path(fs[4:])
        volume = Volume(fs, mnt, filters, options, tmp_path / f"log{number}")
        volume.tree = tree
        made.append(volume)
        return volume

    yield make

    problems = []
    for volume in reversed(made):
        try:
            code = volume.unmount()
            if code != 0:
                problems.append(f"the server of {volume.fs} ended with {code}\n{volume.said()}")
        except AssertionError as error:
            problems.append(str(error))
        if volume.tree and volume.tree.parent == tmp_path:
            shutil.rmtree(volume.tree, ignore_errors=True)
    assert not problems, "\n".join(problems)


@pytest.fixture
def switch():
    """Turns the kernel's switch of transport=uring: switch("Y"). It is as before afterwards."""
    if not SWITCH.exists():
        pytest.skip("this kernel has no fuse-over-io_uring (Linux 6.14)")
    if "liburing" not in subprocess.run(["ldd", BUILD / "libaltitude.so.0"], stdout=subprocess.PIPE, text=True).stdout:
        pytest.skip("built without liburing")
    alone = open(SWITCH)
    fcntl.flock(alone, fcntl.LOCK_EX)    # the machine has one
    before = SWITCH.read_text()

    def turn(value):
        try:
            SWITCH.write_text(value)
        except OSError as error:
            pytest.skip(f"{SWITCH} cannot be set: {error.strerror}")
    yield turn
    SWITCH.write_text(before)
    alone.close()
