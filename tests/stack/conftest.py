# SPDX-License-Identifier: MIT
"""Modules that are made for a test, and a straight way to a server's control socket.

    def test_loads(mount, module, control):
        volume = mount("mem:")
        assert control(volume).ask("load", filter=str(module("witness")))["ok"]
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
mount = fixtures.mount                   # the one whose environment is changed below
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CC = os.environ.get("CC", "cc")


def compile_c(source, target, *options):
    if not shutil.which(CC):
        pytest.skip("no C compiler")
    done = subprocess.run([CC, "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Werror", f"-I{ROOT / 'include'}",
                           *options, "-o", str(target), str(source)], text=True, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    os.chmod(target, 0o755)
    return target


class Control:
    def __init__(self, path):
        self.talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.talk.settimeout(120)
        deadline = time.monotonic() + 20
        while True:                      # the socket comes just after the mount
            try:
                self.talk.connect(str(path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline, f"no server at {path}"
                time.sleep(0.005)

    def ask(self, cmd, **more):
        self.talk.send(json.dumps({"v": 1, "cmd": cmd, **more}).encode())
        return json.loads(self.talk.recv(1 << 20).rstrip(b"\0"))

    def instances(self):
        return self.ask("instances")["instances"]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A runtime directory and a registry of our own, and the verifier: a breach of the contract ends the server."""
    runtime = pathlib.Path(tempfile.mkdtemp(prefix="alt-"))   # short: a socket's path has 107 bytes
    registry = tmp_path / "registry.d"
    registry.mkdir()
    monkeypatch.setitem(fixtures.ENV, "ALTITUDE_RUNTIME", str(runtime))
    monkeypatch.setitem(fixtures.ENV, "ALTITUDE_REGISTRY", str(registry))
    monkeypatch.setitem(fixtures.ENV, "ALTITUDE_VERIFY", "1")
    yield registry
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def socket_of():
    def path(volume):
        return pathlib.Path(fixtures.ENV["ALTITUDE_RUNTIME"]) / f"{volume.pid}.sock"
    return path


@pytest.fixture
def control(socket_of):
    made = []

    def connect(volume):
        made.append(Control(socket_of(volume)))
        return made[-1]

    yield connect
    for one in made:
        one.talk.close()


@pytest.fixture
def module(tmp_path):
    """module("witness") of witness.c in this folder, or module("name", source="..."): the path of a loadable module."""
    def make(name, *options, source=None):
        place = HERE / f"{name}.c"
        if source is not None:
            place = tmp_path / f"{name}.c"
            place.write_text(source)
        return compile_c(place, tmp_path / f"{name}.so", "-shared", "-fPIC", *options)
    return make


@pytest.fixture
def program():
    """A C program of this folder, as the build made it."""
    return lambda name: fixtures.BUILD / "tests" / name
