# SPDX-License-Identifier: MIT
"""A program at the port decides about files; whatever becomes of it, nobody waits past the deadline."""
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

fixtures = sys.modules["altitude_fixtures"]
SCREEN = fixtures.BUILD / "modules" / "screen"
NEVER = 600000      # a deadline that must not be what ends a question


class Screen:
    """The example program; said() is its next line."""

    def __init__(self, port, *words):
        self.process = subprocess.Popen([str(SCREEN), port, *words], env=fixtures.ENV, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.said() == "listening", self.process.stderr.read()

    def said(self):
        return self.process.stdout.readline().rstrip()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def port():
    return f"t{os.getpid()}"


@pytest.fixture
def screen(port):
    held = []

    def start(*words):
        held.append(Screen(port, *words))
        return held[-1]

    yield start
    for one in held:
        one.end()


@pytest.fixture
def screened(mount, tmp_path, port):
    def make(**options):
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "good").write_text("sound and sweet")
        (tree / "bad").write_text("a foul thing")
        words = "".join(f":{key}={value}" for key, value in options.items())
        return mount(f"dir:{tree}", f"content_screener:port={port}{words}")
    return make


def stats(volume):
    return dict(line.split() for line in volume.cli("stats", volume.mnt).stdout.splitlines()
                if line.split()[0] in ("asked", "unanswered", "refused", "foul"))


def test_nobody_listens_and_the_policy_decides(screened):
    assert (screened().mnt / "bad").read_text() == "a foul thing"


def test_nobody_listens_and_the_policy_denies(screened):
    volume = screened(otherwise="deny")
    with pytest.raises(PermissionError):
        (volume.mnt / "good").read_text()
    assert "nobody at the port answered" in volume.said()


def test_the_listener_decides_and_gives_the_reason(screened, screen):
    volume, program = screened(deadline=NEVER), screen("foul", "rotten")
    assert (volume.mnt / "good").read_text() == "sound and sweet"
    assert program.said() == "allowed /good"
    with pytest.raises(PermissionError):
        (volume.mnt / "bad").read_text()
    assert program.said() == "refused /bad"
    assert "refused open of '/bad': the listener says it has 'foul'" in volume.said()
    assert stats(volume)["asked"] == "2" and stats(volume)["refused"] == "1"


def test_what_was_written_is_asked_about_when_it_is_closed(screened, screen):
    volume, program = screened(deadline=NEVER), screen("foul")
    (volume.mnt / "new").write_text("it is fo" + "ul")
    while program.said() != "refused /new":
        assert program.process.poll() is None
    with pytest.raises(PermissionError):
        (volume.mnt / "new").read_text()


def test_what_the_listener_opens_itself_is_not_asked_about(screened, port):
    """The one thread that listens opens a foul file: asked about itself, it could not answer."""
    volume = screened(deadline=NEVER, otherwise="deny")
    code = f"""
import socket, struct
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect({os.path.join(fixtures.ENV.get("ALTITUDE_RUNTIME", "/run/altitude"), port + ".port")!r})
s.send(struct.pack("=IHHQIi", 0x50544c41, 1, 1, 1, 0, 0))
assert struct.unpack("=IHHQIi", s.recv(100))[2:] == (2, 1, 0, 0)
print(open({str(volume.mnt / "bad")!r}).read())
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.stdout == "a foul thing\n", done.stderr


def read_in_background(path):
    """Read a file in a process of its own, which can be killed."""
    return subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_stopped_listener_that_dies_releases_who_waits(screened, screen):
    volume, program = screened(deadline=NEVER), screen("foul")
    program.process.send_signal(signal.SIGSTOP)
    readers = [read_in_background(volume.mnt / "bad") for _ in range(8)]
    with pytest.raises(subprocess.TimeoutExpired):
        readers[0].wait(0.3)
    program.end()
    assert [reader.communicate()[0] for reader in readers] == ["a foul thing"] * 8


def test_who_waits_for_a_stopped_listener_can_be_killed(screened, screen):
    volume, program = screened(deadline=NEVER), screen("foul")
    program.process.send_signal(signal.SIGSTOP)
    reader = read_in_background(volume.mnt / "bad")
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(0.3)
    reader.kill()
    reader.communicate()
    assert reader.returncode == -signal.SIGKILL


def test_a_listener_that_hangs_is_not_asked_for_ever(screened, screen):
    volume, program = screened(deadline=20), screen("foul")
    program.process.send_signal(signal.SIGSTOP)
    for _ in range(10):
        assert (volume.mnt / "bad").read_text() == "a foul thing"
    assert "is not asked until it answers" in volume.said()
    program.process.send_signal(signal.SIGCONT)
    while True:         # its late answers make it asked again
        try:
            (volume.mnt / "bad").read_text()
        except PermissionError:
            break


def test_listeners_are_killed_at_any_moment(screened, screen):
    volume = screened(deadline=NEVER)
    over, wrong = threading.Event(), []

    def read():
        while not over.is_set():
            try:
                if (volume.mnt / "good").read_text() != "sound and sweet":
                    wrong.append("other text")
            except OSError as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(15):
        screen("foul").end()
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_the_port_closes_with_the_filter(screened, screen):
    volume, program = screened(), screen("foul")
    volume.detach("content_screener")
    assert program.said() == "the port is closed"
    assert program.process.wait(30) == 0


def test_a_taken_name_is_said(screened, port):
    volume = screened()
    done = volume.attach(f"content_screener@265001:port={port}", check=False)
    assert done.returncode == 1 and f"port '{port}' is open already" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("options, what", [
    ("port=a/b", "port 'a/b'"), ("port=p:deadline=0", "deadline is 1 to"), ("port=p:otherwise=maybe", "otherwise=maybe"),
])
def test_wrong_options_are_said(mount, options, what):
    with pytest.raises(AssertionError, match=what):
        mount("dir:", f"content_screener:{options}")


def test_the_program_says_what_is_wrong():
    done = subprocess.run([str(SCREEN), "nowhere", "x"], env=fixtures.ENV, text=True, capture_output=True)
    assert done.returncode == 1 and "there is no port 'nowhere'" in done.stderr
    assert subprocess.run([str(SCREEN)], env=fixtures.ENV, capture_output=True).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_with_a_way_to_the_port_is_sent_away(screened, port):
    """The directory is passed by with a descriptor of the socket: the port itself must look who is there."""
    screened()
    runtime = fixtures.ENV.get("ALTITUDE_RUNTIME", "/run/altitude")
    path = os.path.join(runtime, f"{port}.port")
    os.chmod(path, 0o777)
    handle = os.open(path, os.O_PATH)

    def first_word():
        """The kind of the port's first packet to who comes: 2 lets in; None: sent away."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as talk:
            talk.settimeout(30)
            talk.connect(f"/proc/self/fd/{handle}")
            try:
                talk.send(struct.pack("=IHHQIi", 0x50544c41, 1, 1, 0, 0, 0))
                answer = talk.recv(100)
            except (BrokenPipeError, ConnectionResetError):
                return None
            return struct.unpack("=IHHQIi", answer)[2] if answer else None

    assert first_word() == 2
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setgroups([])
            os.setgid(12001)
            os.setuid(12001)
            code = 0 if first_word() is None else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(handle)
