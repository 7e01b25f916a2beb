# SPDX-License-Identifier: MIT
"""Hearing inode by inode, as an ordinary user's server does: what the marks are, and what is right where there are none.

Most of it runs in a user namespace: there root is nobody outside, and has a limit of marks of its own.
"""
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

fixtures = sys.modules["altitude_fixtures"]
until = fixtures.until
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


def marks(pid):
    """How many inodes the server of a volume has marked, as the kernel tells."""
    found = 0
    for info in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            found += sum(line.startswith("fanotify ino:") for line in info.read_text().splitlines())
        except OSError:
            pass    # closed meanwhile
    return found


@ROOT_ALONE
def test_this_file_as_an_ordinary_user(tmp_path):
    done = fixtures.tests_as_user(tmp_path, "filesystems/dir/test_each.py")
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert done.stdout.count("PASSED ") == 11
    for line in done.stdout.splitlines():
        assert not line.startswith("SKIPPED") or line.endswith("only root may do this"), line


@pytest.fixture
def pair(mount, tmp_path):
    """A volume, the tree below it, and a directory beside that one."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for path in (tree, tree / "dir", tree / "dir" / "deep", outside):
        path.mkdir()
    for path in (tree / "file", tree / "dir" / "inner", tree / "dir" / "deep" / "leaf"):
        path.write_text("first")
    volume = mount(f"dir:{tree}")
    assert "not heard of" not in volume.said()
    for name in ("file", "dir", "dir/inner", "dir/deep", "dir/deep/leaf"):
        os.stat(volume.mnt / name)
        assert not os.path.exists(volume.mnt / f"{name}x")
    return volume, tree, outside


def size_is(path, size):
    until(f"{path} has {size} bytes", lambda: os.stat(path).st_size == size, 20)


def test_what_is_done_by_a_name_outside_is_seen(pair):
    """Told to no directory of the volume: neither that the file has a second name, nor what is written by it."""
    volume, tree, outside = pair
    os.link(tree / "file", outside / "name")
    until("two links", lambda: os.stat(volume.mnt / "file").st_nlink == 2, 20)
    for size in range(10, 30):
        os.truncate(outside / "name", size)
        size_is(volume.mnt / "file", size)
    os.unlink(tree / "file")
    until("the name is gone", lambda: not os.path.exists(volume.mnt / "file"), 20)
    os.rename(outside / "name", tree / "dir" / "deep" / "leaf")
    size_is(volume.mnt / "dir" / "deep" / "leaf", 29)
    assert os.stat(volume.mnt / "dir" / "deep" / "leaf").st_nlink == 1


def test_a_directory_that_moved_out_and_back_is_what_it_became(pair):
    volume, tree, outside = pair
    os.rename(tree / "dir", outside / "dir")
    until("it is gone", lambda: not os.path.exists(volume.mnt / "dir"), 20)
    (outside / "dir" / "inner").write_text("longer than before")
    (outside / "dir" / "innerx").write_text("new")
    os.unlink(outside / "dir" / "deep" / "leaf")
    os.chmod(outside / "dir" / "deep", 0o711)
    os.rename(outside / "dir", tree / "dir")
    until("it is back", lambda: os.path.exists(volume.mnt / "dir"), 20)
    size_is(volume.mnt / "dir" / "inner", 18)
    until("what was made outside", lambda: os.path.exists(volume.mnt / "dir" / "innerx"), 20)
    until("what was removed outside", lambda: not os.path.exists(volume.mnt / "dir" / "deep" / "leaf"), 20)
    assert os.stat(volume.mnt / "dir" / "deep").st_mode & 0o777 == 0o711
    assert os.listdir(volume.mnt / "dir" / "deep") == []


def test_who_stands_in_a_directory_that_moved_sees_it_truly(pair):
    volume, tree, outside = pair
    held = os.open(volume.mnt / "dir", os.O_RDONLY)
    try:
        os.stat("inner", dir_fd=held)
        os.rename(tree / "dir", tree / "moved")     # within the volume
        until("its new name", lambda: os.path.exists(volume.mnt / "moved" / "inner"), 20)
        (tree / "moved" / "inner").write_text("0123456789")
        until("what is in it", lambda: os.stat("inner", dir_fd=held).st_size == 10, 20)
        (tree / "moved" / "innerx").write_text("")
        until("what is new in it", lambda: "innerx" in os.listdir(held), 20)
        os.stat("innerx", dir_fd=held)
        os.rename(tree / "moved", outside / "moved")
        until("that it went", lambda: not os.path.exists(volume.mnt / "moved"), 20)
        os.chmod(outside / "moved", 0o705)
        until("its mode", lambda: os.fstat(held).st_mode & 0o777 == 0o705, 20)
    finally:
        os.close(held)


def test_a_directory_that_was_replaced_shows_the_other(pair):
    volume, tree, outside = pair
    for n in range(20):     # the number of a removed inode is given to the next
        for path in (tree / "dir" / "deep" / "leaf", tree / "dir" / "inner"):
            os.unlink(path)
        os.rmdir(tree / "dir" / "deep")
        os.rmdir(tree / "dir")
        (tree / "dir" / "deep").mkdir(parents=True)
        (tree / "dir" / "deep" / "leaf").write_text("x" * n)
        (tree / "dir" / "inner").write_text("y" * n)
        until("the new ones", lambda: [os.path.exists(volume.mnt / "dir" / "inner"),
                                       os.path.exists(volume.mnt / "dir" / "deep" / "leaf")] == [True, True], 20)
        size_is(volume.mnt / "dir" / "deep" / "leaf", n)
        size_is(volume.mnt / "dir" / "inner", n)
        (tree / "dir" / "deep" / "leaf").write_text("x" * (n + 50))
        size_is(volume.mnt / "dir" / "deep" / "leaf", n + 50)


def test_what_may_not_be_read_is_asked_for_each_time(pair):
    """It cannot be marked (by root it can). Not right soon, but at once."""
    volume, tree, outside = pair
    (tree / "hidden").mkdir()
    (tree / "secret").write_text("")
    os.chmod(tree / "secret", 0o200)
    os.chmod(tree / "hidden", 0o300)
    until("they are there", lambda: os.path.exists(volume.mnt / "hidden") and os.path.exists(volume.mnt / "secret"), 20)
    soon = until if os.geteuid() == 0 else lambda what, see, seconds: see() or pytest.fail(f"not at once: {what}")
    for size in range(1, 40):
        new = volume.mnt / "hidden" / f"new{size}"
        assert not os.path.exists(new)
        os.mkdir(tree / "hidden" / new.name)
        os.truncate(tree / "secret", size)
        soon("a new name", lambda: os.path.exists(new), 20)
        soon("a new size", lambda: os.stat(volume.mnt / "secret").st_size == size, 20)
    os.chmod(tree / "hidden", 0o700)


def test_in_a_directory_that_may_not_be_listed_the_rest_is_heard_of(mount, tmp_path):
    tree = tmp_path / "closed"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir" / "inner").write_text("")
    tree.chmod(0o311)
    try:
        volume = mount(f"dir:{tree}")
        assert "not heard of" not in volume.said()
        held = os.open(volume.mnt / "dir", os.O_PATH)       # what leads there is asked for
        os.stat("inner", dir_fd=held)
        before = volume.stats()["operations"]
        for _ in range(100):
            os.stat("inner", dir_fd=held)
        assert volume.stats()["operations"] == before
        for size in range(1, 20):
            os.truncate(tree / "dir" / "inner", size)
            size_is(volume.mnt / "dir" / "inner", size)
            os.mkdir(tree / f"new{size}")
            until("a new name", lambda: os.path.exists(volume.mnt / f"new{size}"), 20)
        os.close(held)
    finally:
        tree.chmod(0o755)


def test_own_changes_cost_no_notice(pair):
    """What is done through the volume is passed over: nothing that was known is asked for again."""
    if os.geteuid() == 0:
        pytest.skip("as a user: here root's data passes through")
    volume, tree, outside = pair
    with open(volume.mnt / "file", "wb", buffering=0) as f:
        f.write(b"x" * 100)
    os.mkdir(volume.mnt / "made")
    os.rename(volume.mnt / "dir" / "inner", volume.mnt / "made" / "inner")
    for name in ("", "file", "made", "made/inner", "dir"):
        os.stat(volume.mnt / name)
    before = volume.stats()["operations"]
    os.chmod(tree / "dir" / "deep", 0o711)      # a notice that comes after all there could be
    until("the notice", lambda: os.stat(volume.mnt / "dir" / "deep").st_mode & 0o777 == 0o711, 20)
    for name in ("", "file", "made", "made/inner", "dir"):
        os.stat(volume.mnt / name)
    after = volume.stats()["operations"]
    assert {op: n - before.get(op, 0) for op, n in after.items() if n != before.get(op, 0)} == {"getattr": 1}


def test_what_ended_has_no_mark(pair):
    if os.geteuid() == 0:
        pytest.skip("root marks the file system")
    volume, tree, outside = pair
    known = marks(volume.pid)
    assert known >= 6
    for n in range(100):
        (tree / f"n{n}").write_text("")
    until("all", lambda: len(os.listdir(volume.mnt)) == 102, 20)
    for n in range(100):
        os.stat(volume.mnt / f"n{n}")
    assert marks(volume.pid) == known + 100
    for n in range(100):
        os.unlink((tree if n % 2 else volume.mnt) / f"n{n}")
    until("those that ended", lambda: marks(volume.pid) == known, 20)


def test_an_open_file_without_names_is_heard_of(pair):
    """Its mark goes with the last name, when it was opened by another one."""
    volume, tree, outside = pair
    for n in range(300):
        one, two = tree / f"one{n}", tree / f"two{n}"
        one.write_text("")
        until("it is there", lambda: os.path.exists(volume.mnt / one.name), 20)
        with open(volume.mnt / one.name) as above, open(one) as below:
            os.link(one, two)
            os.unlink(one)
            until("a name", lambda: os.fstat(above.fileno()).st_nlink == 1, 20)
            os.unlink(volume.mnt / two.name)
            assert os.fstat(above.fileno()).st_nlink == 0       # at once: nobody has heard yet that the mark went
            os.fchmod(below.fileno(), 0o600 + n % 64)
            until("its mode", lambda: os.fstat(above.fileno()).st_mode & 0o777 == 0o600 + n % 64, 5)


def test_what_ended_leaves_nothing_behind(pair):
    """Else it were a mark nobody needs, and for the sake of many such everything would be forgotten."""
    if os.geteuid() == 0:
        pytest.skip("root marks the file system")
    volume, tree, outside = pair
    known = marks(volume.pid)
    for n in range(9000):
        path = tree / f"n{n}"
        path.write_text("")
        until("it is there", lambda: os.path.exists(volume.mnt / path.name), 20)
        os.unlink(path)
    until("those that ended", lambda: not os.path.exists(volume.mnt / path.name), 20)
    assert marks(volume.pid) == known
    before = volume.stats()["operations"]
    os.stat(volume.mnt / "dir" / "deep" / "leaf")
    after = volume.stats()["operations"]
    assert {op for op, n in after.items() if n != before.get(op, 0)} <= {"getattr"}     # of the root, which did change


def test_marks_of_what_the_kernel_forgot_are_given_back(pair):
    if os.geteuid() == 0:
        pytest.skip("root marks the file system")
    volume, tree, outside = pair
    (tree / "many").mkdir()
    for n in range(9000):
        (tree / "many" / f"n{n}").write_text("")
    until("all", lambda: os.path.exists(volume.mnt / "many"), 20)
    for n in range(9000):
        os.stat(volume.mnt / "many" / f"n{n}")
    assert marks(volume.pid) > 9000
    os.rename(tree / "many", outside / "many")
    until("the kernel forgot", lambda: not os.path.exists(volume.mnt / "many"), 20)
    until("so did the server", lambda: marks(volume.pid) < 2000, 20)
    (tree / "file").write_text("not first")     # and goes on to hear
    size_is(volume.mnt / "file", 9)
    os.stat(volume.mnt / "dir" / "inner")
    os.truncate(tree / "dir" / "inner", 77)
    size_is(volume.mnt / "dir" / "inner", 77)


# Root of a user namespace: it may mount FUSE, and user.max_fanotify_marks is its own. Not fs.fanotify.max_user_marks: that is
# the machine's, and this root is the one that may write it.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "bash", "-euc"]


@ROOT_ALONE
def test_without_marks_nothing_is_stale_and_one_line_says_why(tmp_path):
    for name in ("tree", "mnt", "run"):
        (tmp_path / name).mkdir()
    machine = pathlib.Path("/proc/sys/fs/fanotify/max_user_marks")
    before = machine.read_text()
    env = dict(fixtures.ENV, ALTITUDE_RUNTIME=str(tmp_path / "run"), PATH=f"{fixtures.BUILD}:{os.environ['PATH']}")
    done = subprocess.run([*NAMESPACE, textwrap.dedent("""
        echo 40 >/proc/sys/user/max_fanotify_marks
        cd "$1"
        for n in $(seq 100); do echo $n >tree/f$n; done
        altitude mount --foreground dir:tree mnt 2>said & server=$!
        until grep -q " $1/mnt " /proc/self/mountinfo && altitude volumes | grep -q tree; do
            kill -0 $server; sleep 0.02
        done
        for times in 1 2; do stat mnt/f* >known; done
        echo marks $(cat /proc/$server/fdinfo/* | grep -c '^fanotify ino:')
        for n in $(seq 100); do echo longer >tree/f$n; mkdir tree/d$n; done
        for n in $(seq 100); do
            for try in $(seq 200); do [ $(stat -c %s mnt/f$n) = 7 ] && [ -d mnt/d$n ] && break; sleep 0.02; done
            [ $(stat -c %s mnt/f$n) = 7 ] && [ -d mnt/d$n ] || echo stale $n
        done
        altitude unmount mnt
        wait $server
    """), "limit", str(tmp_path)], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=120, env=env)
    if "Operation not permitted" in done.stderr and not (tmp_path / "said").exists():
        pytest.skip(f"no user namespaces here: {done.stderr}")
    assert machine.read_text() == before, "this was to be the namespace's own"
    said = (tmp_path / "said").read_text()
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{said}"
    words, count = done.stdout.split()
    assert words == "marks" and 0 < int(count) <= 40
    assert said.count("no more marks") == 1 and "max_user_marks" in said
