# SPDX-License-Identifier: MIT
"""Ancestors are renamed through the volume all the time: who works inside is never told that something is gone."""
import os
import random
import subprocess
import sys

import pytest

FOLDERS, ROUNDS = 200, 15000     # more than dir keeps at hand: most are reached by their path, each time
RENAME = """
import os, sys
at = int(sys.argv[1])
print("on", flush=True)
while True:
    os.rename(sys.argv[2], sys.argv[3], src_dir_fd=at, dst_dir_fd=at)
    os.rename(sys.argv[3], sys.argv[2], src_dir_fd=at, dst_dir_fd=at)
"""


def create_and_remove(at):
    os.close(os.open("n", os.O_CREAT | os.O_EXCL | os.O_RDWR, dir_fd=at))
    os.unlink("n", dir_fd=at)


WORK = [lambda at: os.stat("f", dir_fd=at), lambda at: os.close(os.open("f", os.O_RDWR, dir_fd=at)), create_and_remove,
        lambda at: os.chmod("f", 0o644, dir_fd=at), lambda at: os.listdir(f"/proc/self/fd/{at}"),
        lambda at: os.rename("f", "f", src_dir_fd=at, dst_dir_fd=at), lambda at: os.readlink("l", dir_fd=at)]


@pytest.mark.parametrize("options", [dict(watch="no"), dict(), dict(ttl_ms=0)], ids=["asked", "watched", "brief"])
def test_work_inside_of_what_is_renamed(mount, options):
    volume = mount("dir:", "stats", **options)
    inner = volume.mnt / "a" / "m"
    inner.mkdir(parents=True)
    for n in range(FOLDERS):
        (inner / str(n)).mkdir()
        (inner / str(n) / "f").write_text("text")
        (inner / str(n) / "l").symlink_to("f")
    held = [os.open(inner / str(n), os.O_PATH) for n in range(FOLDERS)]
    above = [os.open(place, os.O_RDONLY) for place in (volume.mnt, volume.mnt / "a")]
    renamers = [subprocess.Popen([sys.executable, "-c", RENAME, str(at), *names], stdout=subprocess.PIPE, text=True,
                                 pass_fds=[at]) for at, names in zip(above, ("ab", "mn"))]
    draw = random.Random(1)
    try:
        for one in renamers:
            assert one.stdout.readline() == "on\n"
        for _ in range(ROUNDS):
            draw.choice(WORK)(draw.choice(held))
        assert all(one.poll() is None for one in renamers)
    finally:
        for one in renamers:
            one.kill()
            one.wait()
            one.stdout.close()
        for fd in held + above:
            os.close(fd)
