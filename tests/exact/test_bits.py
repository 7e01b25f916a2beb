# SPDX-License-Identifier: MIT
"""Set-user-id, set-group-id and capabilities go when an ordinary user writes: as they do on the bare directory."""
import mmap
import os
import stat
import time

import pytest

from altitude_calls import become, fallocate, in_child

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
USER, OWNER = 12002, 12001
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")     # cap_net_raw+ep


def fallocated(fd, path, other):
    fallocate(fd, 0, 0, 20000)


def mapped(fd, path, other):
    with mmap.mmap(fd, 4096) as m:
        m[0:1] = b"m"
        m.flush()


def direct(fd, path, other):
    with mmap.mmap(-1, 4096) as page:
        again = os.open(path, os.O_RDWR | os.O_DIRECT)
        os.pwritev(again, [page], 0)
        os.close(again)


HOW = {
    "write": lambda fd, path, other: os.pwrite(fd, b"w", 0),
    "append": lambda fd, path, other: os.pwrite(fd, b"w", 100000),
    "direct": direct,
    "mapped": mapped,
    "truncate": lambda fd, path, other: os.truncate(path, 10),
    "ftruncate": lambda fd, path, other: os.ftruncate(fd, 10),
    "open_trunc": lambda fd, path, other: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "fallocate": fallocated,
    "copy_file_range": lambda fd, path, other: os.copy_file_range(other, fd, 4096),
}
VARIANTS = {
    "through": ([], {}), "cached": ([], {"passthrough": "no"}), "stats": (["stats"], {})
}


def bits(path):
    try:
        capability = len(os.getxattr(path, "security.capability"))
    except OSError:
        capability = 0
    return oct(stat.S_IMODE(os.stat(path).st_mode)), capability


def tried(top, below, how, mode, early, setter):
    """(errno, what is below, what was shown before) of one case: in top, which is served from below or is that itself."""
    path, under = top / "f", below / "f"
    under.write_bytes(b"x" * 8192)
    (below / "other").write_bytes(b"o" * 8192)
    os.chown(under, OWNER, OWNER)
    os.chmod(under, 0o777)
    for place in (below, top):
        os.chmod(place / "other", 0o666)

    def work():
        other = os.open(top / "other", os.O_RDONLY)
        fd = os.open(path, os.O_RDWR) if early else None
        if setter:
            at = under if setter == "below" else path
            os.chmod(at, mode)
            os.setxattr(at, "security.capability", CAPABILITY)
            wanted, deadline = bits(under), time.monotonic() + 20
            while bits(path) != wanted:
                assert time.monotonic() < deadline
        become(USER)
        if not early:
            fd = os.open(path, os.O_RDWR)
        HOW[how](fd, path, other)

    code = in_child(work)
    return code, bits(under)


def as_good(have, want, mode, how):
    """The same, or fewer rights, where it does not matter or cannot be told.

    Set-group-id without a right to execute says nothing, and older kernels leave it. A mapping is written by the kernel in
    nobody's name, which takes the capability away.
    """
    if have == want:
        return True
    (code, (bits_here, capability)), (code_native, (bits_native, capability_native)) = have, want
    if mode == 0o2767:
        bits_native = bits_here if bits_here == oct(0o767) else bits_native
    return code == code_native and bits_here == bits_native and (how == "mapped" and not capability or
                                                                 capability == capability_native)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("filters,options", VARIANTS.values(), ids=VARIANTS)
def test_bits_go_as_on_the_bare_directory(mount, tmp_path, filters, options, how):
    volume = mount("dir:", *filters, **options)
    native = tmp_path / "native"
    native.mkdir()
    try:
        (native / "f").touch()
        os.setxattr(native / "f", "security.capability", CAPABILITY)
        if how == "direct":
            os.close(os.open(native / "f", os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"the file system below: {error}")
    wrong = []
    for mode in (0o6777, 0o2767, 0o777):
        for early in (False, True):
            want = tried(native, native, how, mode, early, "above")
            for setter in ("above", "below"):
                have = tried(volume.mnt, volume.tree, how, mode, early, setter)
                if not as_good(have, want, mode, how):
                    wrong.append(f"{oct(mode)}, opened {'before' if early else 'after'} they were set {setter}: "
                                 f"native {want}, here {have}")
                deadline = time.monotonic() + 20
                while bits(volume.mnt / "f") != bits(volume.tree / "f"):
                    assert time.monotonic() < deadline, f"above {bits(volume.mnt / 'f')}, below {bits(volume.tree / 'f')}"
    assert not wrong, "\n".join(wrong)
