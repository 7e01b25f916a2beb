# SPDX-License-Identifier: MIT
"""transport=uring: requests come over the ring, whatever they are, are answered from any thread, and it ends as /dev/fuse does."""
import errno
import importlib.util
import mmap
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest

fixtures = sys.modules["altitude_fixtures"]
ENDLESS = 3600000


@pytest.fixture
def ringed(switch, mount):
    """As `mount`, over the ring: what it makes is known to have one ring for each CPU."""
    switch("Y")

    def make(fs="dir:", *filters, **options):
        volume = mount(fs, *filters, transport="uring", **options)
        fixtures.until("the rings are there", lambda: len(rings(volume.pid)) == len(os.sched_getaffinity(0)))
        return volume
    return make


def rings(pid):
    """Descriptors of a process that are rings."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if "io_uring" in os.readlink(f"/proc/{pid}/fd/{name}"):
                found.append(name)
        except FileNotFoundError:
            pass
    return found


def submitted(pid):
    """How many commands the rings were given: each answer is one."""
    def of(name):
        text = ""
        while "SqTail" not in text:                   # left out while the ring is busy
            text = pathlib.Path(f"/proc/{pid}/fdinfo/{name}").read_text()
        return int(re.search(r"SqTail:\s*(\d+)", text)[1])
    return sum(map(of, rings(pid)))


def delayed(volume, count):
    fixtures.until(f"{count} operations wait", lambda: volume.report("delay")["delayed"] == [count])


def test_requests_come_over_the_ring(ringed):
    volume = ringed("mem:", ttl_ms=0)
    before = submitted(volume.pid)
    for _ in range(100):
        assert os.stat(volume.mnt).st_ino
    assert submitted(volume.pid) - before >= 100


def test_without_the_option_there_is_no_ring(switch, mount):
    switch("Y")
    volume = mount("mem:")
    os.stat(volume.mnt)
    assert rings(volume.pid) == []


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
def test_a_life_over_the_ring(ringed, fs):
    volume = ringed(fs, "stats", ttl_ms=0)
    mnt = volume.mnt
    (mnt / "d").mkdir()
    (mnt / "d/a").write_text("one")
    os.link(mnt / "d/a", mnt / "d/b")
    os.symlink("a" * 4000, mnt / "d/long")
    assert os.readlink(mnt / "d/long") == "a" * 4000
    os.rename(mnt / "d/a", mnt / "c")
    assert sorted(os.listdir(mnt / "d")) == ["b", "long"]
    assert (mnt / "d/b").read_text() == "one" and os.stat(mnt / "c").st_nlink == 2
    os.setxattr(mnt / "c", "user.small", b"v")
    os.setxattr(mnt / "c", "user.large", b"x" * 3000)
    assert os.getxattr(mnt / "c", "user.large") == b"x" * 3000 and os.getxattr(mnt / "c", "user.small") == b"v"
    assert sorted(os.listxattr(mnt / "c")) == ["user.large", "user.small"]
    os.removexattr(mnt / "c", "user.large")
    with pytest.raises(OSError) as e:
        os.getxattr(mnt / "c", "user.large")
    assert e.value.errno == errno.ENODATA
    with pytest.raises(OSError) as e:
        os.rmdir(mnt / "d")
    assert e.value.errno == errno.ENOTEMPTY
    with pytest.raises(OSError) as e:
        os.stat(mnt / "d/none")
    assert e.value.errno == errno.ENOENT
    os.truncate(mnt / "c", 1)
    assert (mnt / "d/b").read_text() == "o"
    assert os.statvfs(mnt).f_bsize
    for name in ("b", "long"):
        os.unlink(mnt / "d" / name)
    os.rmdir(mnt / "d")
    assert os.listdir(mnt) == ["c"]


@pytest.mark.parametrize("filters", [[], ["rot13"]], ids=["bare", "changed"])
def test_the_largest_reads_and_writes(ringed, filters):
    """1 MiB in one piece and odd lengths beside it, past the page cache."""
    volume = ringed("dir:", *filters, passthrough="no")
    area = mmap.mmap(-1, 1 << 20)
    area.write(b"".join(n.to_bytes(4, "little") for n in range(1 << 18)))
    fd = os.open(volume.mnt / "f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    try:
        for n in range(4):
            assert os.pwrite(fd, area, n << 20) == 1 << 20
        back = mmap.mmap(-1, 1 << 20)
        for n in range(4):
            assert os.preadv(fd, [back], n << 20) == 1 << 20 and back[:] == area[:]
    finally:
        os.close(fd)
    with open(volume.mnt / "f", "r+b", buffering=0) as f:
        f.seek(12345)
        f.write(bytes(area[:777777]))
        f.seek(12345)
        assert f.read(777777) == area[:777777]
    assert (volume.tree / "f").stat().st_size == 4 << 20


def test_a_large_directory(ringed):
    volume = ringed("dir:")
    names = {f"{n:04}" + "x" * 200 for n in range(3000)}
    for name in names:
        (volume.tree / name).touch()
    assert set(os.listdir(volume.mnt)) == names
    assert {entry.name for entry in os.scandir(volume.mnt) if entry.stat().st_size == 0} == names


def test_the_answer_of_a_pended_operation_comes_from_another_thread(ringed):
    volume = ringed("mem:", "delay:op=write;read;lookup:ms=5", ttl_ms=0)
    for n in range(20):
        (volume.mnt / f"f{n}").write_text(str(n))
        assert (volume.mnt / f"f{n}").read_text() == str(n)
    assert volume.report("delay")["delayed"][0] >= 60


def test_more_wait_than_a_queue_has_entries(ringed):
    """One entry for each queue, all held: the others' turn comes when they are answered."""
    volume = ringed("mem:", "delay:op=getattr:ms=10", ttl_ms=0, ring_depth=1)
    (volume.mnt / "f").write_text("x")
    wrong = []

    def client():
        for _ in range(10):
            if os.stat(volume.mnt / "f").st_size != 1:
                wrong.append("size")
    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert volume.report("delay")["delayed"][0] >= 120


def test_slow_work_is_done_by_workers_while_the_ring_goes_on(ringed, tmp_path):
    """Content is judged by a thread of its own; as many readers as there may be are answered rightly."""
    volume = ringed("dir:", "content_screener:name=*.bad", "trace:file=" + str(tmp_path / "trace"), ttl_ms=0)
    for n in range(30):
        (volume.mnt / f"{n}.good").write_text(str(n))
        with pytest.raises(PermissionError):
            (volume.mnt / f"{n}.bad").write_text("x")
    assert len(os.listdir(volume.mnt)) == 30


def test_a_killed_waiter_goes_at_once(ringed):
    """An operation kept for an hour: INTERRUPT comes over /dev/fuse and finds what came over the ring."""
    volume = ringed("mem:", f"delay:op=listxattr:ms={ENDLESS}")
    (volume.mnt / "f").write_text("x")
    for n in range(1, 6):
        waiter = subprocess.Popen([sys.executable, "-c", "import os, sys; os.listxattr(sys.argv[1])", volume.mnt / "f"],
                                  stderr=subprocess.DEVNULL)
        delayed(volume, n)
        waiter.kill()
        assert waiter.wait(60) == -signal.SIGKILL
    assert volume.report("delay")["cancelled"] == [5]
    assert (volume.mnt / "f").read_text() == "x"


def test_an_interrupted_waiter_gets_eintr(ringed):
    volume = ringed("mem:", f"delay:op=listxattr:ms={ENDLESS}")
    (volume.mnt / "f").write_text("x")
    script = ("import os, signal, sys\n"
              "def stop(*ignored): raise SystemExit(42)\n"
              "signal.signal(signal.SIGUSR1, stop)\n"
              "os.listxattr(sys.argv[1])\n")
    waiter = subprocess.Popen([sys.executable, "-c", script, volume.mnt / "f"])
    delayed(volume, 1)
    waiter.send_signal(signal.SIGUSR1)
    assert waiter.wait(60) == 42
    assert volume.report("delay")["cancelled"] == [1]


def test_interrupts_in_a_storm_lose_nobody(ringed):
    """Waiters killed at any moment, before and after their request is looked at: each ends, and the volume still answers."""
    volume = ringed("mem:", f"delay:op=listxattr:ms={ENDLESS}", ring_depth=4, ttl_ms=0)
    (volume.mnt / "f").write_text("x")
    for n in range(40):
        waiters = [subprocess.Popen(["getfattr", volume.mnt / "f"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for _ in range(3)]
        for waiter in waiters:
            if n % 4:
                try:
                    waiter.wait(n % 4 / 1000)
                except subprocess.TimeoutExpired:
                    pass
            waiter.kill()
        for waiter in waiters:
            assert waiter.wait(60) == -signal.SIGKILL
    assert (volume.mnt / "f").read_text() == "x"


def test_a_timeout_is_answered_and_the_late_answer_dropped(ringed):
    volume = ringed("mem:", "delay:op=listxattr:ms=600", timeout_ms=200, ring_depth=1)
    (volume.mnt / "f").write_text("x")
    for _ in range(3):
        with pytest.raises(OSError) as e:
            os.listxattr(volume.mnt / "f")
        assert e.value.errno == errno.ETIMEDOUT
        assert os.stat(volume.mnt / "f").st_size == 1
    assert volume.report("delay")["delayed"] == [3]


# ---- the end ----

LOAD = """
import os, sys
os.chdir(sys.argv[1])
name = str(os.getpid())
print("on", flush=True)
while True:
    try:
        with open(name, "w") as f:
            f.write(name * 1000)
        with open(name) as f:
            f.read()
        os.listdir(".")
        os.unlink(name)
    except OSError:
        sys.exit(0)
"""


def load(place, count):
    made = []
    for _ in range(count):
        process = subprocess.Popen([sys.executable, "-c", LOAD, place.mnt], stdout=subprocess.PIPE, text=True)
        place.held.append(process)
        assert process.stdout.readline() == "on\n"
        made.append(process)
    return made


FILTERS = [[], ["--filter", "stats", "--filter", "delay:op=read;lookup:ms=1"]]


@pytest.mark.parametrize("filters", FILTERS, ids=["bare", "pended"])
@pytest.mark.parametrize("how", ["unmount", "SIGTERM", "abort"])
def test_it_ends_under_load(switch, place, how, filters):
    switch("Y")
    server = place.serve("-o", "transport=uring,ring_depth=2", *filters)
    place.until("the rings are there", lambda: rings(server.pid))
    device = os.stat(place.mnt).st_dev
    clients = load(place, 4)
    if how == "unmount":
        subprocess.run(["umount", "-l", place.mnt], check=True)
        for client in clients:
            client.kill()                     # a lazy unmount is over when nobody is inside any more
    elif how == "SIGTERM":
        server.send_signal(signal.SIGTERM)
    else:
        control = place.directory("control")
        subprocess.run(["mount", "-t", "fusectl", "fusectl", control], check=True)
        try:
            (control / str(os.minor(device)) / "abort").write_text("1")
        finally:
            subprocess.run(["umount", control], check=True)
    for client in clients:
        client.wait(60)
    assert server.wait(60) == 0
    place.nothing_left()


def test_a_signal_does_not_wait_for_what_a_filter_keeps(switch, place):
    switch("Y")
    server = place.serve("-o", "transport=uring", "--filter", f"delay:op=read:ms={ENDLESS}")
    reader = subprocess.Popen(["cat", place.mnt / "f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    place.held.append(reader)
    place.until("the read is kept", lambda: "delayed 1" in place.cli("stats", place.mnt).stdout)
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    assert reader.wait(60) == 1
    place.nothing_left()


# ---- where there is none ----

def test_without_the_switch_dev_fuse_serves_and_one_line_says_so(switch, mount):
    switch("N")
    volume = mount("mem:", transport="uring")
    (volume.mnt / "f").write_text("x")
    assert (volume.mnt / "f").read_text() == "x"
    assert rings(volume.pid) == []
    assert volume.said().count("\n") == 1
    assert "transport=uring is not offered by the kernel" in volume.said() and f">{fixtures.SWITCH}" in volume.said()


def test_the_doctor_says_how_to_turn_it_on(switch, altitude):
    def row():
        return next(line for line in altitude("doctor", check=False).stdout.splitlines() if "io_uring" in line)
    switch("N")
    if "FUSE protocol" in (text := altitude("doctor", check=False).stdout) and "no mount here" in text:
        pytest.skip("the driver cannot be asked here")
    assert re.match(rf"  note +io_uring transport +not offered: as root, 'echo Y >{fixtures.SWITCH}'", row())
    switch("Y")
    assert re.match(r"  ok +io_uring transport +with -o transport=uring", row())


# ---- the same answers as the native file system ----

_spec = importlib.util.spec_from_file_location("posix_calls", pathlib.Path(__file__).parents[1] / "posix/calls.py")
calls = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(calls)


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
@pytest.mark.parametrize("filters", [(), ("null", "stats")], ids=["bare", "filtered"])
def test_same_answers_as_the_native_file_system(ringed, tmp_path, fs, filters):
    native = tmp_path / "native"
    native.mkdir()
    volume = ringed(fs, *filters)
    differences = calls.compare(native, volume.mnt, calls.generate(4, 20, 60))
    assert not differences, "\n".join(differences)
