# SPDX-License-Identifier: MIT
"""A filter may take its time to go, for what is kept below it: who only looks does not wait for that."""
import os
import signal
import subprocess
import sys
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
KEPT = "delay@100:op=listxattr:ms=86400000"


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def going(mount):
    """A volume, and a command that lets a filter go and waits for what another one keeps."""
    volume = mount("mem:", "stats", KEPT)
    (volume.mnt / "f").write_text("text")
    reader = subprocess.Popen(["getfattr", volume.mnt / "f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until("it is kept", lambda: volume.stats()["live"]["operations"])
    started = []

    def go(*command):
        started.append(subprocess.Popen([fixtures.CLI, *command, volume.mnt], env=fixtures.ENV))
        until("it goes", lambda: "stats" not in [one["filter"] for one in volume.instances()])
        return started[-1]

    yield volume, go
    reader.kill()
    reader.wait()
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize("command", [["detach", "stats"], ["unload", "stats"], ["unload", "--mandatory", "stats"]], ids=" ".join)
def test_while_a_filter_goes_others_are_answered(going, command):
    volume, go = going
    goes = go(*command)
    for look in ("volumes", "filters", "instances", "stats"):
        assert volume.cli(look, "--json", *([volume.mnt] if look != "volumes" else []), timeout=20).stdout
    assert (volume.mnt / "f").read_text() == "text"
    assert goes.poll() is None
    volume.detach("delay")                   # lets go what it kept
    assert goes.wait(20) == 0
    assert volume.instances() == []


def test_an_end_of_the_volume_does_not_wait_for_it(going):
    volume, go = going
    goes = go("unload", "stats")
    volume.server.send_signal(signal.SIGTERM)
    assert volume.server.wait(30) == 0
    goes.wait(20)


def test_who_waits_is_told_so(going):
    volume, _ = going
    goes = subprocess.Popen([fixtures.CLI, "detach", "stats", volume.mnt], env=fixtures.ENV, stderr=subprocess.PIPE, text=True)
    assert goes.stderr.readline() == ("altitude detach: waits for what is under way inside the filter; the server's log says for "
                                      "whom\n")
    assert "waits for 'listxattr' of process" in volume.said() and "which is inside 'delay'" in volume.said()
    volume.detach("delay")
    assert goes.wait(20) == 0
    assert goes.stderr.read() == ""          # once is enough
    goes.stderr.close()
