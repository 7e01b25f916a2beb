# SPDX-License-Identifier: MIT
"""How many requests an operation costs, on a directory with the default options: the table below, counted by the server.

Bounds from above: a kernel that asks less is welcome. RELEASE comes after close(2) has returned, and is counted apart.
"""
import io
import os
import subprocess
import sys
import tarfile
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
MIB = 1 << 20
PASSES_THROUGH = pytest.mark.skipif(os.geteuid() != 0, reason="only root's volumes pass data through")


@pytest.fixture
def volume(mount, tmp_path):
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    for n in range(20):
        (tree / "dir" / f"f{n}").write_bytes(b"x" * 4096)
    (tree / "big").write_bytes(bytes(64 * MIB))
    volume = mount(f"dir:{tree}")
    if "not heard of" in volume.said():
        pytest.skip(volume.said().strip())
    (volume.mnt / "big").open("rb").close()
    if os.geteuid() == 0 and "does not pass through" in volume.said():
        pytest.skip(volume.said().strip())
    return volume


def counted(volume, work, opens=0):
    """{operation: requests} of work(), once the releases of what it opened are there as well."""
    def now():
        return volume.stats()["operations"]

    def released(counts):
        return counts.get("release", 0) + counts.get("releasedir", 0)

    before = now()
    work()
    deadline = time.monotonic() + 20
    while released(after := now()) < released(before) + opens:
        assert time.monotonic() < deadline, f"{opens} releases did not come: {after}"
        time.sleep(0.005)
    return {op: n - before.get(op, 0) for op, n in after.items() if n != before.get(op, 0)}


def within(asked, bound, **of):
    """No more than bound in all, RELEASE apart, and no more of each operation than named; no other at all."""
    rest = {op: n for op, n in asked.items() if op not in ("release", "releasedir")}
    assert sum(rest.values()) <= bound, asked
    assert set(rest) <= set(of), asked
    assert all(n <= of[op] for op, n in rest.items()), asked
    return asked


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
def test_an_ordinary_user_asks_for_names_and_attributes_as_seldom(tmp_path):
    done = fixtures.tests_as_user(tmp_path, "tests/exact/test_requests.py")
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert done.stdout.count("PASSED ") == 8


def missing(path):
    assert not os.path.exists(path)


def settled(volume, look):
    """Until the notices of what was done before have come: a look costs nothing."""
    deadline = time.monotonic() + 20
    while counted(volume, look):
        assert time.monotonic() < deadline, "what is looked at is forgotten again and again"


@PASSES_THROUGH
def test_create_and_close_of_a_name_known_to_be_missing(volume):
    path = volume.mnt / "dir" / "new"
    settled(volume, lambda: missing(path))
    asked = counted(volume, lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)), 1)
    within(asked, 2, create=1, lookup=1, getxattr=1)
    assert asked["create"] == 1 and asked["release"] == 1


@PASSES_THROUGH
def test_open_write_and_close_again_and_again(volume):
    path = volume.mnt / "dir" / "f0"

    def work():
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"y" * 4096)
        os.close(fd)

    counted(volume, work, 1)        # the first asks for security.capability
    for _ in range(5):
        within(counted(volume, work, 1), 1, open=1)


@PASSES_THROUGH
def test_a_hundred_small_writes(volume):
    fd = os.open(volume.mnt / "dir" / "f0", os.O_WRONLY)

    def work():
        for n in range(100):
            os.pwrite(fd, b"z" * 100, n * 100)

    within(counted(volume, work), 1, getxattr=1)
    os.close(fd)


@PASSES_THROUGH
def test_open_read_and_close_of_what_is_known(volume):
    path = volume.mnt / "dir" / "f1"

    def work():
        fd = os.open(path, os.O_RDONLY)
        assert os.read(fd, 8192) == b"x" * 4096
        os.close(fd)

    counted(volume, work, 1)
    for _ in range(5):
        within(counted(volume, work, 1), 1, open=1)


def test_a_name_that_is_not_there_is_asked_for_once(volume):
    path = volume.mnt / "dir" / "nothing"
    os.stat(path.parent)
    assert counted(volume, lambda: [missing(path) for _ in range(100)]) == {"lookup": 1}


def test_attributes_of_what_is_known(volume):
    path = volume.mnt / "dir" / "f2"
    os.stat(path)
    assert counted(volume, lambda: [os.stat(path) for _ in range(100)]) == {}


def test_the_second_listing(volume):
    path = volume.mnt / "dir"
    wanted = sorted(f"f{n}" for n in range(20))

    def work():
        assert sorted(os.listdir(path)) == wanted

    counted(volume, work, 1)
    counted(volume, work, 1)
    assert counted(volume, work, 1) == {"opendir": 1, "releasedir": 1}


FOLDERS = [f"many{n:02}" for n in range(20)]
FILES = [f"f{n}" for n in range(40)]


@pytest.fixture
def many(mount, tmp_path):
    """Directories that nobody has listed yet."""
    for folder in FOLDERS:
        (tmp_path / "tree" / folder).mkdir(parents=True)
        for name in FILES:
            (tmp_path / "tree" / folder / name).touch()
    volume = mount(f"dir:{tmp_path / 'tree'}")
    if "not heard of" in volume.said():
        pytest.skip(volume.said().strip())
    return volume


def listed(volume, folders):
    for folder in folders:
        assert sorted(os.listdir(volume.mnt / folder)) == sorted(FILES)


def looked(volume, folders):
    for folder in folders:
        for name in FILES:
            os.lstat(volume.mnt / folder / name)


def test_listings_for_the_names_bring_no_attributes(many):
    counted(many, lambda: listed(many, FOLDERS), len(FOLDERS))
    assert counted(many, lambda: os.lstat(many.mnt / FOLDERS[-1] / FILES[0])) == {"lookup": 1}


def test_listings_bring_attributes_once_they_are_asked_for(many):
    def work():
        for folder in FOLDERS:
            listed(many, [folder])
            looked(many, [folder])

    asked = counted(many, work, len(FOLDERS))
    assert asked["lookup"] - len(FOLDERS) <= 3 * len(FILES), asked


def test_a_kept_listing_is_asked_for_again_with_attributes_that_are_wanted(many):
    some = FOLDERS[:5]

    counted(many, lambda: listed(many, some), len(some))
    looked(many, some[:1])
    again = counted(many, lambda: listed(many, some), len(some))
    assert again["opendir"] == len(some) and again["readdir"] >= len(some) - 1, again
    assert counted(many, lambda: looked(many, some)).keys() <= {"getattr"}
    counted(many, lambda: listed(many, some), len(some))
    assert counted(many, lambda: listed(many, some), len(some)) == {"opendir": len(some), "releasedir": len(some)}


def test_rename(volume):
    settled(volume, lambda: (os.stat(volume.mnt / "dir" / "f3"), missing(volume.mnt / "dir" / "other")))
    asked = counted(volume, lambda: os.rename(volume.mnt / "dir" / "f3", volume.mnt / "dir" / "other"))
    within(asked, 2, rename=1, lookup=1)


def test_unlink(volume):
    settled(volume, lambda: os.stat(volume.mnt / "dir" / "f4"))
    within(counted(volume, lambda: os.unlink(volume.mnt / "dir" / "f4")), 2, unlink=1, lookup=1)


@PASSES_THROUGH
def test_64_mib_pass_through(volume):
    piece = b"p" * MIB
    fd = os.open(volume.mnt / "big", os.O_RDWR)

    def read():
        for n in range(64):
            assert len(os.pread(fd, MIB, n * MIB)) == MIB

    def write():
        for n in range(64):
            assert os.pwrite(fd, piece, n * MIB) == MIB

    assert counted(volume, read) == {}
    within(counted(volume, write), 1, getxattr=1)
    os.close(fd)
    with open(volume.tree / "big", "rb") as below:
        assert all(below.read(MIB) == piece for _ in range(64))


@PASSES_THROUGH
def test_untar(volume):
    """Eight requests for each file, and the RELEASE.

    A name nobody asked for is looked up and created. Then the kernel asks for security.capability twice: before the first
    write, as nobody tells it that a new file has none, and before the change of owner, which takes it away; no flag of FUSE
    spares these (HANDLE_KILLPRIV_V2 spares those before the writes that follow). What tar itself does comes through: owner,
    mode and time are a SETATTR each, and one GETATTR because what was written changed the size.
    """
    count = 200
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for n in range(count):
            info = tarfile.TarInfo(f"t{n}")
            info.size, info.mode, info.mtime = 1000, 0o644, 1000000000
            tar.addfile(info, io.BytesIO(b"t" * 1000))
    place = volume.mnt / "untarred"
    place.mkdir()
    asked = counted(volume, lambda: subprocess.run(["tar", "-x", "-C", place, "-f", "-"], input=archive.getvalue(),
                                                   check=True), count)
    assert asked["create"] == asked["release"] == count
    within(asked, 8 * count + 10, lookup=count + 5, create=count, getxattr=2 * count, setattr=3 * count, getattr=count + 5,
           opendir=5)
    assert all((volume.tree / "untarred" / f"t{n}").read_bytes() == b"t" * 1000 for n in range(count))
