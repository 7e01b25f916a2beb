# SPDX-License-Identifier: MIT
"""`place`: a directory, a runtime directory and a command line of its own; whatever a server leaves behind is a failure.

    def test_ends(place):
        server = place.serve()
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
"""
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]


def mount_lines(under):
    """mountinfo's lines, split, of what is mounted at or below a path."""
    top = str(under)
    with open("/proc/self/mountinfo") as lines:
        split = [line.split() for line in lines]
    return [line for line in split if line[4] == top or line[4].startswith(top + "/")]


def until(what, condition, seconds=30):
    """Wait for an event that nobody announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.02)


class Place:
    until = staticmethod(until)

    def __init__(self, path):
        self.path = path
        self.runtime = pathlib.Path(tempfile.mkdtemp(prefix="alt-"))   # short: a socket's path has 107 bytes
        self.env = dict(fixtures.ENV, ALTITUDE_RUNTIME=str(self.runtime))
        self.tree, self.mnt = self.directory("tree"), self.directory("mnt")
        (self.tree / "f").write_text("content")
        self.held = []

    def directory(self, name):
        made = self.path / name
        made.mkdir()
        return made

    def cli(self, *args, check=True, timeout=60, **kw):
        done = subprocess.run([str(fixtures.CLI), *map(str, args)], env=self.env, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)
        if check and done.returncode:
            raise AssertionError(f"altitude {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def mount(self, *args, target=None, **kw):
        """In the background: what came back is mounted."""
        return self.cli("mount", *args, f"dir:{self.tree}", target or self.mnt, **kw)

    def serve(self, *args, target=None):
        """In the foreground: the server's process, once the volume is there; its words are in `said`."""
        target = target or self.mnt
        with open(self.path / "said", "ab") as log, open("/proc/self/mountinfo") as info:
            before = len(mount_lines(target))
            changed = select.poll()
            changed.register(info, select.POLLPRI | select.POLLERR)
            info.read()
            server = subprocess.Popen([str(fixtures.CLI), "mount", "--foreground", *map(str, args), f"dir:{self.tree}",
                                       str(target)], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.held.append(server)
            deadline = time.monotonic() + 30
            while len(mount_lines(target)) == before or not (self.runtime / f"{server.pid}.sock").exists():
                assert server.poll() is None, f"the server ended with {server.returncode}: {self.said()}"
                assert time.monotonic() < deadline, f"not mounted: {self.said()}"
                changed.poll(20)
                info.seek(0)
                info.read()
        return server

    def said(self):
        return (self.path / "said").read_text(errors="replace")

    def hold(self, path, *, kind="file", name="sleep"):
        """A process that has something open at path: its Popen, once it has."""
        script = {"file": "exec 9<\"$1\"", "cwd": "cd \"$1\""}[kind]
        process = subprocess.Popen(["bash", "-c", f"{script} && echo held && exec sleep 1000", name, str(path)],
                                   stdout=subprocess.PIPE, text=True)
        self.held.append(process)
        assert process.stdout.readline() == "held\n"
        until("the shell became sleep", lambda: pathlib.Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        return process

    def servers(self):
        """Process numbers of every process that was started with our runtime directory."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                environ = pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"ALTITUDE_RUNTIME=" + os.fsencode(self.runtime) in environ:
                found.append(int(entry))
        return found

    def sockets(self):
        return sorted(entry.name for entry in self.runtime.iterdir())

    def nothing_left(self):
        """No mount, no process, no socket."""
        until("no server is left", lambda: not self.servers())
        assert mount_lines(self.path) == []
        assert self.sockets() == []
        assert list(self.mnt.iterdir()) == []
        assert (self.tree / "f").read_text() == "content"

    def end(self):
        for process in self.held:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        for pid in self.servers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for line in reversed(mount_lines(self.path)):
            subprocess.run(["umount", "-l", line[4].encode().decode("unicode_escape")], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.runtime, ignore_errors=True)


@pytest.fixture
def place(tmp_path):
    if not fixtures.CLI.exists():
        pytest.skip("build/altitude is not built")
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs root and /dev/fuse")
    fixtures.let_through(tmp_path)
    made = Place(tmp_path)
    yield made
    made.end()
