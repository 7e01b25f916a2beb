# SPDX-License-Identifier: MIT
"""mem is a complete Linux file system, and gives back what it used."""
import ctypes
import errno
import os
import socket
import stat

import pytest

from altitude_calls import (KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, ZERO_RANGE, as_user, checked,
                            fallocate, libc, link_open, renameat2)

TIB = 1 << 40
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=[(), ("null", "stats")], ids=["bare", "filtered"])
def mnt(mount, request):
    return mount("mem:", *request.param).mnt


def fails(code, call, *args, **kw):
    with pytest.raises(OSError) as e:
        call(*args, **kw)
    assert e.value.errno == code, e.value


def free(mnt):
    s = os.statvfs(mnt)
    return s.f_bfree, s.f_ffree


def forget_all(mnt):
    """The kernel gives up the names and inodes it remembers, and so its references."""
    fd = os.open(mnt, os.O_RDONLY)
    libc.syncfs(fd)
    os.close(fd)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("2\n")


# Names


def test_each_kind_of_node_is_what_it_was_made_as(mnt, request):
    before = os.umask(0)
    request.addfinalizer(lambda: os.umask(before))
    (mnt / "f").touch(0o640)
    (mnt / "d").mkdir(0o711)
    os.symlink("f", mnt / "s")
    os.mkfifo(mnt / "p", 0o604)
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(mnt)
        s.bind("k")
        os.chdir(here)
    modes = {name: os.lstat(mnt / name).st_mode for name in os.listdir(mnt)}
    assert modes == {"f": stat.S_IFREG | 0o640, "d": stat.S_IFDIR | 0o711, "s": stat.S_IFLNK | 0o777,
                     "p": stat.S_IFIFO | 0o604, "k": stat.S_IFSOCK | 0o777}
    types = {e.name: (e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir(mnt)}
    assert types["d"] == (True, False) and types["s"] == (False, True) and types["p"] == (False, False)


@root_only
def test_device_node(mnt):
    try:
        os.mknod(mnt / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(mnt / "big", stat.S_IFBLK | 0o600, os.makedev(300, 70000))
    except PermissionError:
        pytest.skip("no right to make device nodes here")
    assert os.stat(mnt / "null").st_rdev == os.makedev(1, 3)
    assert os.stat(mnt / "big").st_rdev == os.makedev(300, 70000)


@pytest.mark.parametrize("length", [1, 4095])
def test_symbolic_link_of_any_length(mnt, length):
    os.symlink("t" * length, mnt / "s")
    assert os.readlink(mnt / "s") == "t" * length
    assert os.lstat(mnt / "s").st_size == length


def test_links_of_directories_are_counted(mnt):
    def nlink(path):
        return os.stat(path).st_nlink

    assert nlink(mnt) == 2
    for name in ["a", "b", "a/sub", "a/sub2"]:
        (mnt / name).mkdir()
    (mnt / "a" / "file").touch()
    assert (nlink(mnt), nlink(mnt / "a"), nlink(mnt / "b")) == (4, 4, 2)
    os.rename(mnt / "a" / "sub", mnt / "b" / "moved")
    assert (nlink(mnt / "a"), nlink(mnt / "b"), nlink(mnt / "b" / "moved")) == (3, 3, 2)
    os.rename(mnt / "a" / "sub2", mnt / "b" / "moved")
    assert (nlink(mnt / "a"), nlink(mnt / "b"), nlink(mnt / "b" / "moved")) == (2, 3, 2)
    renameat2(mnt / "a" / "file", mnt / "b" / "moved", RENAME_EXCHANGE)
    assert (nlink(mnt / "a"), nlink(mnt / "b"), nlink(mnt / "a" / "file")) == (3, 2, 2)
    fd = os.open(mnt / "a" / "file", os.O_RDONLY)
    os.rmdir(mnt / "a" / "file")
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert (nlink(mnt), nlink(mnt / "a")) == (4, 2)


def test_parent_of_a_directory_follows_a_rename(mnt):
    (mnt / "a" / "sub").mkdir(parents=True)
    (mnt / "b" / "other").mkdir(parents=True)
    renameat2(mnt / "a" / "sub", mnt / "b" / "other", RENAME_EXCHANGE)
    for up, sub in [("a", "sub"), ("b", "other")]:
        assert os.stat(mnt / up / sub / "..").st_ino == os.stat(mnt / up).st_ino


def test_directory_that_is_not_empty_stays(mnt):
    (mnt / "d").mkdir()
    (mnt / "d" / "f").touch()
    (mnt / "e").mkdir()
    fails(errno.ENOTEMPTY, os.rmdir, mnt / "d")
    fails(errno.ENOTEMPTY, os.rename, mnt / "e", mnt / "d")
    fails(errno.EISDIR, os.unlink, mnt / "e")
    fails(errno.ENOTDIR, os.rmdir, mnt / "d" / "f")
    fails(errno.EISDIR, os.rename, mnt / "d" / "f", mnt / "e")
    fails(errno.ENOTDIR, os.rename, mnt / "e", mnt / "d" / "f")
    os.rename(mnt / "d", mnt / "e")
    assert os.listdir(mnt) == ["e"] and os.listdir(mnt / "e") == ["f"]


def test_removed_directory_takes_no_names(mnt):
    (mnt / "d").mkdir()
    fd = os.open(mnt / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(mnt / "d")
    fails(errno.ENOENT, os.open, "f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    fails(errno.ENOENT, os.mkdir, "g", dir_fd=fd)
    os.close(fd)


def test_rename_noreplace_refuses_what_is_there(mnt):
    (mnt / "a").write_text("a")
    (mnt / "b").write_text("b")
    fails(errno.EEXIST, renameat2, mnt / "a", mnt / "b", RENAME_NOREPLACE)
    renameat2(mnt / "a", mnt / "c", RENAME_NOREPLACE)
    fails(errno.EINVAL, renameat2, mnt / "c", mnt / "d", RENAME_WHITEOUT)
    assert sorted(os.listdir(mnt)) == ["b", "c"]


def test_rename_exchange_needs_both(mnt):
    (mnt / "a").write_text("a")
    (mnt / "d").mkdir()
    (mnt / "d" / "in").write_text("in")
    renameat2(mnt / "a", mnt / "d", RENAME_EXCHANGE)
    assert (mnt / "d").read_text() == "a" and (mnt / "a" / "in").read_text() == "in"
    fails(errno.ENOENT, renameat2, mnt / "a", mnt / "none", RENAME_EXCHANGE)


def test_rename_onto_another_name_of_the_file_does_nothing(mnt):
    (mnt / "a").write_text("x")
    os.link(mnt / "a", mnt / "b")
    os.rename(mnt / "a", mnt / "b")
    assert sorted(os.listdir(mnt)) == ["a", "b"] and os.stat(mnt / "a").st_nlink == 2


def test_hard_links_are_one_file(mnt):
    (mnt / "a").write_text("one")
    (mnt / "d").mkdir()
    os.link(mnt / "a", mnt / "d" / "b")
    assert os.stat(mnt / "a").st_ino == os.stat(mnt / "d" / "b").st_ino
    (mnt / "d" / "b").write_text("two")
    assert (mnt / "a").read_text() == "two" and os.stat(mnt / "a").st_nlink == 2
    os.unlink(mnt / "a")
    assert (mnt / "d" / "b").read_text() == "two" and os.stat(mnt / "d" / "b").st_nlink == 1


def test_unlinked_file_lives_while_open(mnt):
    before = free(mnt)
    with open(mnt / "f", "w+b") as f:
        f.write(b"still here" * 1000)
        f.flush()
        os.unlink(mnt / "f")
        forget_all(mnt) if os.geteuid() == 0 else None
        assert os.listdir(mnt) == [] and os.fstat(f.fileno()).st_nlink == 0
        f.seek(0)
        assert f.read() == b"still here" * 1000
        assert free(mnt) < before
    assert os.listdir(mnt) == []


def test_unnamed_file_gets_a_name(mnt):
    fd = os.open(mnt, os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(fd, b"nameless")
    assert os.listdir(mnt) == [] and os.fstat(fd).st_nlink == 0
    link_open(fd, mnt / "named")
    assert os.fstat(fd).st_nlink == 1
    os.close(fd)
    assert (mnt / "named").read_bytes() == b"nameless"


def test_any_name_of_255_bytes(mnt):
    names = [b"n" * 255, b"\xff\xfe", b" ", "\u00e4".encode(), b"new\nline", b"..."]
    for name in names:
        open(os.path.join(os.fsencode(mnt), name), "wb").close()
    assert sorted(os.listdir(os.fsencode(mnt))) == sorted(names)
    fails(errno.ENAMETOOLONG, open, mnt / ("n" * 256), "wb")


# Listings


def test_listing_stays_right_while_it_changes(mnt):
    """What was there all the time is given once, whatever comes and goes meanwhile."""
    old = {f"stays{n:05}" for n in range(3000)}
    for name in old:
        (mnt / name).touch()
        (mnt / name.replace("stays", "goes")).touch()
    seen = []
    with os.scandir(mnt) as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n % 2 == 0 and (mnt / f"goes{n // 2:05}").exists():
                os.unlink(mnt / f"goes{n // 2:05}")
            if n < 2000:
                (mnt / f"new{n:05}").touch()
    stayed = [name for name in seen if name.startswith("stays")]
    assert len(stayed) == len(old) and set(stayed) == old
    assert len(seen) == len(set(seen))


def test_listing_goes_on_after_what_was_removed(mnt):
    for n in range(1000):
        (mnt / f"f{n}").touch()
    while names := os.listdir(mnt)[:300]:
        for name in names:
            os.unlink(mnt / name)
    os.mkdir(mnt / "d")
    os.rmdir(mnt / "d")


def test_large_directory(mnt):
    for n in range(20000):
        os.close(os.open(mnt / f"f{n}", os.O_CREAT | os.O_WRONLY))
    assert len(os.listdir(mnt)) == 20000
    assert all(entry.stat().st_size == 0 for entry in os.scandir(mnt))
    for n in range(20000):
        os.unlink(mnt / f"f{n}")
    assert os.listdir(mnt) == []


# Data


def test_truncated_bytes_are_zero_when_they_come_back(mnt):
    with open(mnt / "f", "w+b", buffering=0) as f:
        f.write(b"x" * 10000)
        os.ftruncate(f.fileno(), 5)
        os.ftruncate(f.fileno(), 9000)
        assert os.pread(f.fileno(), 20000, 0) == b"x" * 5 + bytes(8995)
        os.pwrite(f.fileno(), b"end", 12000)
        assert os.pread(f.fileno(), 20000, 9000) == bytes(3000) + b"end"


def test_append_writes_at_the_end(mnt):
    (mnt / "f").write_bytes(b"begin ")
    one, two = (os.open(mnt / "f", os.O_WRONLY | os.O_APPEND) for _ in range(2))
    os.write(one, b"one ")
    os.write(two, b"two ")
    os.pwrite(one, b"three", 0)
    assert (mnt / "f").read_bytes() == b"begin one two three"
    os.close(one)
    os.close(two)


def test_holes_take_no_room(mnt):
    with open(mnt / "f", "w+b", buffering=0) as f:
        os.ftruncate(f.fileno(), TIB - 1)
        assert os.fstat(f.fileno()).st_blocks == 0
        os.pwrite(f.fileno(), b"x", 1 << 30)
        assert os.fstat(f.fileno()).st_blocks == 8
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 1 << 30
        assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == 0
        assert os.lseek(f.fileno(), 1 << 30, os.SEEK_HOLE) == (1 << 30) + 4096
        fails(errno.ENXIO, os.lseek, f.fileno(), (1 << 30) + 4096, os.SEEK_DATA)
        fails(errno.ENXIO, os.lseek, f.fileno(), TIB, os.SEEK_HOLE)


def test_hole_at_the_end_of_the_file_is_its_end(mnt):
    with open(mnt / "f", "w+b", buffering=0) as f:
        f.write(b"x" * 5000)
        assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == 5000
        assert os.lseek(f.fileno(), 4999, os.SEEK_DATA) == 4999
        fails(errno.ENXIO, os.lseek, f.fileno(), 5000, os.SEEK_DATA)


@pytest.mark.parametrize("mode", [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
def test_punched_and_zeroed_ranges_read_as_zero(mnt, mode):
    with open(mnt / "f", "w+b", buffering=0) as f:
        f.write(b"\xff" * 65536)
        fallocate(f.fileno(), mode, 5000, 20000)
        data = os.pread(f.fileno(), 70000, 0)
        assert data == b"\xff" * 5000 + bytes(20000) + b"\xff" * 40536
        assert (os.fstat(f.fileno()).st_blocks < 128) == bool(mode & PUNCH_HOLE)
        fallocate(f.fileno(), mode, 65000, 10000)
        assert os.fstat(f.fileno()).st_size == (65536 if mode & KEEP_SIZE else 75000)


def test_allocated_room_is_kept_and_read_as_zero(mnt):
    with open(mnt / "f", "w+b", buffering=0) as f:
        fallocate(f.fileno(), 0, 0, 100000)
        assert os.fstat(f.fileno()).st_size == 100000
        fallocate(f.fileno(), KEEP_SIZE, 0, 300000)
        assert os.fstat(f.fileno()).st_size == 100000 and os.fstat(f.fileno()).st_blocks >= 300000 // 512
        assert f.read() == bytes(100000)


def test_too_large_and_too_much(mnt):
    with open(mnt / "f", "w+b", buffering=0) as f:
        fails(errno.EFBIG, os.ftruncate, f.fileno(), TIB)
        fails(errno.EFBIG, os.pwrite, f.fileno(), b"x", TIB)
        fails(errno.EFBIG, fallocate, f.fileno(), 0, TIB, 1)
        fails(errno.ENOSPC, fallocate, f.fileno(), 0, 0, TIB - 1)
        assert os.fstat(f.fileno()).st_size == 0 and os.fstat(f.fileno()).st_blocks == 0


def test_room_comes_back(mount):
    mnt = mount("mem:").mnt
    before = free(mnt)
    (mnt / "d").mkdir()
    for n in range(50):
        (mnt / "d" / f"f{n}").write_bytes(b"x" * 100000)
        os.symlink("x" * 1000, mnt / "d" / f"s{n}")
    os.listdir(mnt / "d")
    blocks, files = free(mnt)
    assert before[0] - blocks >= 50 * 100000 // 4096 and before[1] - files == 101
    for name in os.listdir(mnt / "d"):
        os.unlink(mnt / "d" / name)
    os.rmdir(mnt / "d")
    if os.geteuid() == 0:
        forget_all(mnt)
        assert free(mnt) == before


# Attributes


def test_times_say_what_changed(mnt):
    def times(path):
        s = os.lstat(path)
        return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns

    def old(path):
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
        return times(path)[2]

    f, d = mnt / "f", mnt / "d"
    f.write_text("x")
    d.mkdir()
    old(f)
    assert times(f)[:2] == (10**18, 10**18)
    f.read_text()
    assert times(f)[0] > 10**18 and times(f)[1] == 10**18
    ctime = old(f)
    with open(f, "r+") as o:
        o.write("y")
    assert times(f)[1] > 10**18 and times(f)[2] >= ctime
    for change in [lambda: (d / "a").touch(), lambda: os.link(f, d / "b"), lambda: os.rename(d / "a", d / "c"),
                   lambda: os.unlink(d / "c"), lambda: (d / "s").mkdir(), lambda: (d / "s").rmdir()]:
        old(d)
        change()
        assert times(d)[1] > 10**18
    old(f)
    os.chmod(f, 0o600)
    assert times(f)[1] == 10**18
    old(f)
    os.truncate(f, 0)
    assert times(f)[1] > 10**18
    os.utime(f)
    assert times(f)[0] == times(f)[1] > 10**18


def test_opening_without_access_time_leaves_it(mnt):
    (mnt / "f").write_text("x")
    os.utime(mnt / "f", ns=(10**18, 10**18))
    fd = os.open(mnt / "f", os.O_RDONLY | os.O_NOATIME)
    os.read(fd, 10)
    os.close(fd)
    assert os.stat(mnt / "f").st_atime_ns == 10**18


@root_only
def test_set_group_id_directory_gives_its_group(mnt):
    (mnt / "g").mkdir()
    os.chown(mnt / "g", 0, 12002)
    os.chmod(mnt / "g", 0o2777)
    assert as_user(12001, lambda: (mnt / "g" / "f").touch()) == 0
    assert as_user(12001, lambda: (mnt / "g" / "d").mkdir()) == 0
    assert as_user(12001, lambda: os.symlink("f", mnt / "g" / "s")) == 0
    for name, mode in [("f", 0), ("d", stat.S_ISGID), ("s", 0)]:
        s = os.lstat(mnt / "g" / name)
        assert (s.st_uid, s.st_gid, s.st_mode & stat.S_ISGID) == (12001, 12002, mode), name


@root_only
@pytest.mark.parametrize("how", ["write", "truncate", "open_trunc", "chown"])
def test_privileges_end_when_the_file_changes(mnt, how):
    f = mnt / "f"
    f.write_text("program")
    os.chown(f, 12001, 12001)
    os.chmod(f, 0o6777)
    os.setxattr(f, "security.capability", CAPABILITY)

    def work():
        if how == "write":
            with open(f, "r+b") as o:
                o.write(b"x")
        elif how == "truncate":
            os.truncate(f, 1)
        elif how == "open_trunc":
            open(f, "w").close()
        else:
            os.chown(f, -1, 12001)

    assert as_user(12001 if how == "chown" else 12002, work) == 0
    assert os.stat(f).st_mode & 0o7777 == 0o777
    fails(errno.ENODATA, os.getxattr, f, "security.capability")


@root_only
def test_root_keeps_set_user_id_but_not_capabilities_when_it_writes(mnt):
    f = mnt / "f"
    f.write_text("program")
    os.chmod(f, 0o4755)
    os.setxattr(f, "security.capability", CAPABILITY)
    with open(f, "r+b") as o:
        o.write(b"x")
    assert os.stat(f).st_mode & 0o7777 == 0o4755
    fails(errno.ENODATA, os.getxattr, f, "security.capability")


def test_attributes_of_users(mnt):
    f = mnt / "f"
    f.touch()
    os.setxattr(f, "user.a", b"value")
    assert os.getxattr(f, "user.a") == b"value"
    fails(errno.EEXIST, os.setxattr, f, "user.a", b"v", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, f, "user.b", b"v", os.XATTR_REPLACE)
    os.setxattr(f, "user.a", b"longer value", os.XATTR_REPLACE)
    os.setxattr(f, "user.empty", b"", os.XATTR_CREATE)
    os.setxattr(f, "user.large", b"z" * 65536)
    assert os.getxattr(f, "user.a") == b"longer value" and os.getxattr(f, "user.empty") == b""
    assert os.getxattr(f, "user.large") == b"z" * 65536
    assert sorted(os.listxattr(f)) == ["user.a", "user.empty", "user.large"]
    os.removexattr(f, "user.a")
    fails(errno.ENODATA, os.getxattr, f, "user.a")
    fails(errno.ENODATA, os.removexattr, f, "user.a")
    fails(errno.EOPNOTSUPP, os.setxattr, f, "odd.name", b"v")


def test_attribute_that_does_not_fit_is_refused_and_measured(mnt):
    f = mnt / "f"
    f.touch()
    os.setxattr(f, "user.a", b"12345")
    room = ctypes.create_string_buffer(4)
    path = os.fsencode(f)
    assert libc.getxattr(path, b"user.a", None, 0) == 5
    fails(errno.ERANGE, lambda: checked(libc.getxattr(path, b"user.a", room, 4)))
    assert libc.listxattr(path, None, 0) == 7
    fails(errno.ERANGE, lambda: checked(libc.listxattr(path, room, 4)))


@root_only
def test_trusted_attributes_are_roots(mnt):
    f = mnt / "f"
    f.touch()
    os.chown(f, 12001, 12001)
    os.setxattr(f, "trusted.secret", b"s")
    os.setxattr(f, "user.open", b"o")

    def work():
        assert os.listxattr(f) == ["user.open"]
        fails(errno.ENODATA, os.getxattr, f, "trusted.secret")

    assert sorted(os.listxattr(f)) == ["trusted.secret", "user.open"]
    assert as_user(12001, work) == 0


def test_statfs_measures_the_volume(mnt):
    s = os.statvfs(mnt)
    assert s.f_bsize == s.f_frsize == 4096 and s.f_namemax == 255
    assert 0 < s.f_bfree == s.f_bavail <= s.f_blocks and 0 < s.f_ffree < s.f_files


def test_volumes_share_nothing(mount):
    one, two = mount("mem:").mnt, mount("mem:").mnt
    (one / "f").write_text("one")
    assert os.listdir(two) == []
