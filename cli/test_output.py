# SPDX-License-Identifier: MIT
"""Where the output goes may be full, closed, or a pipe that nobody reads any more."""
import os
import subprocess
import sys

import pytest

fixtures = sys.modules["altitude_fixtures"]
SAYS = [["--help"], ["--version"], ["help", "mount"], ["mount", "--help"], ["volumes"], ["volumes", "--json"], ["groups"], ["doctor"]]


def shell(script, *args):
    return subprocess.run(["sh", "-c", script, "sh", fixtures.CLI, *map(str, args)], env=fixtures.ENV, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


@pytest.mark.parametrize("where,why", [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
@pytest.mark.parametrize("args", SAYS, ids=" ".join)
def test_what_cannot_be_written_is_a_failure(args, where, why):
    done = shell(f'"$@" {where}', *args)
    assert done.returncode == 1
    assert done.stderr.startswith("altitude") and done.stderr.endswith(f": cannot write to standard output: {why}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [["stats"], ["stats", "--json"], ["watch", "--once"], ["watch"], ["instances"]], ids=" ".join)
def test_what_a_server_told_and_cannot_be_written_is_a_failure(mount, args):
    volume = mount("mem:", "activity_monitor")
    os.listdir(volume.mnt)
    done = shell('"$@" >/dev/full', *args, volume.mnt)
    assert done.returncode == 1 and "cannot write to standard output" in done.stderr and done.stderr.count("\n") == 1


def test_what_is_logged_does_not_go_into_a_device_or_memory(mount, tmp_path):
    """The number of a closed descriptor would be that of /dev/fuse, or of a memory file."""
    (tmp_path / "mnt").mkdir()
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", fixtures.CLI, "mount", "--foreground", "mem:", tmp_path / "mnt"],
                          env=fixtures.ENV) as server:
        fixtures.until("mounted", lambda: fixtures.mounted(tmp_path / "mnt"))
        open_as = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in range(3)]
        server.terminate()
        assert server.wait(20) == 0
    assert open_as == ["/dev/null"] * 3


def test_watch_ends_with_its_reader(mount):
    """Nothing happens on the volume, so nothing is written that would fail."""
    volume = mount("mem:", "activity_monitor")
    done = shell('("$@"; echo $? >&2) | true', "watch", volume.mnt)
    assert done.stderr == "0\n"
