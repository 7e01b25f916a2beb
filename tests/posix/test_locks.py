# SPDX-License-Identifier: MIT
"""flock, fcntl and open-file-description locks between processes: who waits is served in the end, or killed at any time."""
import pathlib
import select
import signal
import subprocess
import sys
import time

import pytest

KINDS = ["flock", "posix", "ofd"]
LOCKER = """
import fcntl, os, struct, sys
kind, path = sys.argv[1:3]
fd = os.open(path, os.O_RDWR)
record = lambda type: struct.pack("hhqqi4x", type, os.SEEK_SET, 0, 10, 0)
def lock(wait, type=fcntl.F_WRLCK):
    if kind == "flock":
        return fcntl.flock(fd, (fcntl.LOCK_UN if type == fcntl.F_UNLCK else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    set, set_wait = (fcntl.F_SETLK, fcntl.F_SETLKW) if kind == "posix" else (37, 38)
    fcntl.fcntl(fd, set_wait if wait else set, record(type))
print("ready", flush=True)
for line in sys.stdin:
    try:
        {"lock": lambda: lock(True), "try": lambda: lock(False), "unlock": lambda: lock(True, fcntl.F_UNLCK)}[line.strip()]()
        print("done", flush=True)
    except BlockingIOError:
        print("busy", flush=True)
"""


class Locker:
    """A process of its own with one open file."""

    def __init__(self, kind, path):
        self.process = subprocess.Popen([sys.executable, "-c", LOCKER, kind, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.said() == "ready"

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def said(self):
        return self.process.stdout.readline().strip()

    def answer(self, what):
        self.ask(what)
        return self.said()

    def wait_for_lock(self):
        """Back when the process sleeps in the kernel for the lock's answer."""
        self.ask("lock")
        deadline = time.monotonic() + 30
        while "fuse" not in (where := pathlib.Path(f"/proc/{self.process.pid}/wchan").read_text()) and "request" not in where:
            assert time.monotonic() < deadline and self.process.poll() is None, f"it does not wait, but is in {where}"
            time.sleep(0.01)

    def end(self):
        self.process.kill()
        self.process.communicate()
        return self.process.returncode


@pytest.fixture(params=[(), ("stats", "passthrough")], ids=["bare", "filtered"])
def volume(mount, request):
    made = mount("dir:", *request.param)
    (made.mnt / "f").write_bytes(bytes(100))
    return made


@pytest.fixture
def locker(volume):
    made = []

    def make(kind, path=None):
        made.append(Locker(kind, path or volume.mnt / "f"))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_waiter_holds_up_nobody(volume, locker, kind):
    holder, killed, waiters = locker(kind), locker(kind), [locker(kind) for _ in range(3)]
    assert holder.answer("lock") == "done"
    waiters[0].wait_for_lock()
    killed.wait_for_lock()
    for one in waiters[1:]:
        one.wait_for_lock()
    assert killed.end() == -signal.SIGKILL
    (volume.mnt / "other").write_text("served meanwhile")
    assert (volume.mnt / "other").read_text() == "served meanwhile"
    assert locker(kind).answer("try") == "busy"
    assert holder.answer("unlock") == "done"
    left = list(waiters)
    while left:
        turn = next_with_answer(left)
        assert turn.said() == "done"
        assert locker(kind).answer("try") == "busy"
        assert turn.answer("unlock") == "done"
        left.remove(turn)
    assert locker(kind).answer("try") == "done"


def next_with_answer(lockers):
    ready, _, _ = select.select([one.process.stdout for one in lockers], [], [], 60)
    assert len(ready) == 1, f"{len(ready)} have the lock"
    return next(one for one in lockers if one.process.stdout is ready[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_holder_lets_the_waiter_go_on(locker, kind):
    holder, waiter = locker(kind), locker(kind)
    assert holder.answer("lock") == "done"
    waiter.wait_for_lock()
    assert holder.end() == -signal.SIGKILL
    assert waiter.said() == "done"


@pytest.mark.parametrize("kind", KINDS)
def test_locks_hold_against_those_below(volume, locker, kind):
    above, below = locker(kind), locker(kind, volume.tree / "f")
    assert above.answer("lock") == "done"
    assert below.answer("try") == "busy"
    assert above.answer("unlock") == "done"
    assert below.answer("try") == "done"
    assert above.answer("try") == "busy"
