# SPDX-License-Identifier: MIT
"""error: the operations named fail as told, and nothing else does."""
import errno
import os

import pytest


def fails(work):
    with pytest.raises(OSError) as caught:
        work()
    return errno.errorcode[caught.value.errno]


@pytest.mark.parametrize("given,comes", [("", "EIO"), (":errno=ENOSPC", "ENOSPC"), (":errno=28", "ENOSPC"),
                                         (":errno=EUCLEAN", "EUCLEAN")])
def test_the_error_is_the_one_that_was_named(mount, given, comes):
    volume = mount("mem:", f"error:op=mkdir{given}")
    assert fails(lambda: (volume.mnt / "d").mkdir()) == comes
    assert not (volume.mnt / "d").exists()


def test_other_operations_do_not_fail(mount):
    volume = mount("mem:", "error:op=mkdir;write")
    (volume.mnt / "f").touch()
    os.symlink("f", volume.mnt / "s")
    os.rename(volume.mnt / "f", volume.mnt / "g")
    assert (volume.mnt / "g").read_text() == ""
    assert fails(lambda: (volume.mnt / "d").mkdir()) == "EIO"
    with open(volume.mnt / "g", "wb", buffering=0) as f:
        assert fails(lambda: f.write(b"x")) == "EIO"
    assert volume.report("error") == {"seen": [2], "injected": [2]}


def test_every_nth_fails(mount):
    volume = mount("mem:", "error:op=mkdir:rate=3")
    failed = []
    for number in range(1, 10):
        try:
            (volume.mnt / f"d{number}").mkdir()
        except OSError:
            failed.append(number)
    assert failed == [3, 6, 9]
    assert sorted(entry.name for entry in volume.mnt.iterdir()) == ["d1", "d2", "d4", "d5", "d7", "d8"]
    assert volume.report("error") == {"seen": [9], "injected": [3]}


def test_what_is_below_does_not_see_them(mount):
    volume = mount("mem:", "stats@400000", "error:op=mkdir:rate=2", "stats@1")
    names = [one["instance"] for one in volume.instances() if one["filter"] == "stats"]
    for number in range(4):
        try:
            (volume.mnt / f"d{number}").mkdir()
        except OSError:
            pass
    above, below = (volume.report(name)["mkdir"] for name in names)
    assert above[:2] == [4, 2]           # how many, how many failed
    assert below[:2] == [2, 0]


def test_it_ends_with_the_detach(mount):
    volume = mount("mem:", "error:op=mkdir")
    assert fails(lambda: (volume.mnt / "d").mkdir()) == "EIO"
    volume.detach("error")
    (volume.mnt / "d").mkdir()


@pytest.mark.parametrize("options,says", [
    ("", "say which operations"), (":op=mkdr", "do you mean 'mkdir'?"), (":op=read:errno=ENONE", "neither a name nor 1..4095"),
    (":op=read:errno=0", "neither a name"), (":op=read:errno=4096", "neither a name"), (":op=read:rate=0", "rate is 1 or more"),
    (":op=release", "cannot fail"), (":op=read;releasedir", "cannot fail"),
])
def test_options_that_cannot_be_are_told(mount, options, says):
    volume = mount("mem:")
    done = volume.attach(f"error{options}", check=False)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
    assert volume.instances() == []
