# SPDX-License-Identifier: MIT
"""No write slips past a filter that asked for data, though data passes through where nobody did."""
import mmap
import os
import pathlib
import random
import shutil
import subprocess
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
CC = os.environ.get("CC", "cc")
SEED = int(os.environ.get("ALTITUDE_SEED", 1))
WRITERS = 8
MIB = 1 << 20


@pytest.fixture
def counter(tmp_path):
    """The path of counter.c's module."""
    if not shutil.which(CC):
        pytest.skip("no C compiler")
    target = tmp_path / "counter.so"
    subprocess.run([CC, "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", f"-I{HERE.parents[1] / 'include'}", "-shared",
                    "-fPIC", "-o", target, HERE / "counter.c"], check=True)
    os.chmod(target, 0o755)
    return target


@pytest.fixture(params=["dir:", "mem:"])
def volume(mount, counter, request):
    return mount(request.param, str(counter))


def seen(volume):
    return {name: numbers[0] for name, numbers in volume.report("counter").items()}


def in_parallel(work, count=WRITERS):
    """The answers, numbers, of work(n) in as many processes."""
    children = []
    for n in range(count):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(w, str(work(n)).encode())
                os._exit(0)
            except BaseException as error:
                os.write(2, f"{error!r}\n".encode())
                os._exit(1)
        os.close(w)
        children.append((pid, r))
    answers = []
    for pid, r in children:
        with os.fdopen(r) as answer:
            answers.append(answer.read())
        assert os.waitpid(pid, 0)[1] == 0
    return [int(answer) for answer in answers]


def writes(path, seed, flags=0, count=200):
    """Writes of any size at any place; how many bytes they were."""
    rng = random.Random(seed)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    total = sum(os.pwrite(fd, b"w" * rng.randrange(1, 20000), rng.randrange(MIB)) for _ in range(count))
    os.close(fd)
    return total


def test_eight_writers_of_their_own_files(volume):
    total = sum(in_parallel(lambda n: writes(volume.mnt / f"f{n}", f"{SEED} {n}")))
    assert seen(volume)["write"] == total


def test_eight_writers_of_one_file(volume):
    (volume.mnt / "f").touch()
    total = sum(in_parallel(lambda n: writes(volume.mnt / "f", f"{SEED} {n}", os.O_APPEND if n % 2 else 0)))
    assert seen(volume)["write"] == total


def test_direct_writes(volume):
    def work(n):
        with mmap.mmap(-1, 65536) as page:
            fd = os.open(volume.mnt / f"f{n}", os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o644)
            total = sum(os.pwritev(fd, [memoryview(page)[:4096 * (1 + m % 16)]], m * 65536) for m in range(50))
            os.close(fd)
        return total

    assert seen(volume)["write"] == 0
    assert seen(volume)["write"] == 0 and sum(in_parallel(work)) == seen(volume)["write"] > 0


def test_mapped_writes(volume):
    """Whole pages, each once."""
    (volume.mnt / "f").write_bytes(bytes(100 * 4096))
    before = seen(volume)["write"]
    with open(volume.mnt / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        for n in range(0, 100, 3):
            m[n * 4096 + 17:n * 4096 + 19] = b"mm"
        m.flush()
    assert seen(volume)["write"] - before == 34 * 4096


def test_copies_and_allocations(volume):
    (volume.mnt / "from").write_bytes(os.urandom(3 * MIB))
    before = seen(volume)
    with open(volume.mnt / "from", "rb") as a, open(volume.mnt / "to", "wb") as b:
        left = 3 * MIB
        while left:
            left -= os.copy_file_range(a.fileno(), b.fileno(), left)
        os.posix_fallocate(b.fileno(), 0, 5 * MIB)
    after = seen(volume)
    assert after["write"] + after["copy_file_range"] - before["write"] - before["copy_file_range"] == 3 * MIB
    assert after["fallocate"] - before["fallocate"] == 5 * MIB
    assert (volume.mnt / "to").read_bytes()[:3 * MIB] == (volume.mnt / "from").read_bytes()


def attach_counter(volume, counter):
    volume.attach(str(counter))


def test_what_is_opened_after_the_attach_is_counted(mount, counter):
    """Also of files that are open since before, whose data passes by: new opens of them do not."""
    volume = mount("dir:")
    old = os.open(volume.mnt / "old", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(old, b"before")
    attach_counter(volume, counter)
    os.pwrite(old, b"o" * 1000, 0)
    new, other = (os.open(volume.mnt / name, os.O_RDWR | os.O_CREAT, 0o644) for name in ("old", "other"))
    assert seen(volume)["write"] in (0, 1000)   # by the kernel's grace: passed through, or not
    before = seen(volume)["write"]
    assert sum(os.pwrite(fd, b"n" * 5000, n * 5000) for n in range(100) for fd in (new, other)) == MIB - 48576
    assert seen(volume)["write"] - before == 1000000
    os.pwrite(old, b"O" * 10, 0)
    assert os.pread(new, 12, 0) == b"O" * 10 + b"nn"      # one file all the same
    for fd in (old, new, other):
        os.close(fd)
    before = seen(volume)["write"]
    assert writes(volume.mnt / "old", SEED) == seen(volume)["write"] - before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's volumes pass data through")
def test_a_mapping_of_a_file_that_passes_by_since_before_passes_by_too(mount, counter):
    """The kernel maps the file below for every open of such a file. It ends with the last of the early opens."""
    volume = mount("dir:")
    (volume.mnt / "f").write_bytes(bytes(8192))
    old = os.open(volume.mnt / "f", os.O_RDWR)
    attach_counter(volume, counter)
    for expected in (0, 8192):
        before = seen(volume)["write"]
        with open(volume.mnt / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            m[0:1], m[5000:5001] = b"m", b"m"
            m.flush()
        if expected == 0 and "does not pass through" in volume.said():
            expected = 8192
        assert seen(volume)["write"] - before == expected
        assert (volume.tree / "f").read_bytes()[5000:5001] == b"m"
        if old is not None:
            os.close(old)
            old = None
            deadline = time.monotonic() + 20
            while volume.stats()["live"]["files"]:
                assert time.monotonic() < deadline, "a file is not released"


def test_attached_while_eight_write(mount, counter):
    """Each process opens, writes and closes; what it opened after the attach was over is counted, what it wrote before not."""
    volume = mount("dir:")
    flag = volume.tree.parent / "attached"

    def work(n):
        rng, after, late = random.Random(f"{SEED} {n}"), 0, 0
        while late < 100:
            known = flag.exists()
            fd = os.open(volume.mnt / f"f{rng.randrange(3)}", os.O_WRONLY | os.O_CREAT, 0o644)
            done = os.pwrite(fd, b"w" * rng.randrange(1, 5000), rng.randrange(MIB))
            os.close(fd)
            after += done if known else 0
            late += known
        return after

    pid = os.fork()
    if pid == 0:
        time.sleep(0.1)
        attach_counter(volume, counter)
        flag.touch()
        os._exit(0)
    total = sum(in_parallel(work))
    assert os.waitpid(pid, 0)[1] == 0
    count = seen(volume)["write"]
    # What began before the attach was over and was written after it may be counted as well: one open for each process.
    assert total <= count
