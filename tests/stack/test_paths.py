# SPDX-License-Identifier: MIT
"""The path a filter asks for is the one of that moment, whatever was renamed, linked, unlinked or replaced before."""
import ctypes
import os
import sys
import threading

import pytest

fixtures = sys.modules["altitude_fixtures"]
libc = ctypes.CDLL(None)


@pytest.fixture
def traced(mount, tmp_path):
    """A volume, and a function: the path that a filter sees when the file of a descriptor is written."""
    log = tmp_path / "trace.log"

    def make(fs, **options):
        volume = mount(fs, f"trace:file={log}", **options)

        def path_of(fd):
            before = log.stat().st_size
            os.pwrite(fd, b"x", 0)
            os.fsync(fd)
            text = log.read_bytes()[before:].decode(errors="replace")
            lines = [line.split() for line in text[:text.rindex("\n")].splitlines()]      # the first may be half of one
            return next(" ".join(words[1:-2]) for words in lines if words[:1] == ["fsync"])

        return volume, path_of
    return make


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_the_path_follows_renames_and_links(traced, fs):
    volume, path_of = traced(fs)
    mnt = volume.mnt
    (mnt / "a/b/c").mkdir(parents=True)
    with open(mnt / "a/b/c/f", "w") as f:
        fd = f.fileno()
        assert path_of(fd) == "/a/b/c/f"
        os.rename(mnt / "a", mnt / "z")                      # an ancestor
        assert path_of(fd) == "/z/b/c/f"
        os.mkdir(mnt / "other")
        os.rename(mnt / "z/b", mnt / "other/b")              # one further down, to elsewhere
        assert path_of(fd) == "/other/b/c/f"
        os.rename(mnt / "other/b/c/f", mnt / "g")            # itself
        assert path_of(fd) == "/g"
        os.link(mnt / "g", mnt / "z/h")                      # the latest it is known by
        assert path_of(fd) == "/z/h"
        os.unlink(mnt / "z/h")
        assert path_of(fd) == "/g"
        (mnt / "new").write_text("new")
        os.rename(mnt / "new", mnt / "g")                    # replaced: it has no name
        assert path_of(fd) == "(no name)"
        with open(mnt / "g", "r+") as new:
            assert path_of(new.fileno()) == "/g"
            os.unlink(mnt / "g")
            assert path_of(new.fileno()) == "(no name)"
    with open(mnt / "p", "w") as p, open(mnt / "q", "w") as q:
        assert libc.renameat2(-100, bytes(mnt / "p"), -100, bytes(mnt / "q"), 2) == 0    # exchange
        assert (path_of(p.fileno()), path_of(q.fileno())) == ("/q", "/p")
    fd = os.open(mnt, os.O_TMPFILE | os.O_RDWR)
    assert path_of(fd) == "(no name)"
    assert libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, bytes(mnt / "named"), 0x400) == 0      # AT_SYMLINK_FOLLOW
    assert path_of(fd) == "/named"
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of changes in a whole file system")
def test_the_path_follows_what_is_renamed_below(traced):
    volume, path_of = traced("dir:")
    if "not heard of" in volume.said():
        pytest.skip(volume.said().strip())
    (volume.mnt / "a/b").mkdir(parents=True)
    with open(volume.mnt / "a/b/f", "w") as f:
        assert path_of(f.fileno()) == "/a/b/f"
        os.rename(volume.tree / "a", volume.tree / "z")
        fixtures.until("the event", lambda: path_of(f.fileno()) == "/z/b/f")
        os.rename(volume.tree / "z/b/f", volume.tree / "g")
        fixtures.until("the event", lambda: path_of(f.fileno()) == "/g")


def test_a_path_asked_for_while_two_ancestors_are_renamed_is_one_that_was(traced):
    volume, path_of = traced("mem:")
    (volume.mnt / "a/m").mkdir(parents=True)
    done = threading.Event()

    def rename(at, one, other):
        while not done.is_set():
            os.rename(one, other, src_dir_fd=at, dst_dir_fd=at)
            os.rename(other, one, src_dir_fd=at, dst_dir_fd=at)

    above = [os.open(place, os.O_RDONLY) for place in (volume.mnt, volume.mnt / "a")]
    with open(volume.mnt / "a/m/f", "w") as f:
        threads = [threading.Thread(target=rename, args=(at, *names)) for at, names in zip(above, ("ab", "mn"))]
        for thread in threads:
            thread.start()
        try:
            seen = {path_of(f.fileno()) for _ in range(2000)}
        finally:
            done.set()
            for thread in threads:
                thread.join()
    for at in above:
        os.close(at)
    assert seen <= {"/a/m/f", "/a/n/f", "/b/m/f", "/b/n/f"}, seen
    assert len(seen) > 1
