# SPDX-License-Identifier: MIT
"""How a volume ends: unmounted, told to by a signal, aborted, killed. Nothing of it stays."""
import contextlib
import errno
import os
import pathlib
import signal
import subprocess

import pytest

import altitude_fixtures
from altitude_fixtures import mounted


def ended(place, server):
    code = server.wait(30)
    place.nothing_left()
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("filters", [[], ["--filter", "stats", "--filter", "delay:op=read:ms=5000"]], ids=["bare", "filtered"])
def test_a_signal_unmounts(place, number, filters):
    server = place.serve(*filters)
    assert os.stat(place.mnt / "f").st_size == 7
    server.send_signal(number)
    assert ended(place, server) == 0
    assert place.said() == ""


@pytest.mark.parametrize("kind", ["file", "cwd"])
def test_a_signal_ends_a_busy_volume_too_and_says_so(place, kind):
    server = place.serve()
    holder = place.hold(place.mnt / "f" if kind == "file" else place.mnt, kind=kind)
    server.send_signal(signal.SIGTERM)
    assert ended(place, server) == 0
    assert f"'{place.mnt}' is in use by sleep (pid {holder.pid})" in place.said()
    assert "it is detached all the same, its open files end" in place.said()
    assert holder.poll() is None


def test_an_open_file_of_an_ended_volume_answers_with_an_error(place):
    server = place.serve("--filter", "null")
    fd = os.open(place.mnt / "f", os.O_RDWR)
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    with pytest.raises(OSError) as e:
        os.fstat(fd)
    assert e.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    with contextlib.suppress(OSError):     # whether close(2) asks at all is the volume's choice
        os.close(fd)
    place.nothing_left()


def test_a_signal_does_not_wait_for_a_read_that_a_filter_keeps(place):
    server = place.serve("--filter", "delay:op=read:ms=3600000")
    reader = subprocess.Popen(["cat", place.mnt / "f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    place.held.append(reader)
    place.until("the read is kept", lambda: "delayed 1" in place.cli("stats", place.mnt).stdout)
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    _, error = reader.communicate(timeout=30)
    assert reader.returncode != 0 and error.startswith("cat: ")
    place.nothing_left()


def test_a_signal_does_not_wait_for_who_waits_for_a_lock(place):
    server = place.serve("--filter", "trace")
    script = "import fcntl,sys; f=open(sys.argv[1],'r+b'); print('open', flush=True); fcntl.lockf(f, fcntl.LOCK_EX); " \
             "print('has it', flush=True); sys.stdin.read()"
    lockers = []
    for _ in range(2):
        locker = subprocess.Popen(["/usr/bin/python3", "-c", script, place.mnt / "f"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        place.held.append(locker)
        lockers.append(locker)
        assert locker.stdout.readline() == "open\n"
        if len(lockers) == 1:
            assert locker.stdout.readline() == "has it\n"
    place.until("the second waits", lambda: ["setlk", "2"] in [line.split() for line in
                                                               place.cli("stats", place.mnt).stdout.splitlines()])
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    assert lockers[1].wait(30) != 0
    lockers[0].stdin.close()
    lockers[0].wait(30)
    place.nothing_left()


def test_unmounted_by_umount(place):
    server = place.serve()
    subprocess.run(["umount", place.mnt], check=True)
    assert ended(place, server) == 0
    assert place.said() == ""


def test_unmount_waits_for_the_servers_end(place):
    for _ in range(5):
        place.mount("--filter", "stats")
        assert len(place.servers()) == 1
        place.cli("unmount", place.mnt)
        assert place.servers() == []
        place.nothing_left()


@pytest.mark.parametrize("kind", ["file", "cwd"])
def test_a_busy_volume_stays_and_its_holder_is_named(place, kind):
    server = place.serve()
    holder = place.hold(place.mnt / "f" if kind == "file" else place.mnt, kind=kind)
    done = place.cli("unmount", place.mnt, check=False)
    assert done.returncode == 1
    assert done.stderr == f"altitude unmount: '{place.mnt}' is in use by sleep (pid {holder.pid}); end them, " \
                          "or detach it with --lazy\n"
    assert (place.mnt / "f").read_text() == "content"
    holder.kill()
    holder.wait()
    place.cli("unmount", place.mnt)
    assert ended(place, server) == 0


@pytest.mark.parametrize("kind", ["mapping", "program"])
def test_who_maps_or_runs_a_file_is_named(place, kind):
    (place.tree / "run").write_bytes(pathlib.Path("/usr/bin/sleep").read_bytes())
    os.chmod(place.tree / "run", 0o755)
    server = place.serve()
    if kind == "program":
        holder = subprocess.Popen([place.mnt / "run", "1000"])
    else:
        holder = subprocess.Popen(["/usr/bin/python3", "-c", "import mmap,sys,time; f=open(sys.argv[1]); "
                                   "m=mmap.mmap(f.fileno(), 7, prot=mmap.PROT_READ); f.close(); "
                                   "print('mapped', flush=True); sys.stdin.read()", place.mnt / "f"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "mapped\n"
    place.held.append(holder)
    if kind == "program":
        place.until("it runs", lambda: os.readlink(f"/proc/{holder.pid}/exe") == str(place.mnt / "run"))
    done = place.cli("unmount", place.mnt, check=False)
    assert done.returncode == 1 and f"(pid {holder.pid})" in done.stderr
    holder.kill()
    holder.wait()
    if holder.stdin:
        holder.stdin.close()
    place.cli("unmount", place.mnt)
    assert ended(place, server) == 0


def test_lazy_unmount_goes_at_once_and_ends_with_the_last_user(place):
    server = place.serve()
    fd = os.open(place.mnt / "f", os.O_RDWR)
    place.cli("unmount", "--lazy", place.mnt)
    assert mounted(place.mnt) is None
    assert server.poll() is None
    os.pwrite(fd, b"CONTENT", 0)
    assert os.pread(fd, 100, 0) == b"CONTENT"
    os.pwrite(fd, b"content", 0)
    assert server.poll() is None
    os.close(fd)
    assert ended(place, server) == 0


def test_lazy_unmount_of_an_idle_volume_ends_the_server(place):
    server = place.serve()
    place.cli("unmount", "--lazy", place.mnt)
    assert ended(place, server) == 0


def test_unmount_of_what_is_no_volume(place):
    done = place.cli("unmount", place.mnt, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"no volume '{place.mnt}' is mounted" in done.stderr


@pytest.fixture
def connections(place):
    """The control files of the kernel's FUSE driver."""
    at = place.directory("connections")
    if subprocess.run(["mount", "-t", "fusectl", "fusectl", at], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("the kernel has no fusectl here")
    yield at
    subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize("filters", [[], ["--filter", "delay:op=read:ms=3600000"]], ids=["idle", "busy"])
def test_abort_leaves_nothing(place, connections, filters):
    server = place.serve(*filters)
    if filters:
        reader = subprocess.Popen(["cat", place.mnt / "f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        place.held.append(reader)
        place.until("the read is kept", lambda: "delayed 1" in place.cli("stats", place.mnt).stdout)
    number = os.minor(os.stat(place.mnt).st_dev)
    (connections / str(number) / "abort").write_text("1")
    assert server.wait(30) == 0
    if filters:
        assert reader.wait(30) != 0
    assert mounted(place.mnt) is None
    subprocess.run(["umount", connections], check=True)
    place.nothing_left()
    subprocess.run(["mount", "-t", "fusectl", "fusectl", connections], check=True)


def waits_inside(pid):
    """Whether a thread of a process is inside the kernel, and no signal takes it out."""
    states = pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
    return any(stat.read_text().rsplit(")", 1)[1].split()[0] == "D" for stat in states)


@pytest.mark.parametrize("transport", ["devfuse", "uring"])
def test_a_signal_ends_who_tells_of_a_change_where_an_operation_holds_the_directory(place, connections, switch, transport):
    """The kernel keeps the directory locked while a file is made in it. Whoever tells it of a change there waits for that."""
    switch("Y" if transport == "uring" else "N")
    server = place.serve("-o", f"transport={transport}", "--filter", "delay:op=create:ms=3600000")
    assert os.listdir(place.mnt) == ["f"]        # names are known, and to be told of
    number = os.minor(os.stat(place.mnt).st_dev)
    makers = []
    for name in ("first", "second"):             # the second comes to ask when the first has been sent away
        makers.append(subprocess.Popen(["touch", place.mnt / name], stderr=subprocess.DEVNULL))
        place.held.append(makers[-1])
        if name == "first":
            place.until("it is kept", lambda: "delayed 1" in place.cli("stats", place.mnt).stdout)
    place.until("the second waits for the first", lambda: waits_inside(makers[1].pid))
    (place.tree / "below").touch()
    place.until("the server waits to tell of it", lambda: waits_inside(server.pid))
    server.send_signal(signal.SIGTERM)
    try:
        assert server.wait(30) == 0
        assert [maker.wait(30) for maker in makers] == [1, 1]
    finally:
        with contextlib.suppress(FileNotFoundError):     # else nothing would end it
            (connections / str(number) / "abort").write_text("1")
    subprocess.run(["umount", connections], check=True)
    place.nothing_left()
    subprocess.run(["mount", "-t", "fusectl", "fusectl", connections], check=True)


@pytest.mark.parametrize("points", [1, 2])
def test_a_killed_server_leaves_a_dead_mount_which_the_next_cleans_away(place, points):
    server = place.serve("--filter", "stats")
    other = place.directory("other")
    if points == 2:
        place.cli("mount-add", place.mnt, other)
    server.kill()
    assert server.wait() == -signal.SIGKILL
    with pytest.raises(OSError) as e:
        os.stat(place.mnt / "f")
    assert e.value.errno == errno.ENOTCONN
    done = place.mount()
    assert done.stderr == f"altitude: '{place.mnt}' held a dead mount whose server is gone; it was cleaned away\n"
    assert (place.mnt / "f").read_text() == "content"
    if points == 2:
        done = place.cli("mount-add", place.mnt, other)
        assert "it was cleaned away" in done.stderr + place.said() or (other / "f").read_text() == "content"
        place.cli("unmount", other)
    place.cli("unmount", place.mnt)
    place.nothing_left()


def test_a_dead_mount_is_known_although_the_kernel_remembers_its_root(place):
    server = place.serve()
    assert os.listdir(place.mnt)        # before somebody was let in, the root is not remembered
    remembered = os.stat(place.mnt)
    server.kill()
    server.wait()
    assert os.stat(place.mnt) == remembered
    assert "it was cleaned away" in place.mount().stderr
    assert (place.mnt / "f").read_text() == "content"
    place.cli("unmount", place.mnt)
    place.nothing_left()


def test_dead_mounts_that_cover_one_another_are_all_cleaned_away(place):
    servers = [place.serve(), place.serve("-o", "nonempty")]
    for server in servers:
        server.kill()
        server.wait()
    done = place.mount()
    assert done.stderr.count("held a dead mount whose server is gone; it was cleaned away") == 2
    assert (place.mnt / "f").read_text() == "content"
    place.cli("unmount", place.mnt)
    place.nothing_left()


def test_a_dead_mount_can_be_unmounted(place):
    server = place.serve()
    server.kill()
    server.wait()
    place.cli("unmount", place.mnt)
    assert mounted(place.mnt) is None
    place.cli("volumes")        # its dead socket goes with the first who asks
    place.nothing_left()


def test_killed_while_it_starts_or_ends_it_never_leaves_the_tree_damaged(place):
    for _ in range(10):
        starting = subprocess.Popen([str(altitude_fixtures.CLI), "mount", "--foreground", f"dir:{place.tree}", str(place.mnt)],
                                    env=place.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        place.held.append(starting)
        starting.send_signal(signal.SIGKILL)
        starting.wait()
    place.mount()
    assert (place.mnt / "f").read_text() == "content"
    place.cli("unmount", place.mnt)
    place.nothing_left()


def test_the_background_server_is_alone(place):
    """It holds no pipe, no terminal, no file and no directory of whoever started it, and belongs to a session of its own."""
    with open(place.path / "lock", "w") as lock:
        done = place.mount(cwd=place.tree, pass_fds=[lock.fileno()])
    assert (done.stdout, done.stderr) == ("", "")
    pid, = place.servers()
    assert str(place.path / "lock") not in [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for fd in "012":
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    for fd in os.listdir(f"/proc/{pid}/fd"):
        assert not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("pipe:")
    assert os.getsid(pid) == pid
    place.cli("unmount", place.mnt)
    place.nothing_left()


def test_many_volumes_come_and_go_and_no_descriptor_or_process_stays(place):
    before = len(os.listdir("/proc/self/fd"))
    volumes = [place.directory(f"v{n}") for n in range(8)]
    for _ in range(2):
        for target in volumes:
            place.mount(target=target)
        assert len(place.sockets()) == len(place.servers()) == 8
        for target in volumes:
            assert (target / "f").read_text() == "content"
            place.cli("unmount", target)
        place.nothing_left()
    assert len(os.listdir("/proc/self/fd")) == before

