# SPDX-License-Identifier: MIT
"""A million changes on both sides of a volume: each side comes to show what the other did, and never shows what never was.

The program is twosided.c. ALTITUDE_SEED=N makes other changes, ALTITUDE_LONG=1 twenty times as many.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

fixtures = sys.modules["altitude_fixtures"]
PROGRAM = fixtures.BUILD / "tests" / "twosided"
SEED = int(os.environ.get("ALTITUDE_SEED", 1))
TIMES = 20 if os.environ.get("ALTITUDE_LONG") else 1
TOGETHER = ["-p", "-b", "4000"]         # two processes at the same time
ALONE = ["-b", "1"]                     # one process: every change is compared
BATCHES = ["-b", "20"]
# where, filters, options, how, changes
VARIANTS = {
    "tmpfs": ("tmpfs", [], {}, TOGETHER, 676000),
    "disk": ("disk", [], {}, TOGETHER, 24000),
    "tmpfs-cached": ("tmpfs", [], {"passthrough": "no"}, TOGETHER, 120000),
    "disk-cached": ("disk", [], {"passthrough": "no"}, TOGETHER, 20000),
    "unwatched": ("tmpfs", [], {"watch": "no"}, TOGETHER, 40000),
    "no-lifetime": ("tmpfs", [], {"ttl_ms": "0"}, TOGETHER, 40000),
    "stats": ("tmpfs", ["stats"], {}, TOGETHER, 40000),
    "filter": ("disk", ["passthrough"], {}, TOGETHER, 20000),
    "batches": ("disk", [], {}, BATCHES, 8000),
    "batches-cached": ("tmpfs", [], {"passthrough": "no"}, BATCHES, 7000),
    "each": ("disk", [], {}, ALONE, 2000),
    "each-tmpfs": ("tmpfs", [], {}, ALONE, 1000),
    "each-cached": ("disk", [], {"passthrough": "no"}, ALONE, 1000),
    "each-unwatched": ("tmpfs", [], {"watch": "no"}, ALONE, 500),
    "each-stats": ("tmpfs", ["stats"], {}, ALONE, 500),
}

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="build/tests/twosided is not built")


@pytest.fixture
def tree(tmp_path):
    """tree("disk") or tree("tmpfs"): a new directory there."""
    made = []

    def make(kind):
        if kind == "disk":
            made.append(tmp_path / "below")
            made[-1].mkdir()
            return made[-1]
        shown = subprocess.run(["stat", "-f", "-c", "%T", "/dev/shm"], stdout=subprocess.PIPE, text=True).stdout
        if shown.strip() != "tmpfs":
            pytest.skip("/dev/shm is no tmpfs")
        made.append(pathlib.Path(tempfile.mkdtemp(prefix="altitude-", dir="/dev/shm")))
        return made[-1]

    yield make
    for path in made:
        subprocess.run(["rm", "-rf", path])     # directories get deeper than Python's own can go


def twosided(volume, count, *how):
    return subprocess.run([PROGRAM, *how, volume.tree, volume.mnt, str(SEED), str(count)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_variants_are_a_million():
    assert sum(count for *_, count in VARIANTS.values()) == 1000000


@pytest.mark.parametrize("where,filters,options,how,count", VARIANTS.values(), ids=VARIANTS)
def test_both_sides_come_to_show_the_same(mount, tree, where, filters, options, how, count):
    volume = mount(f"dir:{tree(where)}", *filters, **options)
    count *= TIMES
    done = twosided(volume, count, *how)
    assert done.returncode == 0, f"{done.stderr}\n{volume.said()}"
    numbers = {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}
    print(numbers)
    assert numbers["changes"] == count
    batch = int(how[-1])
    assert numbers["compared"] == count // batch + (how is TOGETHER)
    if how is TOGETHER:
        assert numbers["looks"] > 10
        assert numbers["stale"] < count / 200
    if options.get("watch") == "no" and how is ALONE:
        assert numbers["at_once"] == numbers["compared"], "nothing is remembered, so nothing may be late"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
def test_both_sides_come_to_show_the_same_to_an_ordinary_user(tmp_path):
    done = fixtures.tests_as_user(tmp_path, "tests/exact/test_twosided.py")
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert done.stdout.count("PASSED ") == len(VARIANTS) + 3


@pytest.mark.parametrize("how", [ALONE, ["-p", "-b", "100"]], ids=["alone", "together"])
def test_a_side_that_stays_wrong_is_found(mount, tree, how):
    """
    The program itself: names and attributes are remembered here, and nobody hears of what is done below. What is wrong may be
    right again by the next change, so it is looked at often.
    """
    volume = mount(f"dir:{tree('disk')}", watch="no", ttl_ms="1000000")
    done = twosided(volume, 80000, "-s", "1", *how)
    assert done.returncode == 1, done.stdout
    if how is ALONE:
        assert f"seed {SEED}, change " in done.stderr and "after 1 s still" in done.stderr, done.stderr
        assert "the last changes:" in done.stderr
