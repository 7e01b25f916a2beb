# SPDX-License-Identifier: MIT
"""open=no: the kernel tells of no open file; the server opens what is read and written, for all, and closes it again."""
import errno
import fcntl
import mmap
import os
import random
import resource
import subprocess
import sys
import threading

import pytest

until = sys.modules["altitude_fixtures"].until
MOST = 256                    # open files the server keeps; engine/io/shared.c


@pytest.fixture
def volume(mount):
    return mount("dir:", open="no")


@pytest.fixture(params=["dir:", "mem:"])
def either(request, mount):
    return mount(request.param, open="no")


@pytest.fixture
def plenty():
    """This process may have many files open."""
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20000, max(20000, was[1])))
    except (ValueError, PermissionError):
        pytest.skip("needs 20000 descriptors")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, was)


def descriptors(volume):
    """What the server has open, as it is called; one that is just being closed has no name."""
    names = []
    for number in os.listdir(f"/proc/{volume.pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{volume.pid}/fd/{number}"))
        except FileNotFoundError:
            pass
    return names


def deleted(volume):
    return [name for name in descriptors(volume) if name.endswith(" (deleted)") and not name.startswith("/memfd:")]


def asked(volume):
    return volume.stats()["operations"]


def watched(volume):
    if "not heard of" in volume.said():
        pytest.skip("changes beside the volume are not heard of here: " + volume.said().strip())


def look(volume, times):
    """What `times` opens, reads and closes of a file that was read before are asked for."""
    before = asked(volume)
    for _ in range(times):
        fd = os.open(volume.mnt / "f", os.O_RDONLY)      # open() asks whether it is a terminal: an ioctl(2)
        assert os.read(fd, 100) == b"content"
        os.close(fd)
    return {what: count - before.get(what, 0) for what, count in asked(volume).items() if count != before.get(what, 0)}


# ---- what is asked ----

def test_a_file_in_the_cache_is_opened_read_and_closed_without_a_request(volume):
    watched(volume)
    (volume.tree / "f").write_text("content")
    until("nothing is asked; before, there may be late notices of its creation", lambda: not look(volume, 50))


def test_with_opens_each_one_is_asked(mount):
    volume = mount("dir:", open="yes")
    (volume.tree / "f").write_text("content")
    look(volume, 2)
    assert look(volume, 50)["open"] == 50


def test_one_open_file_serves_all_readers(volume):
    """The first read comes alone: two at a time could both find that it is not open. It stays open, so that a late notice of
    its creation does not make the kernel forget it."""
    (volume.tree / "f").write_bytes(bytes(3 << 20))
    with open(volume.mnt / "f", "rb", buffering=0) as first:
        os.posix_fadvise(first.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert first.read(1) == b"\0"
        assert asked(volume)["open"] == 1
        for _ in range(3):
            with open(volume.mnt / "f", "rb", buffering=0) as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert len(f.read()) == 3 << 20
    assert asked(volume)["read"] > 3
    assert asked(volume)["open"] == 1


def test_neither_yes_nor_no_is_refused(mount):
    with pytest.raises(AssertionError, match="'open=never' of volume .* is neither yes nor no"):
        mount("mem:", open="never")


# ---- what is seen ----

def test_what_changes_beside_the_volume_is_seen_by_the_next_open(volume):
    """Same length, same time of modification: nothing but the notice tells."""
    watched(volume)
    below, above = volume.tree / "f", volume.mnt / "f"
    below.write_text("old")
    times = below.stat()
    assert above.read_text() == "old"
    below.write_text("new")
    os.utime(below, ns=(times.st_atime_ns, times.st_mtime_ns))
    until("the change is seen", lambda: above.read_text() == "new")


def text_or_stale(path):
    """Until the notice has come, the old file is still opened; it may be gone when it is read."""
    try:
        return path.read_text()
    except OSError as error:
        assert error.errno == errno.ESTALE
        return None


def test_what_is_replaced_beside_the_volume_is_seen_by_the_next_open(volume):
    watched(volume)
    (volume.tree / "f").write_text("old")
    assert (volume.mnt / "f").read_text() == "old"
    (volume.tree / "g").write_text("another")
    os.rename(volume.tree / "g", volume.tree / "f")
    until("the change is seen", lambda: text_or_stale(volume.mnt / "f") == "another")


def test_without_a_watch_a_change_is_seen_by_its_time(mount):
    volume = mount("dir:", open="no", watch="no")
    (volume.tree / "f").write_text("old")
    assert (volume.mnt / "f").read_text() == "old"
    (volume.tree / "f").write_text("new")
    os.utime(volume.tree / "f", (1, 1))
    assert (volume.mnt / "f").read_text() == "new"


# ---- data ----

def written(path):
    """Every way to change a file; what it held after each."""
    seen = []

    def note(what):
        seen.append((what, path.read_bytes(), path.stat().st_size))

    path.write_bytes(b"0123456789")
    note("created")
    with open(path, "r+b", buffering=0) as f:
        f.write(b"ab")
        note("overwritten")
        os.pwrite(f.fileno(), b"end", 20)
        note("written behind the end")
        f.truncate(15)
        note("cut by its descriptor")
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
    with open(path, "ab", buffering=0) as one, open(path, "ab", buffering=0) as two:
        one.write(b"<one>")
        two.write(b"<two>")
        one.write(b"<more>")
    note("appended by two")
    os.truncate(path, 6)
    note("cut by its name")
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 6) as m:
        m[2:4] = b"MM"
        m.flush()
    note("mapped")
    fd = os.open(path, os.O_WRONLY | os.O_SYNC)
    os.pwrite(fd, b"S", 5)
    os.close(fd)
    note("synchronous")
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    note("opened with O_TRUNC")
    path.write_bytes(b"again")
    note("opened with O_TRUNC and written")
    fd = os.open(path, os.O_RDWR)
    os.posix_fallocate(fd, 0, 9000)
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    os.close(fd)
    note("allocated")
    return seen


def test_writes_appends_and_truncations_do_what_they_do_elsewhere(either, tmp_path):
    assert written(either.mnt / "f") == written(tmp_path / "plain")
    if either.tree:
        assert (either.tree / "f").read_bytes() == (tmp_path / "plain").read_bytes()


def test_what_was_appended_is_where_the_end_was_below(volume):
    """The kernel's idea of the end may be old; the file system's counts."""
    (volume.tree / "f").write_text("a")
    with open(volume.mnt / "f", "a", buffering=1) as f:
        f.write("b\n")
        with open(volume.tree / "f", "a") as beside:
            beside.write("beside\n")
        f.write("c\n")
    assert (volume.tree / "f").read_text() == "ab\nbeside\nc\n"


def test_a_range_is_copied(volume):
    (volume.mnt / "from").write_bytes(b"x" * 5000 + b"y" * 5000)
    with open(volume.mnt / "from", "rb") as source, open(volume.mnt / "to", "wb") as to:
        assert os.copy_file_range(source.fileno(), to.fileno(), 6000, 2000, 0) == 6000
    assert (volume.tree / "to").read_bytes() == b"x" * 3000 + b"y" * 3000
    assert asked(volume)["copy_file_range"] >= 1


def test_what_may_not_be_written_by_its_mode_is_written_by_who_created_it(either):
    fd = os.open(either.mnt / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
    os.write(fd, b"mine")
    os.close(fd)
    assert (either.mnt / "f").read_text() == "mine"


def test_an_unnamed_file_lives_until_it_is_closed(either):
    with open(os.open(either.mnt, os.O_TMPFILE | os.O_RDWR, 0o600), "r+b", buffering=0) as f:
        f.write(b"nameless")
        assert os.pread(f.fileno(), 100, 0) == b"nameless"
    assert os.listdir(either.mnt) == []
    until("it is closed", lambda: not deleted(either))


# ---- unlinked while open ----

def still_there(fd):
    """A file that has no name any more is read, written, cut and appended to."""
    assert os.pread(fd, 100, 0) == b"content"
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"CON", 0)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 100, 0) == b"CONtent"
    os.ftruncate(fd, 3)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 3
    assert os.pread(fd, 100, 0) == b"CON"


def unopened(volume, name, text):
    """A file the server has not opened, where it need not be made through the volume."""
    ((volume.tree or volume.mnt) / name).write_text(text)


def test_a_file_that_was_never_read_is_read_after_its_unlink(either):
    unopened(either, "f", "content")
    fd = os.open(either.mnt / "f", os.O_RDWR)
    os.unlink(either.mnt / "f")
    still_there(fd)
    os.close(fd)
    until("it is closed", lambda: not deleted(either))


def test_a_file_that_a_rename_replaced_is_read(either):
    unopened(either, "f", "content")
    unopened(either, "g", "other")
    fd = os.open(either.mnt / "f", os.O_RDWR)
    os.rename(either.mnt / "g", either.mnt / "f")
    still_there(fd)
    assert (either.mnt / "f").read_text() == "other"
    os.close(fd)
    until("it is closed", lambda: not deleted(either))


def test_a_file_that_was_renamed_and_whose_directories_were_is_read(either):
    os.makedirs(either.mnt / "a/b")
    (either.mnt / "a/b/f").write_text("content")
    with open(either.mnt / "a/b/f") as f:
        os.rename(either.mnt / "a/b/f", either.mnt / "a/b/g")
        os.rename(either.mnt / "a", either.mnt / "z")
        assert f.read() == "content"


def test_more_than_are_kept_are_read_after_their_unlink(volume, plenty):
    """Nobody read them before; then as many others are read, which do not push them out."""
    names = [f"{n:04}" for n in range(MOST + 100)]
    for name in names:
        (volume.tree / name).write_text(name)
    held = {name: os.open(volume.mnt / name, os.O_RDONLY) for name in names}
    for name in names:
        os.unlink(volume.mnt / name)
    for n in range(MOST + 10):
        (volume.tree / f"other{n}").write_text("other")
        assert (volume.mnt / f"other{n}").read_text() == "other"
    for name, fd in held.items():
        assert os.pread(fd, 100, 0) == name.encode()
        os.close(fd)
    until("they are closed", lambda: not deleted(volume))


def test_a_removed_tree_leaves_nothing_open(volume):
    for n in range(50):
        (volume.mnt / f"d{n}").mkdir()
        (volume.mnt / f"d{n}" / "f").write_text("content")
    subprocess.run(["rm", "-r", *(str(volume.mnt / f"d{n}") for n in range(50))], check=True)
    until("nothing is open", lambda: not deleted(volume))


# ---- descriptors ----

def test_ten_thousand_files_are_read_with_a_thousand_descriptors(volume, plenty):
    resource.prlimit(volume.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    for n in range(100):
        (volume.tree / str(n)).mkdir()
        for m in range(100):
            (volume.tree / str(n) / str(m)).write_text(f"{n}/{m}")
    held = []
    for n in range(100):
        for m in range(100):
            held.append(os.open(volume.mnt / str(n) / str(m), os.O_RDONLY))
            assert os.read(held[-1], 100) == f"{n}/{m}".encode()
    assert len(descriptors(volume)) < 2 * MOST + 100
    for n, fd in enumerate(held):
        assert os.pread(fd, 100, 1) == f"{n // 100}/{n % 100}".encode()[1:]
        os.close(fd)


def test_who_has_no_descriptor_left_closes_what_is_not_in_use(volume):
    for n in range(100):
        (volume.tree / f"{n}").write_text(f"{n}")
        (volume.mnt / f"{n}").stat()
    highest = max(map(int, os.listdir(f"/proc/{volume.pid}/fd")))
    was = resource.prlimit(volume.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(volume.pid, resource.RLIMIT_NOFILE, (highest + 20, was[1]))
    for n in range(100):
        assert (volume.mnt / f"{n}").read_text() == f"{n}"
    resource.prlimit(volume.pid, resource.RLIMIT_NOFILE, was)     # its end needs some, too


def test_files_pushed_out_while_they_are_used_are_whole(volume):
    """More files than are kept, under several threads: each read is one whole write."""
    seed = random.randrange(1 << 32)
    names = [f"{n}" for n in range(MOST + 200)]
    for name in names:
        (volume.tree / name).write_bytes(name.encode() * 100)
    failures = []

    def work(number):
        chosen = random.Random(seed + number)
        try:
            for _ in range(500):
                name = chosen.choice(names)
                if chosen.random() < 0.3:
                    with open(volume.mnt / name, "r+b", buffering=0) as f:
                        f.write(name.encode() * 100)
                elif (volume.mnt / name).read_bytes() != name.encode() * 100:
                    failures.append(name)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, f"seed {seed}"


# ---- rights, locks, attributes ----

def as_nobody(*command):
    return subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, text=True)


def test_rights_are_checked_at_each_open(either):
    volume = either
    if os.geteuid():
        pytest.skip("needs root")
    (volume.mnt / "secret").write_text("secret")
    (volume.mnt / "secret").chmod(0o600)
    (volume.mnt / "public").write_text("public")
    assert (volume.mnt / "secret").read_text() == "secret"        # in the cache, and the server has it open
    done = as_nobody("cat", str(volume.mnt / "secret"))
    assert (done.returncode, done.stdout) == (1, "") and "Permission denied" in done.stderr
    assert as_nobody("cat", str(volume.mnt / "public")).stdout == "public"
    done = as_nobody("sh", "-c", f"echo no >>{volume.mnt}/public")
    assert done.returncode and "Permission denied" in done.stderr
    assert (volume.mnt / "public").read_text() == "public"
    (volume.mnt / "public").chmod(0o600)
    assert as_nobody("cat", str(volume.mnt / "public")).returncode == 1


def test_what_another_user_writes_loses_set_user_id(volume):
    if os.geteuid():
        pytest.skip("needs root")
    (volume.mnt / "f").write_text("tool")
    (volume.mnt / "f").chmod(0o4777)
    assert as_nobody("sh", "-c", f"echo bad >>{volume.mnt}/f").returncode == 0
    assert (volume.tree / "f").stat().st_mode & 0o7777 == 0o777


def test_locks_are_the_kernels_own(either):
    (either.mnt / "f").write_text("content")
    with open(either.mnt / "f", "r+") as one, open(either.mnt / "f", "r+") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX)
    assert not asked(either)["getlk"] and not asked(either)["setlk"]


def test_flags_of_a_file_are_read_and_set(volume):
    """What lsattr and chattr use: an ioctl(2)."""
    (volume.mnt / "f").write_text("content")
    get = 0x80086601
    try:
        with open(volume.tree / "f") as f:
            fcntl.ioctl(f, get, bytes(8))
    except OSError as error:
        pytest.skip(f"the file system below has no flags: {error}")
    with open(volume.mnt / "f") as above, open(volume.tree / "f") as below:
        assert fcntl.ioctl(above, get, bytes(8)) == fcntl.ioctl(below, get, bytes(8))


# ---- filters ----

@pytest.mark.parametrize("filter", ["rot13", "trace", "content_screener"])
def test_a_filter_that_looks_at_opens_or_data_is_refused(volume, filter):
    done = volume.attach(filter, check=False)
    assert done.returncode
    assert done.stderr.strip().count("\n") == 0
    assert f"filter '{filter}' looks at opens, reads or writes, and 'dir:{volume.tree}' is mounted without opens" in done.stderr
    assert volume.instances() == []


def test_a_filter_that_looks_at_neither_is_welcome(volume):
    (volume.tree / "f").write_text("content")
    volume.attach("null")
    assert (volume.mnt / "f").read_text() == "content"
    volume.detach("null")


def test_a_mount_with_a_filter_that_is_refused_is_no_mount(place):
    done = place.cli("mount", "-o", "open=no", "--filter", "rot13", f"dir:{place.tree}", place.mnt, check=False)
    assert done.returncode
    assert "filter 'rot13' looks at opens, reads or writes" in done.stderr
    place.nothing_left()


# ---- the end ----

def test_an_unmount_closes_what_is_open_and_leaves_nothing(place):
    place.mount("-o", "open=no")
    assert (place.mnt / "f").read_text() == "content"
    (place.mnt / "g").write_text("written")
    place.cli("unmount", place.mnt)
    (place.tree / "g").unlink()
    place.nothing_left()


def test_an_open_file_is_busy_and_its_end_lets_go(volume):
    (volume.tree / "f").write_text("content")
    with open(volume.mnt / "f") as f:
        assert subprocess.run(["umount", str(volume.mnt)], stderr=subprocess.DEVNULL).returncode
        assert f.read() == "content"
    assert volume.unmount() == 0
    assert "referenced" not in volume.said()
