# SPDX-License-Identifier: MIT
"""Files that passed through leave nothing behind: no descriptor, no node, and nothing that the kernel still holds.

A backing id that was not given back is seen nowhere but in what it holds: the space of a removed file, and the file system
it is on, which cannot be unmounted. So the tree is a tmpfs of its own.
"""
import mmap
import os
import random
import signal
import subprocess
import sys
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
until = fixtures.until
SEED = int(os.environ.get("ALTITUDE_SEED", 1))
WORKERS, ROUNDS = 4, 25
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's volumes pass data through")


@pytest.fixture
def small(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    yield place
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", place], check=True)


def work(top, number):
    """Until killed: files are made, written, mapped, kept open over their end, renamed, removed."""
    rng, kept = random.Random(f"{SEED} {number}"), []
    while True:
        path = top / f"{rng.randrange(6)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.pwrite(fd, b"d" * 50000, 0)
            kept.append((fd, mmap.mmap(fd, 4096) if rng.randrange(2) else None))
            if rng.randrange(2):
                os.rename(path, top / f"{rng.randrange(6)}")
            if rng.randrange(2):
                os.unlink(top / f"{rng.randrange(6)}")
        except (FileNotFoundError, ValueError):
            pass
        while len(kept) > rng.randrange(10):
            fd, mapped = kept.pop(rng.randrange(len(kept)))
            if mapped:
                mapped.close()
            os.close(fd)


def start(top, number):
    pid = os.fork()
    if pid == 0:
        try:
            work(top, number)
        finally:
            os._exit(1)
    return pid


def held(pid):
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split("[")[0] for fd in os.listdir(f"/proc/{pid}/fd"))


def room(place):
    st = os.statvfs(place)
    return st.f_bfree, st.f_ffree


def test_after_work_kills_attaches_and_detaches_nothing_is_held(mount, small):
    volume = mount(f"dir:{small}")
    volume.attach("stats")
    volume.detach("stats")
    before, free = held(volume.pid), room(small)
    workers = [start(volume.mnt, n) for n in range(WORKERS)]
    try:
        for n in range(ROUNDS):
            volume.attach("stats")
            os.kill(workers[n % WORKERS], signal.SIGKILL)      # with whatever it has open and mapped
            _, status = os.waitpid(workers[n % WORKERS], 0)
            assert os.WIFSIGNALED(status), "a worker failed"
            workers[n % WORKERS] = start(volume.mnt, WORKERS + n)
            volume.detach("stats")
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    used = volume.stats()["operations"]
    assert used["create"] > 100 and used["release"] > 100
    for name in os.listdir(volume.mnt):
        os.unlink(volume.mnt / name)
    until("nodes, files and operations are given back",
          lambda: volume.stats()["live"] == {"nodes": 1, "files": 0, "operations": 0})
    until("descriptors are closed", lambda: held(volume.pid) == before)
    until("the kernel holds no file below", lambda: room(small) == free)
    assert volume.attach("stats").stderr == "", "files pass by that nobody has open"
    assert volume.unmount() == 0
    subprocess.run(["umount", small], check=True)               # busy as long as anything of it is held


def test_an_unmount_in_the_middle_of_it_leaves_nothing(mount, small):
    volume = mount(f"dir:{small}")
    workers = [start(volume.mnt, n) for n in range(WORKERS)]
    until("the workers work", lambda: volume.stats()["operations"]["create"] > 50)
    subprocess.run(["umount", "-l", volume.mnt], check=True)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert volume.server.wait(20) == 0
    subprocess.run(["umount", small], check=True)
