# SPDX-License-Identifier: MIT
"""What the file system `dir` lets through, one ability a test."""
import errno
import fcntl
import mmap
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

import pytest

from altitude_calls import KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, as_user, fallocate, in_child, link_open, renameat2

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=[(), ("null", "trace", "stats")], ids=["bare", "filtered"])
def volume(mount, request):
    return mount("dir:", *request.param)


@pytest.fixture
def mnt(volume):
    return volume.mnt


def test_open_unlinked(mnt):
    with open(mnt / "f", "w+b") as f:
        f.write(b"still here")
        f.flush()
        os.unlink(mnt / "f")
        assert os.listdir(mnt) == []
        assert os.fstat(f.fileno()).st_nlink == 0
        f.seek(0)
        assert f.read() == b"still here"
        os.ftruncate(f.fileno(), 5)
        os.fchmod(f.fileno(), 0o600)
        assert os.fstat(f.fileno()).st_size == 5


def test_tmpfile_gets_a_name(mnt):
    fd = os.open(mnt, os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(fd, b"nameless")
    assert os.listdir(mnt) == []
    link_open(fd, mnt / "named")
    os.close(fd)
    assert (mnt / "named").read_bytes() == b"nameless"


def test_rename_noreplace(mnt):
    (mnt / "a").write_text("a")
    (mnt / "b").write_text("b")
    with pytest.raises(FileExistsError):
        renameat2(mnt / "a", mnt / "b", RENAME_NOREPLACE)
    renameat2(mnt / "a", mnt / "c", RENAME_NOREPLACE)
    assert sorted(os.listdir(mnt)) == ["b", "c"]


def test_rename_exchange(mnt):
    (mnt / "a").write_text("a")
    (mnt / "d").mkdir()
    (mnt / "d" / "in").write_text("in")
    renameat2(mnt / "a", mnt / "d", RENAME_EXCHANGE)
    assert (mnt / "d").read_text() == "a"
    assert (mnt / "a" / "in").read_text() == "in"


def test_rename_of_an_open_files_ancestor(mnt):
    (mnt / "p" / "q").mkdir(parents=True)
    with open(mnt / "p" / "q" / "f", "w") as f:
        os.rename(mnt / "p", mnt / "r")
        f.write("moved")
    assert (mnt / "r" / "q" / "f").read_text() == "moved"


def test_hard_links(mnt):
    (mnt / "a").write_text("one")
    os.link(mnt / "a", mnt / "b")
    assert os.stat(mnt / "a").st_ino == os.stat(mnt / "b").st_ino
    assert os.stat(mnt / "a").st_nlink == 2
    (mnt / "b").write_text("two")
    assert (mnt / "a").read_text() == "two"
    os.unlink(mnt / "a")
    assert os.stat(mnt / "b").st_nlink == 1


def test_symlinks(mnt):
    os.symlink("target/" + "x" * 4000, mnt / "long")
    assert os.readlink(mnt / "long") == "target/" + "x" * 4000
    os.symlink("f", mnt / "s")
    (mnt / "f").write_text("through")
    assert (mnt / "s").read_text() == "through"


def test_symlink_out_of_the_tree_is_the_clients_business(volume, tmp_path):
    (tmp_path / "outside").write_text("secret")
    os.symlink("../outside", volume.tree / "escape")
    (volume.tree / "swap").mkdir()
    (volume.tree / "swap" / "f").write_text("inside")
    assert os.readlink(volume.mnt / "escape") == "../outside"
    assert (volume.mnt / "swap" / "f").read_text() == "inside"
    # A directory replaced behind the server by a link that leads outside is never followed by the server.
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "f").write_text("outside")
    os.rename(volume.tree / "swap", volume.tree / "old")
    os.symlink(tmp_path / "away", volume.tree / "swap")
    fd = None
    try:
        fd = os.open(volume.mnt / "swap" / "f", os.O_RDONLY)
        text = os.read(fd, 100)
    except OSError:
        text = b""
    finally:
        if fd is not None:
            os.close(fd)
    # Read by the client's own walk of the link ("outside") or not at all; the old file is right as well.
    assert text in (b"", b"inside", b"outside")


def test_fifo(mnt):
    os.mkfifo(mnt / "pipe", 0o644)
    assert stat.S_ISFIFO(os.stat(mnt / "pipe").st_mode)
    r = os.open(mnt / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    w = os.open(mnt / "pipe", os.O_WRONLY)
    os.write(w, b"flow")
    assert os.read(r, 10) == b"flow"
    os.close(r)
    os.close(w)


def test_socket(mnt):
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(mnt)
        try:
            s.bind("sock")
        finally:
            os.chdir(here)
    assert stat.S_ISSOCK(os.stat(mnt / "sock").st_mode)


@root_only
def test_device_node(mnt):
    try:
        os.mknod(mnt / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no right to make device nodes here")
    assert os.stat(mnt / "null").st_rdev == os.makedev(1, 3)


def test_xattrs(volume):
    f = volume.mnt / "f"
    f.write_text("x")
    try:
        os.setxattr(volume.tree / "f", "user.probe", b"1")
        os.removexattr(volume.tree / "f", "user.probe")
    except OSError:
        pytest.skip("the backing file system has no user attributes")
    os.setxattr(f, "user.a", b"value")
    assert os.getxattr(f, "user.a") == b"value"
    assert os.getxattr(volume.tree / "f", "user.a") == b"value"
    with pytest.raises(FileExistsError):
        os.setxattr(f, "user.a", b"v", os.XATTR_CREATE)
    with pytest.raises(OSError) as e:
        os.setxattr(f, "user.b", b"v", os.XATTR_REPLACE)
    assert e.value.errno == errno.ENODATA
    os.setxattr(f, "user.empty", b"")
    assert os.getxattr(f, "user.empty") == b""
    assert sorted(n for n in os.listxattr(f) if n.startswith("user.")) == ["user.a", "user.empty"]
    os.removexattr(f, "user.a")
    with pytest.raises(OSError) as e:
        os.getxattr(f, "user.a")
    assert e.value.errno == errno.ENODATA


@root_only
def test_acl(volume):
    (volume.tree / "probe").write_text("")
    if subprocess.run(["setfacl", "-m", "u:12001:r", volume.tree / "probe"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("the backing file system has no ACLs")
    f = volume.mnt / "f"
    f.write_text("for one user")
    os.chmod(f, 0o600)
    assert as_user(12001, lambda: open(f).close()) == errno.EACCES
    subprocess.run(["setfacl", "-m", "u:12001:r", f], check=True)
    assert as_user(12001, lambda: open(f).close()) == 0
    assert as_user(12002, lambda: open(f).close()) == errno.EACCES
    (volume.mnt / "d").mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:12002:rwx", volume.mnt / "d"], check=True)
    (volume.mnt / "d" / "born").write_text("")
    shown = subprocess.run(["getfacl", "-n", volume.mnt / "d" / "born"], check=True, capture_output=True, text=True)
    assert "user:12002:rwx" in shown.stdout


def test_fcntl_locks_between_processes(mnt):
    (mnt / "f").write_bytes(b"0" * 100)
    with open(mnt / "f", "r+b") as f:
        fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)
        tried = subprocess.run([sys.executable, "-c", f"""
import fcntl
f = open({str(mnt / 'f')!r}, 'r+b')
fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 50)
try:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 12)
except BlockingIOError:
    raise SystemExit(7)
"""])
        assert tried.returncode == 7
        data = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        assert struct.unpack("hhqqi4x", fcntl.fcntl(f, fcntl.F_GETLK, data))[0] == fcntl.F_UNLCK


def test_flock(mnt):
    (mnt / "f").write_text("")
    with open(mnt / "f") as one, open(mnt / "f") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("kind", ["lockf", "flock"])
def test_who_waits_for_a_lock_can_be_killed(mnt, kind):
    (mnt / "f").write_text("data")
    with open(mnt / "f", "r+b") as f:
        getattr(fcntl, kind)(f, fcntl.LOCK_EX)
        waiter = subprocess.Popen([sys.executable, "-c", f"""
import fcntl, sys
f = open({str(mnt / 'f')!r}, 'r+b')
print('waits', flush=True)
fcntl.{kind}(f, fcntl.LOCK_EX)
"""], stdout=subprocess.PIPE)
        assert waiter.stdout.readline() == b"waits\n"
        time.sleep(0.2)
        assert waiter.poll() is None
        (mnt / "other").write_text("nobody else is held up")
        assert (mnt / "other").read_text().startswith("nobody")
        waiter.kill()
        assert waiter.wait(5) == -signal.SIGKILL
        waiter.stdout.close()
        getattr(fcntl, kind)(f, fcntl.LOCK_UN)
    with open(mnt / "f", "r+b") as f:
        getattr(fcntl, kind)(f, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_waiting_lock_is_granted(mnt):
    (mnt / "f").write_text("data")
    with open(mnt / "f", "r+b") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        waiter = subprocess.Popen([sys.executable, "-c", f"""
import fcntl
f = open({str(mnt / 'f')!r}, 'r+b')
print('waits', flush=True)
fcntl.lockf(f, fcntl.LOCK_EX)
print('has it', flush=True)
"""], stdout=subprocess.PIPE)
        assert waiter.stdout.readline() == b"waits\n"
        time.sleep(0.2)
        assert waiter.poll() is None
        fcntl.lockf(f, fcntl.LOCK_UN)
        assert waiter.stdout.readline() == b"has it\n"
        assert waiter.wait(5) == 0
        waiter.stdout.close()


def test_punch_hole(mnt):
    with open(mnt / "f", "w+b") as f:
        f.write(b"\xff" * 65536)
        f.flush()
        try:
            fallocate(f.fileno(), PUNCH_HOLE | KEEP_SIZE, 8192, 16384)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                pytest.skip("the backing file system cannot punch")
            raise
        f.seek(0)
        data = f.read()
    assert len(data) == 65536
    assert data[8192:24576] == bytes(16384)
    assert data[:8192] == b"\xff" * 8192 and data[24576:] == b"\xff" * 40960


def test_fallocate_grows(mnt):
    with open(mnt / "f", "w+b") as f:
        fallocate(f.fileno(), 0, 0, 100000)
        assert os.fstat(f.fileno()).st_size == 100000
        fallocate(f.fileno(), KEEP_SIZE, 0, 300000)
        assert os.fstat(f.fileno()).st_size == 100000


def test_seek_hole(volume):
    def holes(path):
        with open(path, "r+b") as f:
            os.ftruncate(f.fileno(), 1 << 20)
            os.pwrite(f.fileno(), b"x" * 4096, 512 * 1024)
            os.fsync(f.fileno())
            return [os.lseek(f.fileno(), 0, os.SEEK_DATA), os.lseek(f.fileno(), 0, os.SEEK_HOLE),
                    os.lseek(f.fileno(), 520 * 1024, os.SEEK_HOLE)]
    (volume.tree / "native").write_bytes(b"")
    (volume.mnt / "f").write_bytes(b"")
    assert holes(volume.mnt / "f") == holes(volume.tree / "native")


def test_copy_file_range(mnt):
    data = os.urandom(300000)
    (mnt / "a").write_bytes(data)
    with open(mnt / "a", "rb") as a, open(mnt / "b", "wb") as b:
        left = len(data)
        while left:
            done = os.copy_file_range(a.fileno(), b.fileno(), left)
            assert done > 0
            left -= done
    assert (mnt / "b").read_bytes() == data


def test_mmap_shared(volume):
    (volume.mnt / "f").write_bytes(bytes(10000))
    with open(volume.mnt / "f", "r+b") as f, mmap.mmap(f.fileno(), 10000) as m:
        m[5000:5005] = b"hello"
        m.flush()
        assert os.pread(f.fileno(), 5, 5000) == b"hello"
    assert (volume.tree / "f").read_bytes()[5000:5005] == b"hello"


def test_mmap_private(volume):
    (volume.mnt / "f").write_bytes(b"a" * 5000)
    with open(volume.mnt / "f", "r+b") as f, mmap.mmap(f.fileno(), 5000, mmap.MAP_PRIVATE) as m:
        m[0:1] = b"b"
    assert (volume.tree / "f").read_bytes() == b"a" * 5000


def test_mmap_executes(mnt):
    program = (mnt / "true")
    program.write_bytes(open("/bin/true", "rb").read())
    os.chmod(program, 0o755)
    assert subprocess.run([program]).returncode == 0


def test_o_direct(volume):
    try:
        os.close(os.open(volume.tree / "probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("the backing file system has no O_DIRECT")
    fd = os.open(volume.mnt / "f", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    with mmap.mmap(-1, 8192) as page:
        page[:] = b"d" * 8192
        assert os.pwritev(fd, [page], 0) == 8192
        page[:] = bytes(8192)
        assert os.preadv(fd, [page], 0) == 8192
        assert page[:] == b"d" * 8192
    os.close(fd)


@root_only
def test_sticky_directory(mnt):
    (mnt / "t").mkdir()
    os.chmod(mnt / "t", 0o1777)
    assert as_user(12001, lambda: open(mnt / "t" / "mine", "w").close()) == 0
    assert as_user(12002, lambda: os.unlink(mnt / "t" / "mine")) == errno.EPERM
    assert as_user(12002, lambda: os.rename(mnt / "t" / "mine", mnt / "t" / "yours")) == errno.EPERM
    assert as_user(12001, lambda: os.unlink(mnt / "t" / "mine")) == 0


@root_only
def test_setgid_directory(mnt):
    (mnt / "g").mkdir()
    os.chown(mnt / "g", 0, 12002)
    os.chmod(mnt / "g", 0o2777)
    assert as_user(12001, lambda: open(mnt / "g" / "f", "w").close()) == 0
    assert as_user(12001, lambda: os.mkdir(mnt / "g" / "d")) == 0
    assert os.stat(mnt / "g" / "f").st_gid == 12002
    assert os.stat(mnt / "g" / "d").st_gid == 12002
    assert os.stat(mnt / "g" / "d").st_mode & stat.S_ISGID


@root_only
@pytest.mark.parametrize("count", [1, 65, 5000])
def test_the_last_of_many_groups_counts(mnt, count):
    groups = list(range(20001, 20001 + count))
    (mnt / "g").mkdir()
    os.chown(mnt / "g", 0, groups[-1])
    os.chmod(mnt / "g", 0o770)

    def work():
        os.setgroups(groups)
        os.setgid(12001)
        os.setuid(12001)
        os.mkdir(mnt / "g" / "d")

    assert in_child(work) == 0


@root_only
@pytest.mark.parametrize("how", ["write", "truncate", "open_trunc", "chown"])
def test_suid_is_cleared(mnt, how):
    f = mnt / "f"
    f.write_text("program")
    os.chown(f, 12001, 12001)
    os.chmod(f, 0o6777)

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
    assert os.stat(f).st_mode & 0o6000 == 0


@root_only
def test_what_a_user_creates_is_the_users(volume):
    os.chmod(volume.mnt, 0o777)

    def work():
        open(volume.mnt / "f", "w").close()
        os.mkdir(volume.mnt / "d")
        os.symlink("f", volume.mnt / "s")
        os.mkfifo(volume.mnt / "p")
        os.link(volume.mnt / "f", volume.mnt / "l")

    assert as_user(12001, work) == 0
    for name in "fdspl":
        s = os.lstat(volume.tree / name)
        assert (s.st_uid, s.st_gid) == (12001, 12001), name


@root_only
def test_a_whiteout_is_the_users(volume):
    """RENAME_WHITEOUT leaves something in place of what was renamed: it is made, as by mknod(2)."""
    os.chmod(volume.mnt, 0o777)

    def work():
        open(volume.mnt / "f", "w").close()
        renameat2(volume.mnt / "f", volume.mnt / "g", RENAME_WHITEOUT)

    assert as_user(12001, work) == 0
    left = os.lstat(volume.tree / "f")
    assert (stat.S_IFMT(left.st_mode), left.st_rdev, left.st_uid, left.st_gid) == (stat.S_IFCHR, 0, 12001, 12001)


def test_the_generation_of_an_inode_is_that_below(volume):
    """What lsattr -v shows: FS_IOC_GETVERSION, whose number speaks of a long, and which answers with an int."""
    def generation(path):
        room = bytearray(b"\xff" * 16)
        with open(path) as f:
            fcntl.ioctl(f, 0x80087601, room)
        return room

    (volume.mnt / "f").write_text("x")
    try:
        below = generation(volume.tree / "f")
    except OSError:
        pytest.skip("the file system below tells no generation")
    assert generation(volume.mnt / "f") == below


@root_only
def test_supplementary_groups_count(volume):
    (volume.tree / "g").mkdir()
    os.chown(volume.tree / "g", 0, 12050)
    os.chmod(volume.tree / "g", 0o770)
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.setgroups([12050])
            os.setgid(12001)
            os.setuid(12001)
            open(volume.mnt / "g" / "f", "w").close()
        except OSError as error:
            code = error.errno
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert as_user(12001, lambda: open(volume.mnt / "g" / "h", "w").close()) == errno.EACCES


def test_names_of_255_bytes(mnt):
    (mnt / ("n" * 255)).write_text("long")
    assert os.listdir(mnt) == ["n" * 255]
    with pytest.raises(OSError) as e:
        open(mnt / ("n" * 256), "w")
    assert e.value.errno == errno.ENAMETOOLONG


def test_any_byte_in_a_name(volume):
    for byte in range(1, 256):
        if byte == ord("/"):
            continue
        name = b"n" + bytes([byte])
        with open(os.path.join(os.fsencode(volume.mnt), name), "wb") as f:
            f.write(name)
    assert sorted(os.listdir(os.fsencode(volume.mnt))) == sorted(os.listdir(os.fsencode(volume.tree)))
    for name in os.listdir(os.fsencode(volume.mnt)):
        with open(os.path.join(os.fsencode(volume.mnt), name), "rb") as f:
            assert f.read() == name


def test_statfs(volume):
    here, below = os.statvfs(volume.mnt), os.statvfs(volume.tree)
    assert (here.f_blocks * here.f_frsize, here.f_namemax) == (below.f_blocks * below.f_frsize, below.f_namemax)


def test_times(mnt):
    f = mnt / "f"
    f.write_text("x")
    os.utime(f, ns=(1_000_000_007, 1_500_000_000_123_456_789))
    assert os.stat(f).st_mtime_ns == 1_500_000_000_123_456_789
    before = time.time_ns()
    time.sleep(0.02)
    f.write_text("later")
    assert os.stat(f).st_mtime_ns > before


def test_large_directory_is_listed_while_it_changes(volume):
    d = volume.tree / "many"
    d.mkdir()
    for i in range(20000):
        os.close(os.open(d / f"f{i}", os.O_CREAT | os.O_WRONLY))
    seen = []
    for n, entry in enumerate(os.scandir(volume.mnt / "many")):
        seen.append(entry.name)
        if n % 100 == 0:
            (volume.mnt / "many" / f"new{n}").write_text("")
            (volume.mnt / "many" / f"new{n}").unlink()
    old = [n for n in seen if n.startswith("f")]
    assert len(old) == len(set(old)) == 20000


def test_change_behind_is_seen(volume):
    (volume.mnt / "f").write_text("before")
    assert (volume.mnt / "f").read_text() == "before"
    (volume.tree / "f").write_text("after!!")
    (volume.tree / "new").write_text("n")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if (volume.mnt / "f").read_text() == "after!!" and "new" in os.listdir(volume.mnt):
            return
        time.sleep(0.05)
    pytest.fail("a change of the backing directory is not seen after 5 seconds")


def test_fsync_and_close_errors(mnt):
    fd = os.open(mnt / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"1")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    d = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(d)
    os.close(d)
    os.sync()


def test_no_descriptor_per_name(volume):
    for i in range(3000):
        (volume.tree / f"f{i}").write_text("")
    for i in range(3000):
        os.stat(volume.mnt / f"f{i}")
    assert len(os.listdir(f"/proc/{volume.pid}/fd")) < 200
