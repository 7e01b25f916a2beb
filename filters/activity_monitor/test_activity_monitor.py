# SPDX-License-Identifier: MIT
"""activity_monitor: who did what, to the watcher and to a file; what is lost is said to be lost."""
import os
import re
import subprocess
import sys

import pytest

fixtures = sys.modules["altitude_fixtures"]
until = fixtures.until
RECORD = re.compile(r"(\d\d:\d\d:\d\d\.\d{6}) (\S+) +(\d+) +(\d+) ([a-z_]+) +(/.*?|\(no name\)|\(unknown\)) +(\d+|E[A-Z0-9]+) +(\d+)")


def records(lines):
    """(program, pid, uid, operation, path, result) of each."""
    found = [RECORD.fullmatch(line) for line in lines]
    assert all(found), [line for line, record in zip(lines, found) if not record]
    return [(r[2], int(r[3]), int(r[4]), r[5], r[6], r[7]) for r in found]


def watched(volume):
    return volume.cli("watch", "--once", volume.mnt).stdout.splitlines()


def test_a_record_says_who_did_what(mount):
    volume = mount("mem:", "activity_monitor")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chmod(volume.mnt, 0o777)
            os.setgid(12001)
            os.setuid(12001)
            os.mkdir(volume.mnt / "d")
            try:
                os.rmdir(volume.mnt / "none")
            except FileNotFoundError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with open("/proc/self/comm") as comm:
        program = comm.read().strip().replace(" ", "?")
    found = records(watched(volume))
    assert (program, pid, 12001, "mkdir", "/d", "0") in found
    assert (program, pid, 12001, "lookup", "/none", "ENOENT") in found
    assert [r for r in found if r[3] == "setattr"][0][2] == 0


def test_what_was_watched_is_not_shown_again(mount):
    volume = mount("mem:", "activity_monitor")
    (volume.mnt / "d").mkdir()
    assert [r[4] for r in records(watched(volume)) if r[3] == "mkdir"] == ["/d"]
    (volume.mnt / "e").mkdir()
    assert [r[4] for r in records(watched(volume)) if r[3] == "mkdir"] == ["/e"]


def test_lost_records_are_told_of_and_counted(mount):
    volume = mount("mem:", "activity_monitor:records=4")
    for number in range(10):
        (volume.mnt / f"d{number}").mkdir()
    before = volume.report("activity_monitor")
    assert before["buffered"] == [4] and before["lost"][0] == before["seen"][0] - 4 >= 6
    first, *rest = watched(volume)
    assert first == f"{before['lost'][0]} records lost"
    kept = records(rest)
    assert len(kept) == 4 and kept[-1][3:5] == ("mkdir", "/d9")
    # Told once: what follows is whole again.
    (volume.mnt / "e").mkdir()
    again = watched(volume)
    assert not any("lost" in line for line in again) and records(again)[-1][3:5] == ("mkdir", "/e")


def test_the_file_gets_every_record_even_those_the_watcher_lost(mount, tmp_path):
    log = tmp_path / "activity"
    log.write_text("before\n")
    volume = mount("mem:", f"activity_monitor:records=1:file={log}")
    for number in range(10):
        (volume.mnt / f"d{number}").mkdir()
    seen = volume.report("activity_monitor")["seen"][0]
    volume.detach("activity_monitor")
    (volume.mnt / "after").mkdir()
    first, *lines = log.read_text().splitlines()
    found = records(lines)
    assert first == "before" and len(found) == seen
    assert [r[4] for r in found if r[3] == "mkdir"] == [f"/d{number}" for number in range(10)]


def test_watch_shows_operations_as_they_happen(mount):
    volume = mount("mem:", "activity_monitor")
    watch = subprocess.Popen([str(fixtures.CLI), "watch", str(volume.mnt)], env=fixtures.ENV, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for name in ("first", "second"):
            (volume.mnt / name).mkdir()
            while True:
                line = watch.stdout.readline()
                assert line, watch.stderr.read()
                if records([line.rstrip("\n")])[0][3:5] == ("mkdir", f"/{name}"):
                    break
        assert watch.poll() is None
        # With the volume it ends, and says so.
        volume.unmount()
        assert watch.wait(60) == 1
        assert watch.stderr.read().startswith("altitude watch: no volume ")
    finally:
        watch.kill()
        watch.communicate()


def test_names_cannot_forge_records(mount):
    volume = mount("mem:", "activity_monitor")
    (volume.mnt / "a\n00:00:00.000000 root 1 0 mkdir forged").mkdir()
    lines = watched(volume)
    assert any("/a?00:00:00.000000 root 1 0 mkdir forged" in line for line in lines)
    assert not any(line.startswith("00:00:00.000000 root") for line in lines)


@pytest.mark.parametrize("options,says", [
    (":records=0", "records is 1..1048576"), (":records=1048577", "records is 1..1048576"), (":records=x", "is not a number"),
    (":file=here", "file 'here' is not an absolute path"), (":file=/no/such/place", "cannot open file '/no/such/place': No such file or directory"),
])
def test_options_that_cannot_be_are_told(mount, options, says):
    volume = mount("mem:")
    done = volume.attach(f"activity_monitor{options}", check=False)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
    assert volume.instances() == []
