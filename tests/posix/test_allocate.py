# SPDX-License-Identifier: MIT
"""fallocate(2) answers and does what the native file system does, for every mode."""
import ctypes
import errno
import itertools
import os

import pytest

libc = ctypes.CDLL(None, use_errno=True)
KEEP, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
MODES = [0, KEEP, PUNCH, PUNCH | KEEP, ZERO, ZERO | KEEP, UNSHARE, UNSHARE | KEEP, PUNCH | ZERO | KEEP, 1 << 20]
RANGES = [(0, 4096), (0, 0), (-1, 10), (10, -1), (0, 1), (5, 100), (4096, 8192), (4095, 2), (19000, 5000), (20000, 4096),
          (100000, 50000), (3000, 1 << 20), ((1 << 63) - 10, 100)]


def answer(path, mode, offset, length, how=os.O_RDWR):
    """What a program would see: the errno or 0, the size, the bytes, and whether space was taken or given back."""
    path.write_bytes(bytes(range(1, 251)) * 80)
    fd = os.open(path, how)
    done = libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
    code = ctypes.get_errno() if done else 0
    os.close(fd)
    s = os.stat(path)
    return errno.errorcode.get(code, code), s.st_size, path.read_bytes(), s.st_blocks


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
@pytest.mark.parametrize("filters", [(), ("stats", "passthrough")], ids=["bare", "filtered"])
def test_every_mode_answers_as_natively(mount, tmp_path, fs, filters):
    volume = mount(fs, *filters)
    differences = []
    for mode, (offset, length) in itertools.product(MODES, RANGES):
        want = answer(tmp_path / "native", mode, offset, length)
        have = answer(volume.mnt / "f", mode, offset, length)
        fields = 4 if fs == "dir:" else 3       # the blocks of mem are pages, those of another have trees
        for name, a, b in list(zip(("errno", "size", "bytes", "blocks"), want, have))[:fields]:
            if a != b:
                differences.append(f"mode {mode:#x} {offset}+{length}: {name}: native {a!r:.60}, here {b!r:.60}")
    assert not differences, "\n".join(differences)
    assert answer(volume.mnt / "f", 0, 0, 30000, os.O_RDONLY)[0] == "EBADF"


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_what_the_kernels_driver_refuses_changes_nothing(mount, fs):
    """FUSE cannot carry these two modes."""
    volume = mount(fs)
    for mode in (COLLAPSE, INSERT):
        code, size, data, _ = answer(volume.mnt / "f", mode, 4096, 4096)
        assert (code, size, data) == (errno.errorcode[errno.EOPNOTSUPP], 20000, bytes(range(1, 251)) * 80)
