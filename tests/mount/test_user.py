# SPDX-License-Identifier: MIT
"""An ordinary user mounts through fusermount3: in a mount namespace with a /dev where /dev/fuse is open to everybody."""
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess

import pytest

import altitude_fixtures

USER = altitude_fixtures.USER
ROOT = altitude_fixtures.ROOT


@pytest.fixture
def user(place):
    """Run a script as the user; it finds altitude, $TREE, $MNT and $HOME."""
    home = place.directory("home")
    for path in (home, place.tree, place.mnt, place.tree / "f", place.runtime):
        os.chown(path, USER, USER)
    return altitude_fixtures.user_shell(home, place.directory("dev"), dict(place.env, TREE=str(place.tree), MNT=str(place.mnt), CTRL_C=CTRL_C))


def test_a_user_mounts_works_and_unmounts(place, user):
    done = user("""
        altitude mount --filter stats --filter null dir:"$TREE" "$MNT"
        grep " $MNT " /proc/self/mountinfo
        altitude instances "$MNT" >&2
        test "$(cat "$MNT/f")" = content
        echo new >"$MNT/g"; mkdir "$MNT/d"; ln -s g "$MNT/s"; ln "$MNT/g" "$MNT/h"; mv "$MNT/h" "$MNT/d/h"
        chmod 600 "$MNT/g"; truncate -s 100000 "$MNT/d/h"; rm "$MNT/s"
        altitude attach trace "$MNT"; cat "$MNT/g" >/dev/null; altitude detach trace "$MNT"
        altitude unmount "$MNT"
        ! grep " $MNT " /proc/self/mountinfo
        ls -A "$MNT"
    """)
    line, = done.stdout.splitlines()
    kind, source, options = line.split(" - ")[1].split()
    assert (kind, source) == ("fuse.altitude", f"dir:{place.tree}")
    assert "default_permissions" in options and "allow_other" not in options
    flags = line.split()[5].split(",")
    assert "nosuid" in flags and "nodev" in flags
    assert (place.tree / "d/h").stat().st_size == 100000
    assert (place.tree / "g").stat().st_uid == USER and stat.S_IMODE((place.tree / "g").stat().st_mode) == 0o600
    place.nothing_left()


def test_another_user_is_not_let_in(place, user):
    """Neither root nor anybody else looks into what an ordinary user mounted."""
    user("""
        altitude mount dir:"$TREE" "$MNT"
        test "$(cat "$MNT/f")" = content
    """)
    server, = place.servers()                # it keeps the mount namespace
    for ids in ([], ["setpriv", "--reuid", str(USER + 1), "--regid", str(USER + 1), "--clear-groups"],
                ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]):
        done = subprocess.run(["nsenter", f"--mount=/proc/{server}/ns/mnt", *ids, "cat", str(place.mnt / "f")], text=True,
                              capture_output=True)
        assert (done.returncode, done.stdout) == ((0, "content") if str(USER) in ids else (1, "")), done
        assert str(USER) in ids or "Permission denied" in done.stderr
    os.kill(server, signal.SIGTERM)
    place.nothing_left()
    done = user("altitude mount --allow-other dir:\"$TREE\" \"$MNT\"", check=False)
    if "user_allow_other" not in [line.strip() for line in pathlib.Path("/etc/fuse.conf").read_text().splitlines()]:
        assert done.returncode == 1
        assert "user_allow_other" in done.stderr and "altitude mount: fusermount3 would not mount" in done.stderr
    place.nothing_left()


def test_a_user_does_not_mount_what_the_user_may_not_look_into(place, user):
    os.chown(place.tree, 0, 0)
    os.chmod(place.tree, 0o700)
    done = user("altitude mount dir:\"$TREE\" \"$MNT\"", check=False)
    assert done.returncode == 1
    assert done.stderr == f"altitude mount: cannot serve directory '{place.tree}': Permission denied; you may not look into it\n"
    place.nothing_left()


def test_a_user_may_not_cover_what_is_not_the_users(place, user):
    os.chown(place.mnt, 0, 0)
    done = user("altitude mount dir:\"$TREE\" \"$MNT\"", check=False)
    assert done.returncode == 1
    assert f"altitude mount: fusermount3 would not mount on '{place.mnt}'" in done.stderr
    place.nothing_left()


def test_signals_and_dead_mounts_of_a_user(place, user):
    done = user("""
        altitude mount --foreground dir:"$TREE" "$MNT" & server=$!
        until grep -q " $MNT " /proc/self/mountinfo; do kill -0 $server; sleep 0.01; done
        kill -TERM $server; wait $server
        ! grep " $MNT " /proc/self/mountinfo
        altitude mount --foreground dir:"$TREE" "$MNT" & server=$!
        until grep -q " $MNT " /proc/self/mountinfo; do kill -0 $server; sleep 0.01; done
        test -f "$MNT/f"
        kill -KILL $server; wait $server || true
        ! test -f "$MNT/f"
        altitude mount dir:"$TREE" "$MNT"
        cat "$MNT/f"
        exec 5<"$MNT/f"
        ! altitude unmount "$MNT"
        altitude unmount --lazy "$MNT"
        cat <&5
        exec 5<&-
    """)
    assert done.stdout == "contentcontent"
    assert "held a dead mount whose server is gone; it was cleaned away" in done.stderr
    assert "is in use by bash (pid " in done.stderr
    place.nothing_left()


def test_the_doctor_tells_a_user_how_much_is_heard(user):
    line, = [line for line in user("altitude doctor || true").stdout.splitlines() if "changes below" in line]
    most = pathlib.Path("/proc/sys/fs/fanotify/max_user_marks").read_text().strip()
    assert line.split()[0] == "ok" and f"of up to {most} files and directories" in line, line


def test_only_root_adds_a_point(place, user):
    done = user("""
        altitude mount dir:"$TREE" "$MNT"
        mkdir "$HOME/more"
        ! altitude mount-add "$MNT" "$HOME/more"
        altitude unmount "$MNT"
    """)
    assert "only root may add a mounting point" in done.stderr and done.stderr.count("\n") == 1
    place.nothing_left()


def test_where_the_device_is_closed_the_user_is_told(place, user):
    done = subprocess.run(["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
                           str(altitude_fixtures.CLI), "mount", f"dir:{place.tree}", str(place.mnt)],
                          env=place.env, text=True, capture_output=True, stdin=subprocess.DEVNULL)
    if os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        pytest.skip("/dev/fuse is open to everybody here")
    assert done.returncode == 1
    assert "/dev/fuse is not open to you: chmod 666 /dev/fuse as root" in done.stderr
    place.nothing_left()


# What the terminal does at Ctrl-C, once everything has been said.
CTRL_C = """
import os, signal, subprocess
tour = subprocess.Popen(["./try"], start_new_session=True, stdout=subprocess.PIPE, text=True)
for line in tour.stdout:
    if "everything else" in line:
        os.killpg(tour.pid, signal.SIGINT)
assert tour.wait() == 0, tour.returncode
assert "nothing is left mounted" in line, line
"""


def test_try_as_a_user(place, user):
    """`./try` on a copy of the sources that belongs to the user, who has neither root nor sudo: the tour, and with Ctrl-C."""
    copy = place.path / "home" / "altitude"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(
        ".git", "build", "build-*", "__pycache__", ".pytest_cache"))
    for path in (copy, *copy.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    done = user("""
        unset ALTITUDE_BUILD ALTITUDE_MODULE_PATH ALTITUDE_REGISTRY LD_LIBRARY_PATH ALTITUDE_NO_BUILD
        PATH=/usr/bin:/bin:/usr/sbin:/sbin
        cd "$HOME/altitude"
        ./try --once
        ! grep "$HOME" /proc/self/mountinfo
        python3 -c "$CTRL_C"
        ! grep "$HOME" /proc/self/mountinfo
        ! ls -d "$TMPDIR"/altitude-try.*
    """, timeout=600)
    assert "nothing is left mounted; the tour is over" in done.stdout
    assert "content_screener" in done.stdout and "\nand still:            file in" in done.stdout
    assert "\nthe same open file:    guvf svyr" in done.stdout, "the filter that came did not turn what an open file reads"
    assert re.search(r"\n[\d:.]+ cat +\d+ +\d+ read +/letters/first.txt +69 +\d+\n", done.stdout)
    assert "\033" not in done.stdout, "no terminal"
    place.nothing_left()
