# SPDX-License-Identifier: MIT
"""What is remembered is never wrong: changes below are seen through the mount, and what did not change is not asked for."""
import ctypes
import mmap
import errno
import os
import struct
import subprocess
import sys
import time

import pytest

from altitude_calls import answer, write_two

fixtures = sys.modules["altitude_fixtures"]
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
SOON = 20       # seconds: an event that nobody announces; far from what it takes


def until(see, wanted):
    """Wait until the mount tells what is below; how long it took."""
    begun = time.monotonic()
    while (seen := see()) != wanted:
        assert time.monotonic() - begun < SOON, f"still {seen!r}, not {wanted!r}"
        time.sleep(0.0002)
    return time.monotonic() - begun


@pytest.fixture
def pair(mount, tmp_path):
    """A volume whose changes are heard of, and the tree below it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("first")
    (tree / "dir").mkdir()
    (tree / "dir" / "inner").write_text("x")
    volume = mount(f"dir:{tree}")
    if "not heard of" in volume.said():
        pytest.skip(volume.said().strip())
    return volume, tree


def counts(volume):
    lines = (line.split() for line in volume.cli("stats", volume.mnt).stdout.splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}


class asked:
    """The operations that reached the server in a block: `with asked(volume) as a: ...; assert a.of("lookup") == 0`."""

    def __init__(self, volume):
        self.volume = volume

    def __enter__(self):
        self.before = counts(self.volume)
        return self

    def __exit__(self, *exc):
        after = counts(self.volume)
        self.difference = {op: n - self.before.get(op, 0) for op, n in after.items() if n != self.before.get(op, 0)}


def look(path):
    """What a careful reader sees of a path."""
    try:
        st = os.lstat(path)
        return (st.st_mode, st.st_size, st.st_nlink, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_ctime_ns,
                sorted(os.listdir(path)) if os.path.isdir(path) else
                open(path).read() if os.path.isfile(path) else os.readlink(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return "stale"      # renamed below between two steps: the kernel asks again once, and gives up the second time


def exchange(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def mapped(path):
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0:1] = b"M"


CHANGES = {
    "create": lambda t: (t / "new").write_text("new"),
    "append": lambda t: open(t / "file", "a").write("more"),
    "overwrite": lambda t: open(t / "file", "r+").write("FIRST"),
    "truncate": lambda t: os.truncate(t / "file", 1),
    "map": lambda t: mapped(t / "file"),
    "chmod": lambda t: os.chmod(t / "file", 0o600),
    "chown": lambda t: os.chown(t / "file", 12, 34) if os.geteuid() == 0 else os.chown(t / "file", -1, os.getegid()),
    "utime": lambda t: os.utime(t / "file", ns=(5, 7)),
    "chmod of a directory": lambda t: os.chmod(t / "dir", 0o700),
    "chmod of the root": lambda t: os.chmod(t, 0o750),
    "unlink": lambda t: os.unlink(t / "file"),
    "rename": lambda t: os.rename(t / "file", t / "moved"),
    "rename onto": lambda t: os.rename(t / "file", t / "dir" / "inner"),
    "rename of a directory": lambda t: os.rename(t / "dir", t / "new"),
    "exchange": lambda t: exchange(t / "file", t / "dir"),
    "link": lambda t: os.link(t / "file", t / "new"),
    "symlink": lambda t: os.symlink("file", t / "new"),
    "mkdir": lambda t: os.mkdir(t / "new"),
    "rmdir": lambda t: (os.unlink(t / "dir" / "inner"), os.rmdir(t / "dir")),
    "replace": lambda t: (os.unlink(t / "file"), os.mkdir(t / "file")),
    "set-user-id": lambda t: os.chmod(t / "file", 0o4755),
    "fifo": lambda t: os.mkfifo(t / "dir" / "new"),
}
NAMES = ["", "file", "dir", "dir/inner", "new", "moved", "new/inner", "dir/new"]


@ROOT_ALONE
def test_an_ordinary_user_hears_the_same(tmp_path):
    """All of this file once more. What only root may do is left out, and nothing else."""
    done = fixtures.tests_as_user(tmp_path, "filesystems/dir/test_watch.py")
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert done.stdout.count("PASSED ") >= len(CHANGES) + 11
    for line in done.stdout.splitlines():
        assert not line.startswith("SKIPPED") or line.endswith("only root may do this"), line


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_below_is_seen(pair, change):
    volume, tree = pair
    for name in NAMES * 2:
        look(volume.mnt / name)     # everything is remembered now, also what is not there
    change(tree)
    took = max(until(lambda: look(volume.mnt / name), look(tree / name)) for name in NAMES if not is_fifo(tree / name))
    print(f"seen after {took * 1000:.2f} ms")


def changed(path):
    st = os.stat(path)          # no more: a read would make the kernel ask anew
    return st.st_nlink, st.st_ctime_ns


@pytest.mark.parametrize("where", ["beside", "where nobody looked"])
def test_another_name_of_a_file_is_renamed(pair, where):
    """The file's time of change is told by each of its names; that one was never asked for above."""
    volume, tree = pair
    (tree / "far").mkdir()
    other = tree / ("." if where == "beside" else "far") / "other"
    os.link(tree / "file", other)
    until(lambda: changed(volume.mnt / "file"), changed(tree / "file"))
    for n in range(20):
        other = other.rename(f"{other}{n}")
        until(lambda: changed(volume.mnt / "file"), changed(tree / "file"))


@ROOT_ALONE
def test_a_directory_that_left_for_where_nobody_looked_is_renamed(pair):
    volume, tree = pair
    (tree / "far").mkdir()
    held = os.open(volume.mnt / "dir", os.O_PATH)
    away = (tree / "dir").rename(tree / "far" / "dir")
    for n in range(20):
        until(lambda: changed(f"/proc/self/fd/{held}"), changed(away))
        away = away.rename(f"{away}{n}")
    os.close(held)


def is_fifo(path):
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


@ROOT_ALONE
def test_an_acl_below_is_obeyed_at_once(pair):
    volume, tree = pair
    os.chmod(tree / "file", 0o600)

    def allowed():
        return subprocess.run(["setpriv", "--reuid=1234", "--clear-groups", "cat", str(volume.mnt / "file")],
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode == 0

    os.chmod(tree.parent, 0o755)
    until(allowed, False)
    subprocess.run(["setfacl", "-m", "u:1234:r", str(tree / "file")], check=True)
    until(allowed, True)
    subprocess.run(["setfacl", "-b", str(tree / "file")], check=True)
    until(allowed, False)


def test_what_did_not_change_is_not_asked_for(pair):
    volume, tree = pair
    for name in NAMES:
        look(volume.mnt / name)
    os.stat(volume.mnt / "dir" / "inner")       # its time of access changed as it was read
    with asked(volume) as a:
        for _ in range(100):
            os.stat(volume.mnt / "dir" / "inner")
            assert not os.path.exists(volume.mnt / "dir" / "nothing")
    assert a.difference == {"lookup": 1}        # of what was never asked before


def test_a_filter_that_wants_to_see_lookups_sees_each(pair):
    volume, tree = pair
    look(volume.mnt / "file")
    volume.attach("passthrough")
    with asked(volume) as a:
        for _ in range(50):
            os.stat(volume.mnt / "dir" / "inner")
    assert a.difference["lookup"] + a.difference.get("getattr", 0) >= 50
    volume.detach("passthrough")
    os.stat(volume.mnt / "dir" / "inner")
    with asked(volume) as a:
        for _ in range(50):
            os.stat(volume.mnt / "dir" / "inner")
    assert a.difference.get("lookup", 0) + a.difference.get("getattr", 0) <= 3     # each is asked again once


def test_size_and_times_of_a_file_being_written_below_are_right(pair):
    volume, tree = pair
    with open(tree / "file", "ab", buffering=0) as f:
        for n in range(200):
            f.write(b"y" * 100)
            until(lambda: os.stat(volume.mnt / "file").st_size, 5 + (n + 1) * 100)


def test_a_file_written_through_the_mount_is_right_from_below_and_above(pair):
    """More writes than are heard of: the file is silent by then, and its attributes are asked for."""
    volume, tree = pair
    with open(volume.mnt / "file", "ab", buffering=0) as above, open(tree / "file", "ab", buffering=0) as below:
        for n in range(100):
            above.write(b"a" * 10)
            assert os.stat(volume.mnt / "file").st_size == os.stat(tree / "file").st_size
            below.write(b"b" * 10)
            until(lambda: os.stat(volume.mnt / "file").st_size, os.stat(tree / "file").st_size)
    with open(tree / "file", "ab") as below:    # the last writer above is gone: it is heard of again
        below.write(b"end")
    until(lambda: os.stat(volume.mnt / "file").st_size, os.stat(tree / "file").st_size)


def test_a_mapped_write_above_changes_the_times(pair):
    volume, tree = pair
    os.utime(tree / "file", ns=(5, 7))
    until(lambda: os.stat(volume.mnt / "file").st_mtime_ns, 7)
    mapped(volume.mnt / "file")
    until(lambda: os.stat(volume.mnt / "file").st_mtime_ns, os.stat(tree / "file").st_mtime_ns)
    assert os.stat(tree / "file").st_mtime_ns != 7


def test_the_first_step_into_a_volume_is_not_refused_while_it_changes(mount, tmp_path):
    """The kernel made up a root that nobody may enter, and a notice made it throw away the answer with the true one."""
    tree = tmp_path / "busy"
    tree.mkdir()
    (tree / "file").write_text("x")
    busy = subprocess.Popen([sys.executable, "-c", "import os, sys\nos.chdir(sys.argv[1])\n"
                             "while True: os.close(os.open('a', os.O_CREAT | os.O_WRONLY)), os.unlink('a')", str(tree)])
    try:
        for _ in range(10):
            volume = mount(f"dir:{tree}")
            os.stat(volume.mnt / "file")
            assert volume.unmount() == 0
    finally:
        busy.kill()
        busy.wait()


def test_lost_events_are_an_epoch_not_a_stale_view(pair):
    volume, tree = pair
    names = [f"n{n}" for n in range(200)]
    others = [f"o{n}" for n in range(200)]
    for name in others:
        (tree / name).write_text("")
    for name in names + others:
        look(volume.mnt / name)
    os.kill(volume.pid, 19)                     # SIGSTOP: nobody takes the events
    try:
        for n in range(40000):                  # more than a queue of fanotify holds (16384)
            os.close(os.open(tree / f"many{n}", os.O_CREAT | os.O_WRONLY))
        for name in others:                     # the end of these is not heard of
            os.unlink(tree / name)
        for name in others + names:
            (tree / name).write_text(name)
    finally:
        os.kill(volume.pid, 18)
    for name in names + others:
        until(lambda: look(volume.mnt / name), look(tree / name))
    for name in names + others:
        (tree / name).write_text("once more")
        until(lambda: look(volume.mnt / name), look(tree / name))


def unmount(path):
    """The server closes what was open there a moment after close(2)."""
    until(lambda: subprocess.run(["umount", str(path)], stderr=subprocess.DEVNULL).returncode, 0)


@ROOT_ALONE
def test_a_file_system_mounted_below_appears_and_goes(pair):
    volume, tree = pair
    look(volume.mnt / "dir")
    os.listdir(volume.mnt / "dir")
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(tree / "dir")], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        (tree / "dir" / "on tmpfs").write_text("t")
        until(lambda: os.listdir(volume.mnt / "dir"), ["on tmpfs"])
        os.unlink(tree / "dir" / "on tmpfs")
        until(lambda: os.listdir(volume.mnt / "dir"), [])
    finally:
        unmount(tree / "dir")
    until(lambda: os.listdir(volume.mnt / "dir"), ["inner"])


def space(path):
    st = os.statvfs(path)
    return st.f_blocks, st.f_files, st.f_namemax


@ROOT_ALONE
def test_a_file_system_mounted_below_tells_its_own_space(pair):
    volume, tree = pair
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "none", str(tree / "dir")],
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        (tree / "dir" / "on tmpfs").write_text("t")
        until(lambda: os.listdir(volume.mnt / "dir"), ["on tmpfs"])
        for name in ("", "file", "dir", "dir/on tmpfs"):
            assert space(volume.mnt / name) == space(tree / name), name
        assert space(volume.mnt / "dir") != space(volume.mnt)
    finally:
        unmount(tree / "dir")


def test_the_space_is_told_by_a_file_that_is_gone(pair):
    """Natively an inode that is there for nobody else tells it too."""
    volume, tree = pair
    held = os.open(volume.mnt / "dir" / "inner", os.O_PATH)
    os.unlink(tree / "dir" / "inner")
    assert os.fstatvfs(held).f_blocks == os.statvfs(tree).f_blocks
    os.close(held)


def numbers(top):
    """{path: (device, inode)}; a listing tells the same as a look, but for what something is mounted on."""
    found = {}
    for entry in os.scandir(top):
        st = entry.stat(follow_symlinks=False)
        assert entry.inode() == st.st_ino or os.path.ismount(entry.path) or entry.is_dir(), entry.path
        found[entry.path] = st.st_dev, st.st_ino
        if entry.is_dir():
            found |= numbers(entry.path)
    return found


@ROOT_ALONE
def test_no_two_files_have_one_number_whatever_is_mounted_below(pair):
    """tar and rsync take them for hard links of each other: to those above all is one device."""
    volume, tree = pair
    places = [tree / "dir", tree / "dir2"]
    places[1].mkdir()
    done = []
    try:
        for place in places:
            if subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], stderr=subprocess.DEVNULL).returncode:
                pytest.skip("tmpfs cannot be mounted here")
            done.append(place)
            for n in range(10):
                (place / f"f{n}").write_text("")
            os.link(place / "f0", place / "again")
        assert os.stat(places[0] / "f0").st_ino == os.stat(places[1] / "f0").st_ino, "or this shows nothing"
        until(lambda: [len(os.listdir(volume.mnt / place.name)) for place in places], [11, 11])
        for _ in range(2):          # the second listing brings attributes
            seen = numbers(volume.mnt)
            assert len(seen) == 25 and len(set(seen.values())) == 23
        for place in places:
            assert os.path.samefile(volume.mnt / place.name / "f0", volume.mnt / place.name / "again")
        assert os.stat(volume.mnt / "file").st_ino == os.stat(tree / "file").st_ino
    finally:
        for place in done:
            unmount(place)


@ROOT_ALONE
def test_what_is_not_in_a_file_system_mounted_below_is_not_remembered(pair):
    volume, tree = pair
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(tree / "dir")], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        until(lambda: os.listdir(volume.mnt / "dir"), [])
        assert not os.path.exists(volume.mnt / "dir" / "new")
        (tree / "dir" / "new").write_text("x")
        assert os.path.exists(volume.mnt / "dir" / "new")
    finally:
        subprocess.run(["umount", str(tree / "dir")], check=True)


@ROOT_ALONE
def test_files_of_a_file_system_mounted_below_are_written_there(pair):
    """The same kind of file system twice: what tells a file in one must not be asked of the other."""
    volume, tree = pair
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(tree / "dir")], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        for n in range(50):
            (tree / f"outer{n}").write_text("outer")
        until(lambda: os.listdir(volume.mnt / "dir"), [])
        for n in range(50):
            (volume.mnt / "dir" / f"new{n}").write_text(f"inner {n}")
            with open(volume.mnt / "dir" / f"new{n}", "a") as f:
                f.write("!")
        assert [(tree / "dir" / f"new{n}").read_text() for n in range(50)] == [f"inner {n}!" for n in range(50)]
        assert {(tree / f"outer{n}").read_text() for n in range(50)} == {"outer"}
    finally:
        unmount(tree / "dir")


WRITES = {"write": os.O_WRONLY, "both": os.O_RDWR, "append": os.O_WRONLY | os.O_APPEND, "truncate": os.O_WRONLY | os.O_TRUNC,
          "create": os.O_WRONLY | os.O_CREAT}


@ROOT_ALONE
@pytest.mark.parametrize("how", ["remount,bind", "remount"])
@pytest.mark.parametrize("first", ["ro", "rw"])
def test_a_mount_below_that_becomes_read_only_or_ends_to_be_is_obeyed(mount, tmp_path, how, first):
    """What passes through is opened in a mount of the server's own, which was made when the volume began."""
    tree = tmp_path / "tree"
    tree.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(tree)], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted here")

    def turn(to):
        subprocess.run(["mount", "-o", f"{how},{to}", str(tree)], check=True)

    try:
        (tree / "file").write_text("first")
        turn(first)
        volume = mount(f"dir:{tree}")
        for state in (first, "rw" if first == "ro" else "ro", first):
            turn(state)
            for name, flags in WRITES.items():
                seen = [answer(write_two, top / "file", flags) for top in (volume.mnt, tree)]
                assert seen == [2 if state == "rw" else "EROFS"] * 2, (state, name)
            assert (volume.mnt / "file").read_text() == (tree / "file").read_text()
            if state == "rw":
                assert write_two(volume.mnt / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL) == 2
                os.unlink(volume.mnt / "new")
        assert volume.unmount() == 0
    finally:
        subprocess.run(["umount", "-l", str(tree)], check=True)


def test_watching_can_be_left_out(mount, tmp_path):
    tree = tmp_path / "quiet"
    tree.mkdir()
    (tree / "file").write_text("1")
    volume = mount(f"dir:{tree}", watch="no")
    for size in range(2, 50):
        os.stat(volume.mnt / "file")
        os.truncate(tree / "file", size)
        assert os.stat(volume.mnt / "file").st_size == size     # at once: nothing is remembered


class inotify:
    """Who watches through the mount: (what was watched, what happened, to which name), as they come."""
    KINDS = {0x2: "modify", 0x4: "attrib", 0x8: "close_write", 0x40: "moved_from", 0x80: "moved_to", 0x100: "create",
             0x200: "delete", 0x400: "delete_self", 0x800: "move_self"}

    def __init__(self, *paths):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watched = {libc.inotify_add_watch(self.fd, os.fsencode(p), sum(self.KINDS)): p.name for p in paths}
        self.seen = []
        assert self.fd >= 0 and -1 not in self.watched

    def heard(self):
        try:
            told = os.read(self.fd, 65536)
        except BlockingIOError:
            told = b""
        while told:
            watch, mask, _, length = struct.unpack_from("iIII", told)
            name = told[16:16 + length].rstrip(b"\0").decode()
            self.seen += [(self.watched[watch], kind, name) for bit, kind in self.KINDS.items() if mask & bit]
            told = told[16 + length:]
        return self.seen

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.close(self.fd)


def test_who_watches_a_file_hears_of_its_end_below(pair):
    volume, tree = pair
    (tree / "open").write_text("x")
    with inotify(volume.mnt / "file", volume.mnt / "open") as watch:
        os.unlink(tree / "file")
        until(watch.heard, [("file", "delete_self", "")])
        with open(volume.mnt / "open"):
            os.unlink(tree / "open")
            until(lambda: os.path.exists(volume.mnt / "open"), False)
            assert watch.heard() == [("file", "delete_self", "")]       # as long as it is open, it is there
        until(watch.heard, [("file", "delete_self", ""), ("open", "delete_self", "")])


def test_a_file_that_loses_one_of_its_names_below_stays_whole(pair):
    volume, tree = pair
    os.link(tree / "file", tree / "second")
    os.stat(volume.mnt / "second")
    with inotify(volume.mnt / "file") as watch:
        os.unlink(tree / "file")
        until(lambda: os.path.exists(volume.mnt / "file"), False)
        os.link(volume.mnt / "second", volume.mnt / "third")            # refused of a file without a name
        assert os.stat(volume.mnt / "second").st_nlink == 2
        assert "delete_self" not in [kind for _, kind, _ in watch.heard()]


def test_what_else_happens_below_is_seen_but_not_heard_by_inotify(pair):
    """FUSE has no word for it. Should the kernel learn one, the manual is to be changed with this test."""
    volume, tree = pair
    with inotify(volume.mnt, volume.mnt / "file", volume.mnt / "dir", volume.mnt / "dir" / "inner") as watch:
        (tree / "new").write_text("x")
        (tree / "file").write_text("longer")
        os.chmod(tree / "file", 0o600)
        os.rename(tree / "new", tree / "dir" / "inner")
        os.rename(tree / "dir", tree / "moved")
        until(lambda: look(volume.mnt / "moved" / "inner"), look(tree / "moved" / "inner"))
        until(lambda: look(volume.mnt / "file"), look(tree / "file"))
        assert watch.heard() == []
        os.chmod(volume.mnt / "file", 0o644)    # what is done through the mount is heard, all this time
        assert watch.heard() == [(volume.mnt.name, "attrib", "file"), ("file", "attrib", "")]
