# SPDX-License-Identifier: MIT
"""passthrough sees everything go down and come up again, and nothing is different for it."""
import fcntl
import importlib.util
import os
import sys

import pytest

fixtures = sys.modules["altitude_fixtures"]
_spec = importlib.util.spec_from_file_location("posix_calls", fixtures.ROOT / "tests/posix/calls.py")
calls = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(calls)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_the_same_answers_with_and_without(mount, fs, seed):
    # Without it, the kernel would write to dir's files by itself; who writes is what is compared here.
    without, within = mount(fs, passthrough="no"), mount(fs, "passthrough")
    differences = calls.compare(without.mnt, within.mnt, calls.generate(seed, 20, 60))
    assert not differences, f"seed {seed}\n" + "\n".join(differences)
    counts = within.report("passthrough")
    assert counts["pre"][0] > 1000


def test_what_went_down_comes_up(mount):
    volume = mount("mem:", "passthrough")
    for number in range(20):
        (volume.mnt / f"f{number}").write_text("x")
        assert (volume.mnt / f"f{number}").read_text() == "x"
    released = volume.stats()["operations"]
    fixtures.until("each file that was opened is released",
                   lambda: volume.stats()["operations"]["release"] == released["create"] + released["open"])
    counts = volume.report("passthrough")
    operations = volume.stats()["operations"]
    assert counts["pre"] == counts["post"] == [sum(operations.values())]
    assert counts["drained"] == [0]


def child(work):
    """A process that does work(): its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def test_a_detach_waits_for_what_is_below_and_its_post_runs_as_usual(mount):
    volume = mount("mem:", "passthrough@370100", "delay:op=mkdir:ms=86400000")
    caller = child(lambda: os.mkdir(volume.mnt / "d"))
    fixtures.until("mkdir is parked", lambda: volume.report("delay")["delayed"] == [1])
    leaver = child(lambda: volume.detach("passthrough"))
    fixtures.until("no operation comes to it any more", lambda: [one["instance"] for one in volume.instances()] == ["delay"])
    assert os.waitpid(leaver, os.WNOHANG) == (0, 0)
    assert os.waitpid(caller, os.WNOHANG) == (0, 0)
    volume.detach("delay")
    for pid in (caller, leaver):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (volume.mnt / "d").is_dir()


def test_a_wait_without_end_does_not_hold_a_detach(mount):
    """Who waits for a lock may wait for ever: the post is drained, and the caller waits on without the filter."""
    volume = mount("dir:", "passthrough")
    (volume.tree / "f").write_text("x")

    def wait():
        with open(volume.mnt / "f", "r+") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)

    with open(volume.mnt / "f", "r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        before = volume.stats()["operations"]["setlk"]
        caller = child(wait)
        fixtures.until("the second lock was asked for", lambda: volume.stats()["operations"]["setlk"] == before + 1)
        volume.detach("passthrough")
        assert volume.instances() == []
        assert os.waitpid(caller, os.WNOHANG) == (0, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(caller, 0)[1]) == 0
