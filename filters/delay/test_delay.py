# SPDX-License-Identifier: MIT
"""delay parks operations: the time passes, the caller gives up, or the filter goes; nobody waits for anything else."""
import os
import signal
import sys
import time

import pytest

until = sys.modules["altitude_fixtures"].until
DAY = 86400000


@pytest.fixture
def start():
    """start(work): a process that does it; its pid. What is left at the end is killed."""
    pids = []

    def make(work):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.signal(signal.SIGUSR1, lambda *_: None)
                signal.siginterrupt(signal.SIGUSR1, True)
                work()
                code = 0
            except OSError as error:
                code = error.errno
            finally:
                os._exit(code)
        pids.append(pid)
        return pid

    yield make
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def parked(volume, count=1):
    until(f"{count} operations are parked", lambda: volume.report("delay")["delayed"] == [count])


def waits(pid):
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_operation_is_parked_and_others_are_not(mount, start):
    volume = mount("mem:", f"delay:op=mkdir:ms={DAY}:name=slow")
    (volume.mnt / "there").mkdir()             # the kernel keeps the directory of what waits for itself
    pid = start(lambda: os.mkdir(volume.mnt / "there/slow"))
    parked(volume)
    (volume.mnt / "f").write_text("x")
    assert (volume.mnt / "f").read_text() == "x"
    assert sorted(os.listdir(volume.mnt)) == ["f", "there"]
    assert waits(pid) and volume.report("delay") == {"delayed": [1], "cancelled": [0]}


def test_it_goes_on_when_the_time_has_passed(mount):
    volume = mount("mem:", "delay:op=mkdir:ms=80")
    begin = time.monotonic()
    (volume.mnt / "d").mkdir()
    assert time.monotonic() - begin >= 0.08
    assert (volume.mnt / "d").is_dir()
    assert volume.report("delay") == {"delayed": [1], "cancelled": [0]}


def test_each_has_its_own_time(mount, start):
    """One that came later does not wait for one that waits for longer, of another instance, nor the other way round."""
    volume = mount("mem:", f"delay:op=mkdir:ms={DAY}:name=slow")
    volume.cli("attach", "--instance", "short", "delay@1:op=mkdir:ms=20:name=quick", volume.mnt)
    (volume.mnt / "there").mkdir()
    pid = start(lambda: os.mkdir(volume.mnt / "there/slow"))
    parked(volume)
    for _ in range(3):
        (volume.mnt / "quick").mkdir()
        (volume.mnt / "quick").rmdir()
    assert volume.report("short")["delayed"] == [3] and waits(pid)


def test_a_killed_caller_leaves_at_once(mount, start):
    volume = mount("mem:", f"delay:op=mkdir:ms={DAY}")
    pid = start(lambda: os.mkdir(volume.mnt / "d"))
    parked(volume)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    until("it is counted", lambda: volume.report("delay") == {"delayed": [1], "cancelled": [1]})
    volume.detach("delay")
    assert not (volume.mnt / "d").exists()


def test_an_interrupted_caller_is_told_so(mount, start):
    volume = mount("mem:", f"delay:op=create:ms={DAY}")

    def work():
        os.open(volume.mnt / "f", os.O_CREAT | os.O_WRONLY)

    # Python would call again after EINTR: a handler that raises ends that.
    def interrupted():
        def gave_up(*_):
            raise InterruptedError(4, "interrupted")
        signal.signal(signal.SIGUSR1, gave_up)
        work()

    pid = start(interrupted)
    parked(volume)
    os.kill(pid, signal.SIGUSR1)
    assert ended(pid) == 4
    assert volume.report("delay")["cancelled"] == [1]
    volume.detach("delay")
    assert not (volume.mnt / "f").exists()


def test_a_detach_lets_everything_go(mount, start):
    volume = mount("mem:", f"delay:op=mkdir:ms={DAY}")
    pids = [start(lambda n=n: os.mkdir(volume.mnt / f"d{n}")) for n in range(3)]
    # The kernel changes the names of a directory one after the other: one of them is parked, the others wait for it.
    parked(volume)
    volume.detach("delay")
    assert [ended(pid) for pid in pids] == [0, 0, 0]
    assert sorted(os.listdir(volume.mnt)) == ["d0", "d1", "d2"]


def test_many_wait_and_no_thread_is_held(mount, start):
    """As many callers as no pool has threads: each parked, and the volume still serves."""
    volume = mount("mem:", f"delay:op=mkdir:ms={DAY}")
    count = 64
    volume.detach("delay")
    for n in range(count):
        (volume.mnt / f"p{n}").mkdir()
    (volume.mnt / "f").write_text("x")
    volume.attach(f"delay:op=mkdir:ms={DAY}")
    before = len(os.listdir(f"/proc/{volume.pid}/task"))
    pids = [start(lambda n=n: os.mkdir(volume.mnt / f"p{n}/d")) for n in range(count)]
    parked(volume, count)
    assert (volume.mnt / "f").read_text() == "x"
    assert len(os.listdir(f"/proc/{volume.pid}/task")) < before + count // 2
    assert all(waits(pid) for pid in pids)
    for pid in pids[::2]:
        os.kill(pid, signal.SIGKILL)
    assert {ended(pid) for pid in pids[::2]} == {-signal.SIGKILL}
    volume.detach("delay")
    assert {ended(pid) for pid in pids[1::2]} == {0}
    assert sorted(n for n in range(count) if (volume.mnt / f"p{n}/d").exists()) == list(range(1, count, 2))


def test_only_names_like_the_pattern_wait(mount, start):
    volume = mount("mem:", f"delay:op=mkdir;unlink:ms={DAY}:name=*.slow")
    (volume.mnt / "quick").mkdir()
    (volume.mnt / "a.slow").touch()
    pid = start(lambda: os.unlink(volume.mnt / "a.slow"))
    parked(volume)
    assert waits(pid)


@pytest.mark.parametrize("options,says", [
    ("", "say which operations"), (":op=", "say which operations"), (":op=raed", "'raed' is no operation"),
    (":op=read:ms=-1", "is not a number"), (":op=read:ms=86400001", "at most 86400000"), (":op=read:sec=1", "no option 'sec'"),
])
def test_options_that_cannot_be_are_told(mount, options, says):
    volume = mount("mem:")
    done = volume.attach(f"delay{options}", check=False)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
    assert volume.instances() == []
