# SPDX-License-Identifier: MIT
"""What limits the space of files below limits whoever writes, and never ends the server."""
import errno
import os
import resource

import pytest

PAST = 3 << 20
MODES = pytest.mark.parametrize("options", [{}, {"passthrough": "no"}], ids=["passthrough", "served"])


def grow(path):
    """The errno, or 0, of each way to make a file longer."""
    def tried(call, *args):
        try:
            call(*args)
            return 0
        except OSError as error:
            return errno.errorcode[error.errno]

    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        return [tried(os.pwrite, fd, b"x" * 100, PAST), tried(os.ftruncate, fd, PAST + 4096),
                tried(os.truncate, path, PAST + 4096), tried(os.posix_fallocate, fd, PAST + 4096, 4096)]
    finally:
        os.close(fd)


@MODES
def test_the_limit_of_who_mounts_is_not_that_of_who_writes(mount, options):
    """ulimit -f in the shell that mounts: SIGXFSZ would end the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        volume = mount("dir:", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert grow(volume.mnt / "f") == [0] * 4


@MODES
def test_a_limit_of_the_server_is_an_error_of_the_call(mount, options):
    volume = mount("dir:", **options)
    resource.prlimit(volume.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    assert grow(volume.mnt / "f")[1:] == ["EFBIG"] * 3
    (volume.mnt / "f").write_bytes(b"it lives")
    assert (volume.tree / "f").read_bytes() == b"it lives"
