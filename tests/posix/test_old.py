# SPDX-License-Identifier: MIT
"""What newer kernels offer to do with a descriptor is done without, where the kernel is older: with the same result."""
import os
import stat
import subprocess
import sys

import pytest

fixtures = sys.modules["altitude_fixtures"]
OLD = fixtures.BUILD / "tests/old"
NEW_CALLS = {"fchmodat2": 452, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466}


@pytest.fixture(params=["this", "older"])
def volume(request, tmp_path, monkeypatch, mount):
    """On this kernel, and as on one of before Linux 6.6."""
    if request.param == "older":
        older = tmp_path / "altitude"
        older.write_text(f"#!/bin/sh\nexec {OLD} {' '.join(map(str, NEW_CALLS.values()))} -- {fixtures.CLI} \"$@\"\n")
        older.chmod(0o755)
        monkeypatch.setitem(mount.__globals__, "CLI", older)
    made = mount("dir:")
    filtered = "Seccomp:\t2" in open(f"/proc/{made.pid}/status").read()
    assert filtered == (request.param == "older")
    return made


def test_the_calls_are_missing_there(tmp_path):
    """Or the others would show nothing."""
    probe = ("import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
             "for n in %r:\n    c.syscall(n, -1, 0, 0, 0, 0, 0)\n    print(os.strerror(ctypes.get_errno()))")
    command = [sys.executable, "-c", probe % list(NEW_CALLS.values())]
    said = subprocess.run([OLD, *map(str, NEW_CALLS.values()), "--", *command], stdout=subprocess.PIPE, text=True, check=True)
    assert said.stdout.splitlines() == ["Function not implemented"] * len(NEW_CALLS)


def attributes(path):
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_attributes_of_a_name(volume, kind):
    below, seen = volume.tree / "it", volume.mnt / "it"
    (volume.tree / "aim").touch()
    {"file": below.touch, "directory": below.mkdir, "link": lambda: below.symlink_to("aim")}[kind]()
    first, second = ("trusted.a", "trusted.b") if kind == "link" else ("user.a", "trusted.b")
    try:
        os.setxattr(below, "trusted.probe", b"", follow_symlinks=False)
    except PermissionError:
        pytest.skip("trusted attributes are root's")
    os.setxattr(seen, first, b"one", follow_symlinks=False)
    os.setxattr(seen, second, b"two" * 100, follow_symlinks=False)
    assert attributes(seen) == attributes(below) == {"trusted.probe": b"", first: b"one", second: b"two" * 100}
    with pytest.raises(FileExistsError):
        os.setxattr(seen, first, b"x", os.XATTR_CREATE, follow_symlinks=False)
    os.removexattr(seen, first, follow_symlinks=False)
    with pytest.raises(OSError, match="No data"):
        os.removexattr(seen, first, follow_symlinks=False)
    with pytest.raises(OSError, match="No data"):
        os.getxattr(seen, first, follow_symlinks=False)
    assert attributes(seen) == attributes(below) == {"trusted.probe": b"", second: b"two" * 100}
    assert attributes(volume.tree / "aim") == {}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_modes_and_the_rest(volume, kind):
    below, seen = volume.tree / "it", volume.mnt / "it"
    below.touch() if kind == "file" else below.mkdir()
    os.chmod(seen, 0o4711 if kind == "file" else 0o1711)
    assert stat.S_IMODE(seen.stat().st_mode) == stat.S_IMODE(below.stat().st_mode) == (0o4711 if kind == "file" else 0o1711)
    assert os.access(seen, os.W_OK)
    if kind == "file":
        os.chmod(seen, 0o600)
        seen.write_text("text")
        os.truncate(seen, 2)
        os.link(seen, volume.mnt / "again")
        assert (volume.tree / "again").read_text() == below.read_text() == "te"
