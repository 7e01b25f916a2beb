# SPDX-License-Identifier: MIT
"""A million random operations through stacks of filters: every byte that is read is the one that was written.

Two exercisers work on each volume at a time. What is in the backing directory is compared as well; a stack with rot13
has it turned there. ALTITUDE_SEED=N tries other operations.
"""
import itertools
import os
import subprocess
import sys
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
PROGRAM = fixtures.BUILD / "tests" / "exerciser"
SEED = int(os.environ.get("ALTITUDE_SEED", 1))
SLOW = ["activity_monitor", "stats", "delay:op=read;write;fallocate;open:ms=0", "content_screener:content=never written",
        "rot13"]
FILTERS = ["null", "passthrough", "stats", "activity_monitor", "rot13"]
# file system, filters, operations: a million in all.
VARIANTS = [
    ("dir:", [], 250000),
    ("dir:", ["rot13"], 150000),
    ("dir:", FILTERS, 120000),
    ("dir:", SLOW, 80000),
    ("mem:", [], 200000),
    ("mem:", FILTERS, 60000),
    ("mem:", SLOW, 40000),
]
BUSY = 100000

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="build/tests/exerciser is not built")


@pytest.fixture
def start(mount):
    """start(directory, seed, count): an exerciser in a new directory. None outlives its test."""
    started = []

    def make(directory, seed, count, below=None, turned=False):
        directory.mkdir()
        flags = (["-b", below] if below else []) + (["-r"] if turned else [])
        started.append(subprocess.Popen([PROGRAM, *flags, directory, str(seed), str(count)], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    """{operation: (done, lacking)} of an exerciser that found nothing."""
    out, err = process.communicate()
    assert process.returncode == 0, f"exit {process.returncode}\n{err}"
    return {name: (int(done), int(lacking)) for name, done, lacking in map(str.split, out.splitlines())}


def start_two(start, volume, count, turned=False):
    """Two exercisers at a time, each with half of the operations."""
    return [start(volume.mnt / place, SEED * 1000 + number, count // 2, volume.tree and volume.tree / place, turned)
            for number, place in ((1, "work1"), (2, "work2"))]


def everything_done(answers, count, lacking=()):
    """Every kind of operation was really done, but for those named."""
    assert sum(sum(numbers) for answer in answers for numbers in answer.values()) == count
    for answer in answers:
        assert len(answer) == 16
        for name, (done, missed) in answer.items():
            assert (done > 0) == (name not in lacking), f"{name}: {done} done, {missed} lacking"


def test_the_variants_are_a_million():
    assert sum(count for _, _, count in VARIANTS) + BUSY == 1000000


@pytest.mark.parametrize("fs,filters,count", VARIANTS, ids=["dir", "dir-one", "dir-five", "dir-slow", "mem", "mem-five",
                                                            "mem-slow"])
def test_what_is_read_is_what_was_written(mount, start, fs, filters, count):
    volume = mount(fs, *filters)
    assert len(volume.instances()) == len(filters)
    everything_done([finish(process) for process in start_two(start, volume, count, "rot13" in filters)], count)


def test_filters_come_and_go_meanwhile(mount, start):
    """What is open stays as it is for the kernel, and comes to the filters all the same."""
    volume = mount("dir:", "null")
    working = start_two(start, volume, BUSY)
    came = 0
    for name in itertools.cycle(["stats", "passthrough", "delay:op=read;write:ms=0", "activity_monitor"]):
        if all(process.poll() is not None for process in working):
            break
        volume.attach(name)
        volume.detach(name.partition(":")[0])
        came += 1
    everything_done([finish(process) for process in working], BUSY)
    assert came > 20


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_a_wrong_byte_is_found_and_told(mount, start, fs):
    """The exerciser itself: its letters are turned behind its back."""
    volume = mount(fs)
    worker = start(volume.mnt / "work", SEED, 10000000)
    deadline = time.monotonic() + 60
    while not (volume.mnt / "work" / "f4").exists() or not (volume.mnt / "work" / "f4").stat().st_size:
        assert worker.poll() is None and time.monotonic() < deadline, "the exerciser does not work"
    volume.attach("rot13")
    _, said = worker.communicate()
    assert worker.returncode == 1
    for word in (f"seed {SEED}, operation ", "the first at offset ", "expected at", "got      at", "the last operations:"):
        assert word in said, said
    assert 2 <= len(said.split("the last operations:")[1].splitlines()) <= 21


def test_a_wrong_byte_below_is_found(mount, start):
    """rot13 is there, and the exerciser is not told."""
    volume = mount("dir:", "rot13")
    worker = start(volume.mnt / "work", SEED, 200000, volume.tree / "work")
    _, said = worker.communicate()
    assert worker.returncode == 1 and "the file below" in said, said
