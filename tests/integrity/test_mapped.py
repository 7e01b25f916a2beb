# SPDX-License-Identifier: MIT
"""Filters see what is written through a mapping, as writes of the page cache."""
import mmap
import subprocess
import sys

import pytest

SIZE = 100000
WRITER = """
import mmap, os, signal, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 0)
m[50000:50005] = b"hello"
how = sys.argv[2]
if how == "msync":
    m.flush()
elif how == "munmap":
    m.close()
    f.close()
elif how == "fsync":
    os.fsync(f.fileno())
elif how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def writes(volume):
    """{path: bytes} of the writes that are recorded and not yet told."""
    sums = {}
    for word in map(str.split, volume.cli("watch", "--once", volume.mnt).stdout.splitlines()):
        if word[4] == "write":
            sums[word[5]] = sums.get(word[5], 0) + int(word[6])
    return sums


@pytest.mark.parametrize("how", ["msync", "munmap", "fsync", "exit", "killed"])
@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_a_mapped_write_is_noticed(mount, fs, how):
    volume = mount(fs, "activity_monitor:records=10000", "rot13")
    (volume.mnt / "changed").write_bytes(bytes(SIZE))
    (volume.mnt / "read").write_bytes(bytes(SIZE))
    assert writes(volume) == {"/changed": SIZE, "/read": SIZE}
    with open(volume.mnt / "read", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        assert m[:] == bytes(SIZE)
    subprocess.run([sys.executable, "-c", WRITER, volume.mnt / "changed", how])
    seen = writes(volume)
    assert list(seen) == ["/changed"]
    assert seen["/changed"] < SIZE, "more than the pages that were changed"
    assert (volume.mnt / "changed").read_bytes()[50000:50005] == b"hello"
    if volume.tree:
        assert (volume.tree / "changed").read_bytes()[50000:50005] == b"uryyb"


def test_a_program_sees_which_files_changed(mount):
    """What a backup would do: the set of changed files, however they were written."""
    volume = mount("dir:", "activity_monitor:records=10000")
    for n in range(20):
        (volume.mnt / f"f{n}").write_bytes(bytes(SIZE))
    assert len(writes(volume)) == 20
    for n in range(0, 20, 3):
        with open(volume.mnt / f"f{n}", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            m[n:n + 1] = b"m"
    for n in range(1, 20, 5):
        with open(volume.mnt / f"f{n}", "r+b") as f:
            f.write(b"w")
    assert set(writes(volume)) == {f"/f{n}" for n in [*range(0, 20, 3), *range(1, 20, 5)]}
