# SPDX-License-Identifier: MIT
"""One volume at several mounting points, which come and go while it is in use."""
import itertools
import json
import os
import subprocess

import pytest

from altitude_fixtures import mounted


def points_of(place):
    return json.loads(place.cli("volumes", "--json").stdout)[0]["points"]


@pytest.fixture
def four(place):
    """A volume at four mounting points, and the points."""
    server = place.serve()
    points = [place.mnt]
    for name in "abc":
        points.append(place.directory(name))
        place.cli("mount-add", place.mnt, points[-1])
    return server, points


def test_every_point_shows_the_same_files(place, four):
    _, points = four
    for n, point in enumerate(points):
        (point / f"new{n}").write_text(f"from {n}")
    for point in points:
        assert sorted(os.listdir(point)) == ["f", "new0", "new1", "new2", "new3"]
        for n in range(4):
            assert (point / f"new{n}").read_text() == f"from {n}"
            assert os.stat(point / f"new{n}").st_ino == os.stat(points[0] / f"new{n}").st_ino
    assert points_of(place) == [str(point) for point in points]
    # A file of one point is renamed into a directory seen at another: one volume, but two mounts for the kernel.
    os.rename(points[1] / "new0", points[1] / "moved")
    assert (points[3] / "moved").read_text() == "from 0"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5], ids=lambda order: "".join(map(str, order)))
def test_points_go_in_any_order_and_the_last_ends_the_server(place, four, order):
    server, points = four
    for n, which in enumerate(order):
        assert server.poll() is None
        place.cli("unmount", points[which])
        assert mounted(points[which]) is None
        left = [point for point in points if points.index(point) not in order[:n + 1]]
        for point in left:
            assert (point / "f").read_text() == "content"
        if left:
            assert points_of(place) == [str(point) for point in left]
    assert server.wait(20) == 0
    place.nothing_left()


def test_a_point_comes_after_the_first_is_gone(place, four):
    _, points = four
    place.cli("unmount", points[0])
    place.cli("mount-add", points[1], points[0])
    assert (points[0] / "f").read_text() == "content"
    place.cli("attach", "null", points[0])
    place.cli("detach", "null", points[2])


def test_a_point_taken_away_with_umount_is_not_counted_any_more(place, four):
    """The first point is what the others are shown from: gone from outside, the next must take its part."""
    _, points = four
    subprocess.run(["umount", points[0]], check=True)
    again = place.directory("again")
    place.cli("mount-add", points[1], again)
    assert (again / "f").read_text() == "content"
    assert mounted(again).split(" - ")[1].split()[0] == "fuse.altitude"
    assert points_of(place) == [str(point) for point in [*points[1:], again]]


def test_all_points_taken_away_with_umount_end_the_server(place, four):
    server, points = four
    for point in points:
        subprocess.run(["umount", point], check=True)
    assert server.wait(20) == 0
    place.nothing_left()


def test_the_volumes_name_removes_the_last_point_first(place, four):
    _, points = four
    place.cli("unmount", f"dir:{place.tree}")
    assert points_of(place) == [str(point) for point in points[:3]]


def test_there_are_at_most_sixteen_points(place):
    place.mount()
    for n in range(15):
        place.cli("mount-add", place.mnt, place.directory(f"p{n}"))
    done = place.cli("mount-add", place.mnt, place.directory("more"), check=False)
    assert done.returncode == 1
    assert done.stderr == f"altitude mount-add: 'dir:{place.tree}' has 16 mounting points already\n"
    for n in range(15):
        assert (place.path / f"p{n}" / "f").read_text() == "content"


def test_a_point_that_cannot_be_is_refused_in_one_line(place):
    place.mount()
    (place.path / "file").write_text("")
    (place.directory("full") / "x").write_text("")
    for target, reason in (("missing", "No such file or directory; make the directory first (mkdir)"),
                           ("file", "is not a directory"), ("full", "is not empty")):
        done = place.cli("mount-add", place.mnt, place.path / target, check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert reason in done.stderr and f"'{place.path / target}'" in done.stderr
    assert points_of(place) == [str(place.mnt)]


def test_points_come_and_go_many_times_and_nothing_is_kept(place, four):
    server, points = four
    extra = place.directory("extra")

    def descriptors():
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    place.cli("mount-add", points[0], extra)
    place.cli("unmount", extra)
    before = descriptors()
    for _ in range(20):
        place.cli("mount-add", points[0], extra)
        place.cli("unmount", extra)
    assert descriptors() <= before + 2     # the connection of the last command may just be closing
    assert mounted(extra) is None


def test_a_busy_point_stays_while_another_goes(place, four):
    _, points = four
    place.hold(points[2] / "f")
    done = place.cli("unmount", points[2], check=False)
    assert done.returncode == 1 and "is in use by sleep (pid" in done.stderr
    place.cli("unmount", points[1])
    assert points_of(place) == [str(points[0]), str(points[2]), str(points[3])]
