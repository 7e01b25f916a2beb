# SPDX-License-Identifier: MIT
"""Who of the herd serves: one alone while one CPU asks, others when they are needed, and what nobody waits for last."""
import os
import pathlib
import subprocess
import sys
import threading

import pytest

fixtures = sys.modules["altitude_fixtures"]
ENDLESS = 3600000
CPUS = sorted(os.sched_getaffinity(0))[:2]

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="one CPU has one thread")


def herd(pid):
    """{cpu: [status files]} of the threads that are pinned to one."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            cpus = os.sched_getaffinity(int(task.name))
        except ProcessLookupError:
            continue
        if len(cpus) == 1:
            found.setdefault(cpus.pop(), []).append(task / "status")
    return found


def woken(status):
    """How often a thread went to sleep so far."""
    return int(next(line for line in status.read_text().splitlines() if line.startswith("voluntary")).split()[1])


@pytest.fixture
def client():
    """client(path): many requests. Where this thread runs is as before afterwards."""
    before = os.sched_getaffinity(0)

    def ask(path):
        for _ in range(1000):
            os.stat(path)
    yield ask
    os.sched_setaffinity(0, before)


def sleeps_through(pid, cpu, ask, path):
    """Whether the threads of a CPU are left alone while many requests are served."""
    others = herd(pid).get(cpu, [])         # none: it has just been started
    before = [woken(status) for status in others]
    ask(path)
    return others and all(woken(status) - b < 100 for status, b in zip(others, before))


def test_others_are_not_woken_for_the_requests_of_one(mount, client):
    volume = mount("mem:", ttl_ms=0)
    (volume.mnt / "f").write_text("x")
    for mine, other in [CPUS, CPUS[::-1], CPUS]:
        os.sched_setaffinity(0, {mine})
        fixtures.until(f"CPU {other} sleeps", lambda: sleeps_through(volume.pid, other, client, volume.mnt / "f"))


def test_who_serves_alone_is_replaced_when_something_holds_it(mount, client):
    """The directory served is a volume that keeps one operation for an hour: whoever asks for it waits inside."""
    below = mount("mem:", f"delay:op=listxattr:ms={ENDLESS}")
    (below.mnt / "f").write_text("x")
    volume = mount(f"dir:{below.mnt}", ttl_ms=0)
    os.sched_setaffinity(0, {CPUS[0]})
    fixtures.until("one serves alone", lambda: sleeps_through(volume.pid, CPUS[1], client, volume.mnt / "f"))
    holds = "import os, sys; os.listxattr(sys.argv[1])"
    held = subprocess.Popen([sys.executable, "-c", holds, volume.mnt / "f"])
    answers = []
    try:
        fixtures.until("it is inside", lambda: client(volume.mnt / "f") or below.report("delay")["delayed"] == [1])
        asker = threading.Thread(target=lambda: answers.append(os.stat(volume.mnt / "f").st_size), daemon=True)
        asker.start()
        asker.join(60)
    finally:
        below.cli("detach", "delay", below.mnt)            # lets it go on
        assert held.wait(60) == 0
    assert answers == [1]


def test_a_release_that_was_put_aside_is_served_while_something_holds_its_thread(mount, client):
    """close(2) and, before the only thread there is has woken on the other CPU, a question that is kept for an hour."""
    below = mount("mem:", f"delay:op=listxattr:ms={ENDLESS}")
    (below.mnt / "f").write_text("x")
    volume = mount(f"dir:{below.mnt}", ttl_ms=0, threads=1)
    holds = """if True:
        import os, sys
        os.sched_setaffinity(0, {int(sys.argv[2])})
        first, second = (os.open(sys.argv[1], os.O_RDONLY) for _ in range(2))
        os.close(first)
        os.listxattr(second)"""
    held = subprocess.Popen([sys.executable, "-c", holds, volume.mnt / "f", str(CPUS[1])])
    try:
        fixtures.until("it is inside", lambda: below.report("delay")["delayed"] == [1])
        fixtures.until("the release is served", lambda: volume.stats()["operations"]["release"] == 1)
        fixtures.until("the file is closed", lambda: volume.stats()["live"]["files"] == 1)
    finally:
        below.cli("detach", "delay", below.mnt)
        assert held.wait(60) == 0
