# SPDX-License-Identifier: MIT
"""The control socket: for its owner and root alone, and unmoved by what is said to it."""
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

OTHER = 12001


def path_of(place):
    name, = place.sockets()
    return place.runtime / name


def connect(path):
    talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    talk.settimeout(30)
    talk.connect(str(path))
    return talk


def ask(talk, message):
    """The answer to bytes or an object; b"" when the connection was closed."""
    talk.send(message if isinstance(message, bytes) else json.dumps(message).encode())
    answer = talk.recv(1 << 20)
    return json.loads(answer.rstrip(b"\0")) if answer else answer


def as_other(work):
    """work() as another user; its exit status."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_runtime_directory_and_its_sockets_are_the_owners(place):
    place.mount()
    status = os.stat(place.runtime)
    assert (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o700)


def test_what_a_killed_server_left_is_cleaned_away(place):
    """Before it listens its socket has another name; that of one who is just beginning stays."""
    place.mount()
    done = subprocess.Popen(["true"])
    done.wait()
    left, begun = (place.runtime / f"{pid}.new" for pid in (done.pid, os.getpid()))
    for path in (left, begun):
        path.touch()
    place.cli("volumes")
    assert begun.exists() and not left.exists()
    begun.unlink()


def test_another_user_does_not_reach_the_socket(place):
    place.mount()
    path = path_of(place)

    def work():
        try:
            connect(path)
        except PermissionError:
            return 0
        return 1

    assert as_other(work) == 0


def test_another_user_with_a_way_to_the_socket_is_sent_away(place):
    """The directory is passed by with a descriptor of the socket: the server itself must look who is there."""
    place.mount()
    handle = os.open(path_of(place), os.O_PATH)
    os.chmod(path_of(place), 0o777)

    def work():
        talk = connect(f"/proc/self/fd/{handle}")
        try:
            return 0 if ask(talk, {"v": 1, "cmd": "unmount"}) == b"" else 1
        except (BrokenPipeError, ConnectionResetError):
            return 0

    assert as_other(work) == 0
    with connect(f"/proc/self/fd/{handle}") as talk:     # the same way, for the owner
        assert ask(talk, {"v": 1, "cmd": "volumes"})["ok"] is True
    os.close(handle)
    assert (place.mnt / "f").read_text() == "content"


def test_a_runtime_directory_open_to_others_is_refused(place):
    os.chmod(place.runtime, 0o770)
    done = place.mount(check=False)
    assert done.returncode == 1 and "is not yours alone" in done.stderr and done.stderr.count("\n") == 1
    os.chmod(place.runtime, 0o700)
    os.chown(place.runtime, OTHER, OTHER)
    done = place.mount(check=False)
    assert done.returncode == 1 and "is not yours alone" in done.stderr
    os.chown(place.runtime, 0, 0)
    place.nothing_left()


@pytest.mark.parametrize("message, errno_", [
    (b"x", 22), (b"{", 22), (b"[]", 22), (b"null", 22), (b"\0" * 100, 22), (b"\xff\xfe", 22), (b"{}", 22),
    (b"[" * 60000, 22), (b'{"v":1,"cmd":"' + b"x" * 60000 + b'"}', 22), ({"v": 1, "cmd": "fly"}, 22),
    ({"v": 2, "cmd": "volumes"}, 71), ({"cmd": "volumes"}, 71), ({"v": "1", "cmd": "volumes"}, 71),
    ({"v": 1, "cmd": 7}, 22), ({"v": 1, "cmd": "attach"}, 22), ({"v": 1, "cmd": "attach", "filter": 1}, 22),
    ({"v": 1, "cmd": "detach"}, 22), ({"v": 1, "cmd": "load"}, 22), ({"v": 1, "cmd": "unload"}, 22),
    ({"v": 1, "cmd": "mount-add"}, 22), ({"v": 1, "cmd": "load", "filter": ""}, None),
    ({"v": 1, "cmd": "load", "filter": "../../etc/passwd"}, None), ({"v": 1, "cmd": "load", "filter": "/etc/passwd"}, None),
    ({"v": 1, "cmd": "attach", "filter": "null", "altitude": "x" * 5000}, None),
    ({"v": 1, "cmd": "attach", "filter": "null", "altitude": "1", "options": ":::=:=="}, None),
    ({"v": 1, "cmd": "attach", "filter": "null", "altitude": "-1"}, None), (b'{"v":1,"v":1,"cmd":"volumes"}', 22),
], ids=lambda value: repr(value)[:40])
def test_nonsense_is_answered_and_survived(place, message, errno_):
    place.mount()
    with connect(path_of(place)) as talk:
        answer = ask(talk, message)
        assert answer["ok"] is False and answer["error"]
        if errno_ is not None:
            assert answer["errno"] == errno_
        assert ask(talk, {"v": 1, "cmd": "volumes"})["ok"] is True
    assert (place.mnt / "f").read_text() == "content"


def test_who_connects_and_says_nothing_holds_up_nobody(place):
    place.mount()
    path = path_of(place)
    idle = [connect(path) for _ in range(40)]
    assert "f" in os.listdir(place.mnt)
    place.cli("volumes")
    place.cli("attach", "null", place.mnt)
    for talk in idle:
        talk.close()


def test_who_goes_on_asking_does_not_hold_up_the_end(place):
    server = place.serve()
    silent, talk, ended = connect(path_of(place)), connect(path_of(place)), threading.Event()

    def work():
        try:
            while ask(talk, {"v": 1, "cmd": "volumes"}) and not ended.wait(0.05):
                pass
        except OSError:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        ended.set()
        thread.join()
        silent.close()
        talk.close()
    place.nothing_left()


def test_many_ask_at_once(place):
    place.mount("--filter", "stats")
    path, wrong = path_of(place), []

    def work(number):
        for n in range(100):
            with connect(path) as talk:
                answer = ask(talk, {"v": 1, "cmd": ("volumes", "instances", "filters", "stats")[(number + n) % 4]})
                if not answer or answer["ok"] is not True:
                    wrong.append(answer)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_answer_longer_than_a_packet_arrives_whole(place):
    place.mount("--filter", "activity_monitor:records=50000")
    for n in range(3000):
        (place.mnt / f"a name of some length, to fill the record soon {n}").touch()
    said = place.cli("watch", "--once", place.mnt).stdout
    assert len(said) > 3 * 65536
    assert "fill the record soon 2999" in said, said[-300:]


def test_a_server_that_is_stopped_holds_up_no_list_and_no_other(place):
    stopped = place.serve("--filter", "stats")
    other = place.directory("other")
    place.mount("--filter", "null", target=other)
    stopped.send_signal(signal.SIGSTOP)
    try:
        lists = place.cli("instances", check=False)
        assert lists.returncode == 1 and "null" in lists.stdout and "stats" not in lists.stdout
        assert lists.stderr == (f"altitude instances: the server of process {stopped.pid} does not answer: it is stopped, "
                                f"or hangs; 'kill -CONT {stopped.pid}' lets it go on, 'kill -KILL {stopped.pid}' ends it\n")
        assert "null" in place.cli("instances", other).stdout
        asked = place.cli("instances", place.mnt, check=False)
        assert asked.returncode == 1 and f"the server of process {stopped.pid} does not answer" in asked.stderr
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert {line.split()[0] for line in place.cli("instances").stdout.splitlines()} == {"Filter", "null", "stats"}
    place.cli("unmount", other)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(20) == 0
    place.nothing_left()


@pytest.mark.parametrize("held, words", [(False, ["mount", "dir:{tree}"]), (True, ["mount", "-o", "nonempty", "dir:{tree}"]),
                                         (True, ["mount-add", "{other}"])])
def test_a_place_whose_server_hangs_is_told_with_the_server(place, held, words):
    """It is stopped, or a filter keeps what it was asked. Nobody waits for it, and nobody is left behind who does."""
    other = place.directory("other")
    place.mount(target=other)
    hung = place.serve(*(["--filter", "delay:op=getattr:ms=600000"] if held else []))
    if not held:
        os.listdir(place.mnt)                # its attributes are remembered
        hung.send_signal(signal.SIGSTOP)
    done = place.cli(*(word.format(tree=place.tree, other=other) for word in words), place.mnt, check=False)
    assert done.returncode == 1 and done.stderr == (
        f"altitude {words[0]}: mounting point '{place.mnt}' shows a volume whose server, process {hung.pid}, does not answer: "
        f"it is stopped, or hangs; 'kill -CONT {hung.pid}' lets it go on, 'kill -KILL {hung.pid}' ends it\n")
    hung.send_signal(signal.SIGCONT)
    hung.send_signal(signal.SIGTERM)
    assert hung.wait(20) == 0
    place.cli("unmount", other)
    place.nothing_left()


def test_a_volume_whose_server_is_stopped_is_unmounted_lazily(place):
    stopped = place.serve()
    stopped.send_signal(signal.SIGSTOP)
    done = place.cli("unmount", place.mnt, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"the server of process {stopped.pid} does not answer" in done.stderr and f"kill -KILL {stopped.pid}" in done.stderr
    place.cli("unmount", "--lazy", place.mnt)
    assert list(place.mnt.iterdir()) == []
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(20) == 0
    place.nothing_left()
