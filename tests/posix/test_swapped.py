# SPDX-License-Identifier: MIT
"""What is below is a symbolic link out of the tree every other moment: the server never goes that way."""
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys

import pytest

SYS_OPENAT2, RESOLVE_NO_SYMLINKS = 437, 0x04
ROUNDS = 1500
MAY_BE = {errno.ELOOP, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EAGAIN, errno.EEXIST, errno.ENOTEMPTY}
SWAP = """
import ctypes, os, random, sys, time
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
print("on", flush=True)
while True:
    libc.renameat2(-100, b"a", -100, b"link", 2)             # a directory, or a link to one outside
    libc.renameat2(-100, b"g", -100, b"link to f", 2)        # a file, or a link to one outside
    try:
        os.symlink(sys.argv[2] + "/made", "made")            # nothing, or a link to where nothing is outside
        os.unlink("made")
    except FileExistsError:
        os.unlink("made")                                    # the volume was quicker
    time.sleep(random.random() / 1000)
"""
libc = ctypes.CDLL(None, use_errno=True)


def open_here(name, flags, at, mode=0):
    """As a client that follows no link itself: what it reaches is what the server reached."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_NO_SYMLINKS)
    fd = libc.syscall(SYS_OPENAT2, at, name.encode(), how, len(how))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return fd


def create(top, n):
    fd = open_here("made", os.O_RDWR | os.O_CREAT, top, 0o644)
    os.pwrite(fd, b"made", 0)
    os.close(fd)


def truncate(top, n):
    fd = open_here("g", os.O_RDWR | os.O_CREAT | os.O_TRUNC, top, 0o644)
    os.pwrite(fd, b"inside", 0)
    os.close(fd)


def change(top, n):
    fd = open_here("a/f", os.O_RDWR, top)
    try:
        assert os.pread(fd, 100, 0) == b"inside"
        os.fchmod(fd, 0o600 + n % 8)
        os.utime(fd, (n, n))
        os.setxattr(fd, "user.n", b"%d" % n)
        os.pwrite(fd, b"inside", 0)
    finally:
        os.close(fd)


def fill_and_clear(top, n):
    at = open_here("a", os.O_RDONLY | os.O_DIRECTORY, top)
    try:
        assert "f" in os.listdir(at)
        os.close(os.open(f"new{n}", os.O_CREAT | os.O_RDWR, dir_fd=at))
        os.mkdir(f"dir{n}", dir_fd=at)
        os.link(f"new{n}", f"hard{n}", src_dir_fd=at, dst_dir_fd=at)
        os.rename(f"hard{n}", f"other{n}", src_dir_fd=at, dst_dir_fd=at)
        os.symlink("x", f"soft{n}", dir_fd=at)
        for name in (f"new{n}", f"other{n}", f"soft{n}"):
            os.unlink(name, dir_fd=at)
        os.rmdir(f"dir{n}", dir_fd=at)
    finally:
        os.close(at)


@pytest.mark.parametrize("watch", ["yes", "no"])
def test_what_becomes_a_link_leads_nowhere(mount, tmp_path, watch):
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    for place in (outside, tree, tree / "a"):
        place.mkdir()
    (outside / "f").write_text("outside")
    os.chmod(outside / "f", 0o644)
    os.utime(outside / "f", (5, 5))
    (tree / "a" / "f").write_text("inside")
    (tree / "g").write_text("inside")
    (tree / "link").symlink_to(outside)
    (tree / "link to f").symlink_to(outside / "f")
    volume = mount(f"dir:{tree}", watch=watch)
    top = os.open(volume.mnt, os.O_RDONLY | os.O_DIRECTORY)
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, tree, outside], stdout=subprocess.PIPE, text=True)
    done, n = dict.fromkeys([create, truncate, change, fill_and_clear], 0), 0
    try:
        assert swapper.stdout.readline() == "on\n"
        while n < ROUNDS or min(done.values()) < 10:
            n += 1
            for step in done:
                try:
                    step(top, n)
                    done[step] += 1
                except OSError as error:
                    assert error.errno in MAY_BE, error
    finally:
        swapper.kill()
        swapper.wait()
        swapper.stdout.close()
        os.close(top)
    after = (outside / "f").stat()
    assert (outside / "f").read_text() == "outside" and os.listdir(outside) == ["f"]
    assert (after.st_mtime, stat.S_IMODE(after.st_mode)) == (5, 0o644)
    assert os.listxattr(outside / "f") == []
