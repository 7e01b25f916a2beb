# SPDX-License-Identifier: MIT
"""Directories with very many names, and servers with few descriptors. ALTITUDE_LONG=1: a million of both."""
import os
import random
import resource

import pytest

LONG = bool(os.environ.get("ALTITUDE_LONG"))
ENTRIES = 1000000 if LONG else 100000
NAMES = 1000000 if LONG else 200000
FOLDER = 1000


def fill(directory, count):
    directory.mkdir(exist_ok=True)
    here = os.open(directory, os.O_PATH)
    for n in range(count):
        os.mknod(f"f{n}", 0o100644, dir_fd=here)
    os.close(here)


@pytest.mark.parametrize("fs,filters", [("dir:", ()), ("mem:", ("stats", "passthrough"))], ids=["dir", "mem"])
def test_a_listing_goes_on_while_the_directory_changes(mount, fs, filters):
    """What stays is told once, whatever comes and goes meanwhile."""
    volume = mount(fs, *filters)
    many, rng = volume.mnt / "many", random.Random(1)
    fill((volume.tree or volume.mnt) / "many", ENTRIES)
    removed, seen = set(), []
    with os.scandir(many) as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n % 100:
                continue
            (many / f"new{n}").write_text("")
            os.rename(many / f"new{n}", many / f"newer{n}")
            if n % 200:
                (many / f"newer{n}").unlink()
            gone = f"f{rng.randrange(ENTRIES)}"
            if gone not in removed:
                (many / gone).unlink()
                removed.add(gone)
    assert len(removed) > ENTRIES // 200
    stayed = {f"f{n}" for n in range(ENTRIES)} - removed
    old = [name for name in seen if name.startswith("f")]
    assert len(old) == len(set(old)), "an entry was told twice"
    assert stayed <= set(old), f"{len(stayed - set(old))} entries were not told"
    now = os.listdir(many)
    assert len(now) == len(set(now)) and not removed & set(now) and stayed <= set(now)


def test_names_that_are_known_cost_no_descriptors(mount):
    """The kernel remembers each of them; the server has 1024 descriptors at most, and serves them all."""
    volume = mount("dir:")
    resource.prlimit(volume.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    for n in range(NAMES // FOLDER):
        fill(volume.tree / f"d{n}", FOLDER)
    known = 0
    for n in range(NAMES // FOLDER):
        with os.scandir(volume.mnt / f"d{n}") as entries:
            known += sum(entry.stat().st_nlink for entry in entries)
    assert known == NAMES
    assert len(os.listdir(f"/proc/{volume.pid}/fd")) < 1024
    rng = random.Random(1)
    for _ in range(500):
        path = f"d{rng.randrange(NAMES // FOLDER)}/f{rng.randrange(FOLDER)}"
        (volume.mnt / path).write_text(path)
        assert (volume.tree / path).read_text() == path
    held = [os.open(volume.mnt / f"d{n % (NAMES // FOLDER)}" / f"f{n}", os.O_RDWR) for n in range(300)]
    for n, fd in enumerate(held):
        os.pwrite(fd, b"%d" % n, 0)
    for n, fd in enumerate(held):
        assert os.pread(fd, 100, 0).startswith(b"%d" % n)
        os.close(fd)
