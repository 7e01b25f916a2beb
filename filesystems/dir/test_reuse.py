# SPDX-License-Identifier: MIT
"""The inode number of a file that is gone comes again for a new one below: that does not make one file of the two."""
import errno
import os
import subprocess
import sys
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
GONE = (errno.ESTALE, errno.ENOENT)
PINNED = 64     # PIN_CACHED of node.h
COARSE = 5      # CLOCK_REALTIME_COARSE of clock_gettime(2)


def make_file(path):
    path.write_text("another's")


def ticks(past):
    """A file's time of birth goes by a clock of some milliseconds: wait until it has moved on."""
    while time.clock_gettime_ns(COARSE) <= past:
        time.sleep(0.001)


@pytest.fixture(params=["file", "directory"])
def pair(request, mount):
    """A function: of something known above and held, and something new that has its number below."""
    make, end = (make_file, os.unlink) if request.param == "file" else (os.mkdir, os.rmdir)

    def made(**options):
        volume = mount("dir:", **options)
        for n in range(PINNED):                              # so that "old" is none of the directories used last
            (volume.tree / f"other{n}").mkdir()
        for n in range(100):
            old, new = volume.tree / f"old{n}", volume.tree / f"new{n}"
            make(old)
            number, born = old.stat().st_ino, time.clock_gettime_ns(COARSE)
            held = os.open(volume.mnt / old.name, os.O_PATH)     # not open below, where it would keep its number
            assert os.fstat(held).st_ino
            for other in range(PINNED if make is os.mkdir else 0):
                os.listdir(volume.mnt / f"other{other}")
            ticks(born)
            end(old)
            make(new)
            if new.stat().st_ino == number:                  # nobody else took it meanwhile
                return volume, held, volume.mnt / new.name
            os.close(held)
        pytest.skip("this file system gives no inode number twice")

    made.kind = request.param
    return made


@pytest.mark.parametrize("watch", ["yes", "no"])
def test_what_was_held_is_gone_and_not_what_has_its_number_now(pair, watch):
    volume, held, new = pair(watch=watch)
    assert new.stat().st_mode == (volume.tree / new.name).stat().st_mode
    for look in (lambda: os.chmod(f"/proc/self/fd/{held}", 0o700), lambda: os.listxattr(f"/proc/self/fd/{held}"),
                 lambda: os.open(f"/proc/self/fd/{held}", os.O_RDONLY)):
        with pytest.raises(OSError) as error:
            look()
        assert error.value.errno in GONE
    os.close(held)
    assert (volume.tree / new.name).stat().st_mode & 0o700 != 0o700 or pair.kind == "directory"
    assert os.listdir(new) == [] if pair.kind == "directory" else new.read_text() == "another's"


def test_the_new_one_is_of_another_number_to_the_kernel(pair):
    """So nothing that is kept of the one, pages or a filter's contexts, is taken for the other's."""
    volume, held, new = pair(watch="no")
    before = volume.stats()["live"]["nodes"]
    new.stat()
    assert volume.stats()["live"]["nodes"] == before + 1
    os.close(held)


@pytest.mark.parametrize("op", ["rmdir", "rename"])
def test_a_directory_that_left_its_name_just_before_that_went_is_alive(mount, op):
    """The kernel takes the one it knew by the name for dead; what went was another, put there below in the same moment."""
    volume = mount("dir:", f"delay:op={op}:ms=3600000")
    (volume.tree / "dir").mkdir()
    (volume.tree / "dir" / "file").touch()
    (volume.tree / "other").mkdir()
    assert os.listdir(volume.mnt / "dir") == ["file"]
    held = os.open(volume.mnt / "dir", os.O_RDONLY)       # so that it is not forgotten when it goes
    call = f"os.rmdir({str(volume.mnt / 'dir')!r})"
    if op == "rename":
        call = f"os.rename({str(volume.mnt / 'other')!r}, {str(volume.mnt / 'dir')!r})"
    going = subprocess.Popen([sys.executable, "-c", f"import os; {call}"])
    fixtures.until("it is asked for", lambda: volume.report("delay")["delayed"] == [1])
    (volume.tree / "dir").rename(volume.tree / "moved")
    (volume.tree / "dir").mkdir()
    volume.detach("delay")                                # lets it go on
    assert going.wait(60) == 0
    assert os.listdir(volume.tree / "moved") == ["file"]
    fixtures.until("it is seen", lambda: (volume.mnt / "moved").exists())
    assert os.listdir(volume.mnt / "moved") == ["file"]
    (volume.mnt / "moved" / "new").touch()
    assert sorted(os.listdir(volume.mnt / "moved")) == ["file", "new"]
    os.close(held)
