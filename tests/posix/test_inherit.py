# SPDX-License-Identifier: MIT
"""Default ACLs are inherited as natively: by every kind of entry, for every mode and umask. Unnamed files get names."""
import ctypes
import errno
import itertools
import os
import shutil
import socket
import subprocess

import pytest

libc = ctypes.CDLL(None, use_errno=True)
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setfacl"), reason="needs root and setfacl")
DEFAULTS = ["", "u:12001:rwx", "u::rwx,g::r-x,o::---,u:12001:rw-,g:12002:r--,m::rwx", "u::r--,g::---,o::rwx",
            "u::rwx,g::rwx,o::rwx,u:12001:---,m::r-x"]


def name_it(fd, path):
    return libc.linkat(fd, b"", -100, os.fsencode(path), 0x1000) and ctypes.get_errno()


def tmpfile(path, mode):
    fd = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, mode)
    os.write(fd, b"nameless")
    assert name_it(fd, path) == 0
    os.close(fd)


def bind(path, mode):
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(path.parent)
        s.bind(path.name)


MAKERS = {
    "open": lambda path, mode: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode)),
    "mkdir": os.mkdir,
    "fifo": os.mkfifo,
    "node": lambda path, mode: os.mknod(path, 0o100000 | mode),
    "tmpfile": tmpfile,
    "socket": bind,
}


def born(top, default, umask, mode):
    """The ACLs of one new entry of each kind, made by an ordinary user."""
    top.mkdir()
    os.chmod(top, 0o777)
    if default:
        subprocess.run(["setfacl", "-d", "-m", default, top], check=True)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(12001)
            os.setuid(12001)
            os.umask(umask)
            for name, make in MAKERS.items():
                make(top / name, mode)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return subprocess.run(["getfacl", "-n", *MAKERS], cwd=top, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("filters", [(), ("stats", "passthrough")], ids=["bare", "filtered"])
def test_default_acls_are_inherited(mount, tmp_path, filters):
    volume = mount("dir:", *filters)
    (tmp_path / "native").mkdir()
    for n, (default, umask, mode) in enumerate(itertools.product(DEFAULTS, (0, 0o022, 0o077), (0o777, 0o640))):
        want = born(tmp_path / "native" / f"d{n}", default, umask, mode)
        assert want.count("# file:") == len(MAKERS)
        assert born(volume.mnt / f"d{n}", default, umask, mode) == want, f"default {default!r}, umask {umask:o}, mode {mode:o}"


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_an_unnamed_file_gets_names_or_none(mount, fs):
    volume = mount(fs, "stats")
    fd = os.open(volume.mnt, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"first")
    assert os.fstat(fd).st_nlink == 0 and os.listdir(volume.mnt) == []
    assert name_it(fd, volume.mnt / "a") == 0
    assert name_it(fd, volume.mnt / "b") == 0
    assert name_it(fd, volume.mnt / "b") == errno.EEXIST
    assert os.fstat(fd).st_nlink == 2
    os.pwrite(fd, b"later", 0)
    assert (volume.mnt / "a").read_bytes() == (volume.mnt / "b").read_bytes() == b"later"
    os.close(fd)
    fd = os.open(volume.mnt, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    assert name_it(fd, volume.mnt / "c") == errno.ENOENT
    os.close(fd)
    assert sorted(os.listdir(volume.mnt)) == ["a", "b"]
