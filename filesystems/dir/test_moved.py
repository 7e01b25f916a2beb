# SPDX-License-Identifier: MIT
"""A directory that somebody renames below, at full speed too, is still the one for those who hold it above."""
import errno
import os
import subprocess
import sys

import pytest

PINNED = 64     # PIN_CACHED of node.h: that many are held below, the others are looked for
RENAME = """
import os, sys
print("on", flush=True)
while True:
    os.rename(sys.argv[1], sys.argv[2])
    os.rename(sys.argv[2], sys.argv[1])
"""


@pytest.fixture
def volume(mount):
    made = mount("dir:", "stats")
    (made.tree / "a" / "m").mkdir(parents=True)
    (made.tree / "a" / "m" / "f").write_text("text")
    for n in range(PINNED):
        (made.tree / f"o{n}").mkdir()
    return made


def push_out(volume):
    for n in range(PINNED):
        os.listdir(volume.mnt / f"o{n}")
        assert not (volume.mnt / f"o{n}" / "none").exists()


def work(held, file):
    assert os.stat("f", dir_fd=held).st_size == 4
    os.close(os.open("n", os.O_CREAT | os.O_EXCL | os.O_RDWR, dir_fd=held))
    os.chmod(f"/proc/self/fd/{file}", 0o644)
    assert sorted(os.listdir(f"/proc/self/fd/{held}")) == ["f", "n"]
    os.rename("n", "n2", src_dir_fd=held, dst_dir_fd=held)
    os.unlink("n2", dir_fd=held)
    with pytest.raises(FileNotFoundError):
        os.stat("none", dir_fd=held)


@pytest.mark.parametrize("names", [("a/m", "a/n"), ("a", "b"), ("a/m", "o1/m")], ids=["itself", "ancestor", "elsewhere"])
def test_who_works_inside_is_not_told_that_it_is_gone(volume, names):
    held, file = (os.open(volume.mnt / path, os.O_PATH) for path in ("a/m", "a/m/f"))
    push_out(volume)
    renamer = subprocess.Popen([sys.executable, "-c", RENAME, *(str(volume.tree / name) for name in names)],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert renamer.stdout.readline() == "on\n"
        for _ in range(15):
            work(held, file)
            push_out(volume)
        assert renamer.poll() is None
    finally:
        renamer.kill()
        renamer.wait()
        renamer.stdout.close()
    os.close(held)
    os.close(file)


def test_what_was_moved_out_of_the_tree_is_gone_until_it_comes_back(volume, tmp_path):
    held, file = (os.open(volume.mnt / path, os.O_PATH) for path in ("a/m", "a/m/f"))
    out = volume.tree.parent / "out"
    (volume.tree / "a" / "m").rename(volume.tree / "b")          # known by now not to be found by its name
    (volume.tree / "b").rename(out)
    push_out(volume)
    for look in (lambda: os.listdir(f"/proc/self/fd/{held}"), lambda: os.stat("none", dir_fd=held),
                 lambda: os.open("n", os.O_CREAT | os.O_RDWR, dir_fd=held), lambda: os.chmod(f"/proc/self/fd/{file}", 0o600)):
        with pytest.raises(OSError) as error:
            look()
        assert error.value.errno in (errno.ESTALE, errno.ENOENT)
    assert os.listdir(out) == ["f"]
    out.rename(volume.tree / "o2" / "back")
    work(held, file)
    os.close(held)
    os.close(file)
