# SPDX-License-Identifier: MIT
"""What is told of a file, and done to it, is what the native file system tells and does: field by field."""
import ctypes
import errno
import os
import shutil
import stat
import subprocess
import time

import pytest

import altitude_fixtures
from altitude_calls import answer, become, in_child, libc, write_two

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=[{}, {"passthrough": "no"}, {"watch": "no"}], ids=["through", "cached", "unwatched"])
def volume(mount, request):
    return mount("dir:", **request.param)


def test_every_attribute_is_the_one_below(volume):
    """The time of birth is told by stat(1) alone; it asks by statx(2), as do those it is compared with."""
    (volume.mnt / "f").write_bytes(b"x" * 5000)
    os.utime(volume.mnt / "f", ns=(1_111_111_111_111_111_111, 1_222_222_222_222_222_222))
    (volume.mnt / "d").mkdir()
    told = ["stat", "-c", "%a %b %B %f %g %h %i %o %s %t %T %u %W %X %Y %Z %x %y %z %w", "f", "d"]
    want = subprocess.run(told, cwd=volume.tree, stdout=subprocess.PIPE, text=True, check=True).stdout
    altitude_fixtures.until("the same above", lambda: subprocess.run(told, cwd=volume.mnt, stdout=subprocess.PIPE, text=True,
                                                                     check=True).stdout == want, 20)


@pytest.mark.parametrize("which", ["atime", "mtime"])
def test_a_time_becomes_now(volume, which):
    """touch -a and -m set one of them, and leave the other."""
    f = volume.mnt / "f"
    f.touch()
    os.utime(f, ns=(5, 7))
    subprocess.run(["touch", f"--time={which}", f], check=True)
    for st in (os.stat(f), os.stat(volume.tree / "f")):
        assert (st.st_atime_ns == 5, st.st_mtime_ns == 7) == (which == "mtime", which == "atime")
        assert abs(time.time() - (st.st_atime if which == "atime" else st.st_mtime)) < 600


@root_only
def test_numbers_of_devices_are_whole(volume):
    for n, (major, minor) in enumerate([(1, 3), (259, 70000), (4095, (1 << 20) - 1), (0, 256), (256, 0)]):
        os.mknod(volume.mnt / f"above{n}", stat.S_IFCHR | 0o600, os.makedev(major, minor))
        os.mknod(volume.tree / f"below{n}", stat.S_IFBLK | 0o600, os.makedev(major, minor))
        for top in (volume.mnt, volume.tree):
            for name in (f"above{n}", f"below{n}"):
                assert os.lstat(top / name).st_rdev == os.makedev(major, minor), (top, name)


def test_the_space_is_told_number_by_number(volume, tmp_path):
    """What changes meanwhile is told once before and once after."""
    fixed = ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax")
    for _ in range(200):
        before, seen, after = os.statvfs(volume.tree), os.statvfs(volume.mnt), os.statvfs(volume.tree)
        if before == after:
            break
    assert [getattr(seen, name) for name in fixed] == [getattr(after, name) for name in fixed]
    for name in ("f_bfree", "f_bavail", "f_ffree"):
        low, high = sorted((getattr(before, name), getattr(after, name)))
        assert low - 4096 <= getattr(seen, name) <= high + 4096, name
    assert before.f_bavail == before.f_bfree or seen.f_bavail < seen.f_bfree


def test_kinds_of_entries_are_told_by_a_listing(volume):
    (volume.tree / "file").touch()
    (volume.tree / "dir").mkdir()
    (volume.tree / "link").symlink_to("file")
    os.mkfifo(volume.tree / "fifo")
    for _ in range(2):
        seen = subprocess.run(["find", volume.mnt, "-mindepth", "1", "-printf", "%P %y\n"], stdout=subprocess.PIPE, text=True)
        assert sorted(seen.stdout.split("\n")[:-1]) == ["dir d", "fifo p", "file f", "link l"]
    with os.scandir(volume.mnt) as entries:     # without a look at any
        kinds = {e.name: (e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries}
    assert kinds == {"file": (True, False, False), "dir": (False, True, False), "link": (False, False, True),
                     "fifo": (False, False, False)}


def flags_below(volume, name):
    """With which flags the server has the file open, those that only hold its place (O_PATH) left out."""
    for fd in os.listdir(f"/proc/{volume.pid}/fd"):
        try:
            if not os.readlink(f"/proc/{volume.pid}/fd/{fd}").endswith(f"/{name}"):
                continue
            with open(f"/proc/{volume.pid}/fdinfo/{fd}") as info:
                flags = int(next(line for line in info if line.startswith("flags:")).split()[1], 8)
        except FileNotFoundError:
            continue    # closed meanwhile
        if not flags & os.O_PATH:
            yield flags


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC, os.O_NOATIME], ids=["sync", "dsync", "noatime"])
def test_how_a_file_is_open_below(volume, flag):
    """The server's own descriptor serves what does not pass through."""
    (volume.tree / "f").touch()
    fd = os.open(volume.mnt / "f", os.O_RDWR | flag)
    assert {flags & flag for flags in flags_below(volume, "f")} == {flag}
    os.close(fd)
    fd = os.open(volume.mnt / "new", os.O_RDWR | os.O_CREAT | flag)
    assert {flags & flag for flags in flags_below(volume, "new")} == {flag}
    os.close(fd)


@root_only
def test_what_root_of_another_group_makes_has_that_group(volume):
    def work():
        os.setgroups([])
        os.setgid(12001)
        os.mkdir(volume.mnt / "d")
        os.close(os.open(volume.mnt / "f", os.O_CREAT | os.O_WRONLY))

    assert in_child(work) == 0
    assert [(os.stat(volume.tree / name).st_uid, os.stat(volume.tree / name).st_gid) for name in "df"] == [(0, 12001)] * 2


# ---- attributes ----

def open_to_all(volume, *attributes):
    f = volume.mnt / "f"
    f.touch()
    os.chmod(f, 0o666)
    for name in attributes:
        os.setxattr(f, name, b"1")
    return f


@root_only
def test_trusted_attributes_are_told_to_root_alone(volume):
    f = open_to_all(volume, "trusted.secret", "user.open")
    assert sorted(n for n in os.listxattr(f) if n != "security.selinux") == ["trusted.secret", "user.open"]

    def work():
        become(12001)
        assert "trusted.secret" not in os.listxattr(f) and "user.open" in os.listxattr(f)
        with open(f) as o:
            assert "trusted.secret" not in os.listxattr(o.fileno())

    assert in_child(work) == 0


@root_only
def test_a_list_that_does_not_fit_is_refused(volume):
    f = open_to_all(volume, "user.a", "trusted.longer.than.that")

    def work():
        become(12001)
        room = ctypes.create_string_buffer(100)
        for path in (f, volume.tree / "f"):
            assert libc.listxattr(os.fsencode(path), room, 3) == -1 and ctypes.get_errno() == errno.ERANGE
            assert libc.listxattr(os.fsencode(path), room, 100) == libc.listxattr(os.fsencode(path), None, 0) >= 7

    os.chmod(volume.tree, 0o755)
    assert in_child(work) == 0


@root_only
@pytest.mark.skipif(not shutil.which("setfacl"), reason="needs setfacl")
@pytest.mark.parametrize("mode", [0o2755, 0o2775, 0o6711])
def test_an_acl_takes_set_group_id_from_who_is_not_of_the_group(volume, tmp_path, mode):
    (tmp_path / "native").mkdir()

    def left(top):
        f = top / f"f{mode:o}"
        f.touch()
        os.chown(f, 12001, 12005)
        os.chmod(f, mode)

        def work():
            become(12001)
            subprocess.run(["setfacl", "-m", "u:12003:rw", f], check=True)

        assert in_child(work) == 0
        return oct(os.stat(f).st_mode)

    assert left(volume.mnt) == left(tmp_path / "native")
    assert os.stat(volume.tree / f"f{mode:o}").st_mode & stat.S_ISGID == 0


FLAGS = {"w": os.O_WRONLY, "rw": os.O_RDWR, "append": os.O_WRONLY | os.O_APPEND, "cut": os.O_WRONLY | os.O_APPEND | os.O_TRUNC,
         "create": os.O_CREAT | os.O_WRONLY, "create, append": os.O_CREAT | os.O_WRONLY | os.O_APPEND}


def chattr(how, *paths):
    return subprocess.run(["chattr", how, *paths], stderr=subprocess.DEVNULL).returncode


@root_only
@pytest.mark.parametrize("letter", "ai")
@pytest.mark.parametrize("opens", ["yes", "no"])
def test_what_may_not_be_changed_and_what_may_only_grow(mount, tmp_path, opens, letter):
    """chattr +i and +a, set and taken away through the volume. With open=no of a file that the server has not yet open."""
    native = tmp_path / "native"
    native.mkdir()
    (native / "probe").touch()
    if not shutil.which("chattr") or chattr(f"+{letter}", native / "probe") or chattr(f"-{letter}", native / "probe"):
        pytest.skip("no chattr, or not of the file system below")
    volume = mount("dir:", open=opens)

    def tried(top, below):
        f, d = top / "f", top / "d"
        (below / "f").write_text("x")
        (below / "d").mkdir()
        (below / "d" / "in").write_text("y")
        altitude_fixtures.until("it is there", lambda: (d / "in").exists() and f.exists(), 20)
        seen = {"set": chattr(f"+{letter}", f, d)}
        try:
            seen |= {name: answer(write_two, f, flags) for name, flags in FLAGS.items()}
            seen |= {"text": f.read_text(), "truncate": answer(os.truncate, f, 0), "chmod": answer(os.chmod, f, 0o600),
                     "now": answer(os.utime, f), "then": answer(os.utime, f, (1, 1)), "link": answer(os.link, f, top / "l"),
                     "unlink": answer(os.unlink, f), "rename": answer(os.rename, f, top / "g"),
                     "attribute": answer(os.setxattr, f, "user.q", b"1"), "new": answer(write_two, d / "new", os.O_CREAT | os.O_WRONLY),
                     "mkdir": answer(os.mkdir, d / "e"), "unlink in": answer(os.unlink, d / "in"),
                     "rename in": answer(os.rename, d / "in", d / "on"),
                     "project": subprocess.run(["lsattr", "-pd", "f"], cwd=top, stdout=subprocess.PIPE, text=True).stdout}
        finally:
            seen["taken"] = chattr(f"-{letter}", f, d)
        return seen

    want = tried(native, native)
    assert want["w"] == "EPERM" and want["append"] == (2 if letter == "a" else "EPERM")
    assert tried(volume.mnt, volume.tree) == want


# ---- races ----

@pytest.mark.parametrize("opens", ["yes", "no"])
def test_appends_above_and_below_are_all_there(mount, opens):
    volume, count = mount("dir:", open=opens), 300
    (volume.tree / "log").touch()
    children = []
    for n, top in enumerate((volume.mnt, volume.mnt, volume.tree)):
        pid = os.fork()
        if pid == 0:
            try:
                fd = os.open(top / "log", os.O_WRONLY | os.O_APPEND)
                for i in range(count):
                    os.write(fd, b"%d %06d\n" % (n, i))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    want = sorted(b"%d %06d" % (n, i) for n in range(3) for i in range(count))
    assert sorted((volume.tree / "log").read_bytes().splitlines()) == want
    altitude_fixtures.until("all above", lambda: sorted((volume.mnt / "log").read_bytes().splitlines()) == want, 20)


RACES = 300


def winners(top, gate, rounds):
    """The rounds in which this process made the file."""
    won = []
    for n in range(rounds):
        os.read(gate, 1)
        try:
            os.close(os.open(top / f"x{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(n)
        except FileExistsError:
            pass
    return won


def test_who_makes_a_file_alone_is_one(volume):
    """O_EXCL above and below at once. The kernel above may not know yet that the name is there."""
    parties = []
    for top in (volume.mnt, volume.tree):
        (r, w), (told, tell) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(tell, repr(winners(top, r, RACES)).encode())
                os._exit(0)
            finally:
                os._exit(1)
        os.close(tell)
        parties.append((pid, w, told))
    for n in range(RACES):
        for _, gate, _ in parties[::1 if n % 2 else -1]:
            os.write(gate, b"g")
    won = []
    for pid, _, told in parties:
        with os.fdopen(told) as answer_of:
            won += eval(answer_of.read())
        assert os.waitpid(pid, 0)[1] == 0
    assert sorted(won) == list(range(RACES))


def test_a_path_longer_than_one_call_takes(volume):
    """Eighty directories of 200 bytes; the last one is reached from the one before."""
    name, here = "d" * 200, os.open(volume.mnt, os.O_RDONLY | os.O_DIRECTORY)
    made = [here]
    for _ in range(80):
        os.mkdir(name, dir_fd=made[-1])
        made.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=made[-1]))
    with os.fdopen(os.open("f", os.O_CREAT | os.O_RDWR, 0o600, dir_fd=made[-1]), "w") as f:
        f.write("deep")
    for fd in made:
        for n in range(2):              # those used last push it out of what the server keeps at hand
            os.mkdir(f"e{n}", dir_fd=fd)
            os.listdir(os.open(f"e{n}", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd))
    for fd in made[::-1]:
        assert len(os.listdir(fd)) == 3
        os.chmod("e0", 0o700, dir_fd=fd)
        os.rmdir("e1", dir_fd=fd)
    assert os.stat("f", dir_fd=made[-1]).st_size == 4
    assert open(os.open("f", os.O_RDONLY, dir_fd=made[-1])).read() == "deep"
    os.chmod("f", 0o640, dir_fd=made[-1])
    for fd in made:
        os.close(fd)
    subprocess.run(["rm", "-r", volume.mnt / name, volume.mnt / "e0"], check=True)
    assert os.listdir(volume.tree) == []
