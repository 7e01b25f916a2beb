# SPDX-License-Identifier: MIT
"""flock, fcntl and open-file-description locks between processes: who waits is served in the end, or killed at any time."""
import errno
import fcntl
import os
import pathlib
import random
import select
import signal
import struct
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


RECORD = "hhqqi4x"
TRIES = 400


def ranges(path, seed):
    """What two processes are told that lock, unlock and ask about ranges of one file in turn: the same list for the same seed."""
    pipes = [(os.pipe(), os.pipe()) for _ in range(2)]
    children = []
    for (r, _), (_, w) in pipes:
        pid = os.fork()
        if pid == 0:
            try:
                serve_ranges(path, r, w)
            finally:
                os._exit(1)
        children.append(pid)
    rng, answers = random.Random(seed), []
    for _ in range(TRIES):
        who, start = rng.randrange(2), rng.randrange(40)
        call = (rng.choice(["set", "set", "set", "ask"]), rng.choice([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]), start,
                rng.choice([0, 1, 2, 5, 10, 30]))
        if call[0] == "ask" and call[1] == fcntl.F_UNLCK:
            continue
        os.write(pipes[who][0][1], repr(call).encode().ljust(100))
        answers.append((who, call, eval(os.read(pipes[who][1][0], 200))))
    for pid, ((r, w), (told, tell)) in zip(children, pipes):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (r, w, told, tell):
            os.close(fd)
    names = {pid: n for n, pid in enumerate(children)}
    return [(who, call, {**said, "pid": names.get(said["pid"], said["pid"])} if isinstance(said, dict) else said)
            for who, call, said in answers]


def serve_ranges(path, r, w):
    fd = os.open(path, os.O_RDWR)
    while asked := os.read(r, 100):
        what, kind, start, length = eval(asked)
        try:
            said = fcntl.fcntl(fd, fcntl.F_SETLK if what == "set" else fcntl.F_GETLK,
                               struct.pack(RECORD, kind, os.SEEK_SET, start, length, 0))
            kind, _, start, length, pid = struct.unpack(RECORD, said)
            answer = "done" if what == "set" else "free" if kind == fcntl.F_UNLCK else {
                "kind": kind, "start": start, "length": length, "pid": pid}
        except OSError as error:
            answer = errno.errorcode[error.errno]
        os.write(w, repr(answer).encode())


@pytest.mark.parametrize("seed", range(5))
def test_ranges_are_locked_byte_by_byte_as_natively(volume, tmp_path, seed):
    """Cut, split, joined, upgraded; and who asks is told which range is in the way, and whose it is."""
    (tmp_path / "native").write_bytes(bytes(100))
    want = ranges(tmp_path / "native", seed)
    have = ranges(volume.mnt / "f", seed)
    assert sum(isinstance(said, dict) for *_, said in want) > 10 and sum(said == "EAGAIN" for *_, said in want) > 10
    for n, (a, b) in enumerate(zip(want, have)):
        assert told(a) == told(b), f"call {n}: native {a}, here {b}"


def told(step):
    """Which of several ranges in the way is told is the file system's choice, and one may be told in parts: that there is one,
    and of whom, is not."""
    who, call, said = step
    return (who, call, {"pid": said["pid"]}) if isinstance(said, dict) else step


@pytest.mark.parametrize("asked", [(0, 0), (3, 5), (5, 10), (14, 1), (90, 0)])
def test_who_is_in_the_way_is_told_with_the_range(volume, asked):
    """Of one lock of one other there is no choice."""
    start, length = asked
    holder = subprocess.Popen([sys.executable, "-c", "import fcntl, struct, sys\nf = open(sys.argv[1], 'r+')\n"
                               "fcntl.fcntl(f, fcntl.F_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 5, 10, 0))\n"
                               "print('has', flush=True)\nsys.stdin.read()", volume.mnt / "f"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"has\n"
    fd = os.open(volume.mnt / "f", os.O_RDWR)
    said = struct.unpack(RECORD, fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(RECORD, fcntl.F_WRLCK, 0, start, length, 0)))
    expected = start < 15 and (not length or start + length > 5)
    assert said == ((fcntl.F_WRLCK, 0, 5, 10, holder.pid) if expected else (fcntl.F_UNLCK, 0, start, length, 0))
    os.close(fd)
    holder.communicate()


def test_shared_flocks_are_shared(volume):
    fds = [os.open(volume.mnt / "f", os.O_RDWR) for _ in range(3)]
    below = os.open(volume.tree / "f", os.O_RDWR)
    for fd in fds[:2] + [below]:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fds[2], fcntl.LOCK_EX | fcntl.LOCK_NB)
    for fd in (fds[0], fds[1], below):
        os.close(fd)
    fcntl.flock(fds[2], fcntl.LOCK_EX)
    os.close(fds[2])


def test_any_close_by_its_owner_drops_a_range(volume, locker):
    """Of a file on which a lock was asked for before: the kernel then tells of each close."""
    first = locker("posix")
    assert first.answer("lock") == "done" and first.answer("unlock") == "done"
    one, two = (os.open(volume.mnt / "f", os.O_RDWR) for _ in range(2))
    fcntl.fcntl(one, fcntl.F_SETLK, struct.pack(RECORD, fcntl.F_WRLCK, 0, 0, 10, 0))
    assert locker("posix").answer("try") == locker("posix", volume.tree / "f").answer("try") == "busy"
    os.close(two)
    again = locker("posix")
    assert again.answer("try") == "done" and again.answer("unlock") == "done"
    assert locker("posix", volume.tree / "f").answer("try") == "done"
    os.close(one)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_closed_for_good_holds_no_lock(volume, kind):
    """Through an early open as well, of whose closes nobody tells: while another has the file open."""
    other = os.open(volume.mnt / "f", os.O_RDONLY)
    with subprocess.Popen([sys.executable, "-c", LOCKER, kind, volume.mnt / "f"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        process.stdin.write("lock\n")
        process.stdin.close()
        assert process.stdout.read().split() == ["ready", "done"]
    below = os.open(volume.tree / "f", os.O_RDWR)
    deadline = time.monotonic() + 20            # it is released after the process has ended
    while True:
        try:
            if kind == "flock":
                fcntl.flock(below, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.fcntl(below, fcntl.F_SETLK, struct.pack(RECORD, fcntl.F_WRLCK, 0, 0, 10, 0))
            break
        except BlockingIOError:
            assert time.monotonic() < deadline, "a lock stays"
            time.sleep(0.01)
    os.close(below)
    os.close(other)
