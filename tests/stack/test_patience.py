# SPDX-License-Identifier: MIT
"""A filter may take its time to go, for what is kept below it: who only looks does not wait for that."""
import signal
import subprocess
import sys
import time

import pytest

fixtures = sys.modules["altitude_fixtures"]
# What a filter has changed on its way down comes up through it. Nobody waits for a release, so nobody could give it up.
KEPT = "delay@100:op=release:ms=86400000"


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def going(mount, module):
    """A volume, and a command that lets a filter go and waits for what another one keeps."""
    volume = mount("mem:", f"{module('witness')}@400000:changes=yes", KEPT)
    (volume.mnt / "f").write_text("text")
    until("it is kept", lambda: volume.report("delay")["delayed"][0] > 0)
    started = []

    def go(*command):
        started.append(subprocess.Popen([fixtures.CLI, *command, volume.mnt], env=fixtures.ENV))
        until("it goes", lambda: "witness" not in [one["filter"] for one in volume.instances()])
        return started[-1]

    yield volume, go
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize("command", [["detach", "witness"], ["unload", "witness"], ["unload", "--mandatory", "witness"]], ids=" ".join)
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
    goes = go("unload", "witness")
    volume.server.send_signal(signal.SIGTERM)
    assert volume.server.wait(30) == 0
    goes.wait(20)


def test_who_waits_is_told_so(going):
    volume, _ = going
    goes = subprocess.Popen([fixtures.CLI, "detach", "witness", volume.mnt], env=fixtures.ENV, stderr=subprocess.PIPE, text=True)
    assert goes.stderr.readline() == ("altitude detach: waits for what is under way inside the filter; the server's log says for "
                                      "whom\n")
    assert "waits for 'release' of process" in volume.said() and "which is inside 'delay'" in volume.said()
    volume.detach("delay")
    assert goes.wait(20) == 0
    assert goes.stderr.read() == ""          # once is enough
    goes.stderr.close()
