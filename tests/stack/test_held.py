# SPDX-License-Identifier: MIT
"""A filter is unloaded while something may still call its code: it stays in memory, and who holds it is said to all who come."""
import os
import pathlib
import socket
import struct
import sys
import threading
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
HEADER = struct.Struct("=4sHHQIi")
CONNECT, ACCEPT, CALL, ANSWER = 1, 2, 7, 8
PRIOR_UNLOAD = "0xC000038E"


@pytest.fixture
def keeper(module, tmp_path):
    """keeper(1): the path of that version; another one takes its place there."""
    def make(version):
        (tmp_path / "keeper.so").unlink(missing_ok=True)      # an old one may be mapped
        return str(module("keeper", f"-DVERSION={version}"))
    return make


@pytest.fixture
def server(mount, control):
    volume = mount("mem:")
    (volume.mnt / "f").write_text("content")
    talk = control(volume)

    class Server:
        mnt, pid, ask = volume.mnt, volume.pid, talk.ask

        @staticmethod
        def right(cmd, **more):
            answer = talk.ask(cmd, **more)
            assert answer["ok"], answer
            return answer

        @staticmethod
        def refused(cmd, status=None, **more):
            answer = talk.ask(cmd, **more)
            assert not answer["ok"] and answer.get("status") == status, answer
            assert (volume.mnt / "f").read_text() == "content"           # and serves on
            return answer["error"]

        @staticmethod
        def version():
            return [line for line in talk.ask("stats")["lines"] if line.startswith("version")]

        @staticmethod
        def in_memory():
            return "keeper.so" in pathlib.Path(f"/proc/{volume.pid}/maps").read_text()

    return Server


class Listener:
    """Whoever speaks to a port, packet by packet; see altitude/port.h."""

    def __init__(self, name):
        self.talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.talk.settimeout(60)
        self.talk.connect(str(pathlib.Path(fixtures.ENV["ALTITUDE_RUNTIME"]) / f"{name}.port"))
        assert self.ask(CONNECT, b"") == (ACCEPT, 0, b"")

    def ask(self, kind, payload):
        self.talk.send(HEADER.pack(b"ALTP", 1, kind, 1, len(payload), 0) + payload)
        packet = self.talk.recv(1 << 17)
        _, _, kind, _, size, status = HEADER.unpack_from(packet)
        return kind, status, packet[HEADER.size:HEADER.size + size]

    def call(self, text):
        kind, status, payload = self.ask(CALL, text.encode())
        assert (kind, status) == (ANSWER, 0)
        return payload

    def until_sent_away(self):
        assert self.talk.recv(1) == b""


def test_what_somebody_may_still_call_stays_and_is_named_to_who_loads(server, keeper):
    server.right("attach", filter=keeper(1), options="context:port=kept")
    listener = Listener("kept")
    error = server.refused("unload", filter="keeper")
    assert "module 'keeper' stays in memory" in error
    assert "port 'kept'" in error and "contexts of instance 'keeper'" in error
    assert server.in_memory()

    new = keeper(2)
    for cmd in ("load", "attach"):
        error = server.refused(cmd, PRIOR_UNLOAD, filter=new)
        assert error.startswith("an old 'keeper' is still in memory (unloading), held by: ")
        assert "port 'kept'" in error and "contexts of instance 'keeper'" in error
    server.right("attach", filter="null")                                # others come and go

    assert listener.call("context") == struct.pack("=q", 1)              # it was cleaned up by code that was there
    error = server.refused("load", PRIOR_UNLOAD, filter=new)
    assert error.endswith("held by: port 'kept'")
    for name in ("keeper", new):                                         # nobody unloads it twice
        error = server.refused("unload", "0xC01C000B", filter=name)
        assert error.endswith("is unloaded already; it stays in memory, held by: port 'kept'")

    listener.call("port")
    listener.until_sent_away()
    fixtures.until("the port is closed", lambda: server_loads(server, new))
    server.right("attach", filter="keeper")
    assert server.version() == ["version 2"]
    server.right("unload", filter="keeper")
    assert not server.in_memory()


def server_loads(server, path):
    """The port's thread has yet to end when its listener is sent away."""
    try:
        server.right("load", filter=path)
    except AssertionError as error:
        assert PRIOR_UNLOAD in str(error)
        return False
    return True


def test_a_context_alone_holds(server, keeper):
    server.right("attach", filter=keeper(1), options="context")
    assert server.refused("unload", filter="keeper").endswith("held by: contexts of instance 'keeper'")
    server.refused("load", PRIOR_UNLOAD, filter=keeper(2))
    assert server.in_memory()


def test_who_unloads_what_nobody_holds_any_more_takes_it_out(server, keeper):
    server.right("attach", filter=keeper(1), options="context:port=kept")
    listener = Listener("kept")
    server.refused("unload", filter="keeper")
    listener.call("context")
    listener.call("port")
    listener.until_sent_away()

    def leaves():
        answer = server.ask("unload", filter="keeper")
        assert not answer["ok"]
        return answer["status_name"] == "STATUS_FLT_FILTER_NOT_FOUND"
    fixtures.until("the port is closed", leaves)
    assert not server.in_memory()


def test_contexts_of_a_detached_instance_hold_as_well(server, keeper):
    server.right("attach", filter=keeper(1), options="context", instance="first")
    server.right("detach", filter="keeper", instance="first")
    server.right("attach", filter="keeper", instance="second")
    assert server.refused("unload", filter="keeper").endswith("held by: contexts of instance 'first'")


def test_an_open_file_does_not_hold_the_filter_that_has_seen_it(server, keeper):
    server.right("attach", filter=keeper(1))
    fd = os.open(server.mnt / "f", os.O_RDONLY)
    try:
        assert os.pread(fd, 100, 0) == b"content"
        server.right("unload", filter="keeper")
        assert not server.in_memory()
        server.right("attach", filter=keeper(2))
        assert os.pread(fd, 100, 0) == b"content"
        assert server.version() == ["version 2"]
    finally:
        os.close(fd)


def test_a_held_filter_is_no_obstacle_to_the_end(mount, keeper):
    volume = mount("mem:", f"{keeper(1)}:context:port=kept")
    done = volume.cli("unload", "keeper", volume.mnt, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("altitude unload: module 'keeper' stays in memory, and none of its name is loaded, as long as ")
    done = volume.cli("load", keeper(2), volume.mnt, check=False)
    assert done.returncode == 1 and done.stderr.endswith("[0xC000038E STATUS_DRIVER_FAILED_PRIOR_UNLOAD]\n")
    assert volume.unmount() == 0


def test_an_unload_waits_for_a_detach_that_somebody_else_began(mount, control, module):
    """The operation that the detach waits for comes back through the filter: its code is there, whoever wants it gone."""
    volume = mount("mem:", f"{module('witness')}@400000:changes=yes", "delay:op=getxattr:ms=3600000", ttl_ms=0)
    answers = {}

    def ask(cmd):
        answers[cmd] = control(volume).ask(cmd, filter="witness")

    def getxattr():
        with pytest.raises(OSError):
            os.getxattr(volume.mnt, "user.none")

    threads = [threading.Thread(target=getxattr), *(threading.Thread(target=ask, args=(cmd,)) for cmd in ("detach", "unload"))]
    talk = control(volume)
    threads[0].start()
    fixtures.until("it is parked", lambda: volume.report("delay")["delayed"] == [1])
    threads[1].start()
    fixtures.until("no new operation comes", lambda: [i["filter"] for i in talk.instances()] == ["delay"])
    threads[2].start()
    time.sleep(0.3)                      # what is wrong has the time to happen
    assert answers == {}
    assert talk.ask("detach", filter="delay")["ok"]
    for one in threads:
        one.join()
    assert answers["detach"]["ok"] and answers["unload"]["ok"], answers
    assert [f["filter"] for f in talk.ask("filters")["filters"]] == ["delay"]
    assert "witness.so" not in pathlib.Path(f"/proc/{volume.pid}/maps").read_text()
