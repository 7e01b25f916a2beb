# SPDX-License-Identifier: MIT
"""stats: how often, with how many errors, and how long."""
import os
import threading

import pytest

COUNT, ERRORS, TOTAL, SLOWEST = range(4)


def test_each_operation_is_counted_with_its_errors(mount):
    volume = mount("mem:", "stats")
    for number in range(7):
        (volume.mnt / f"d{number}").mkdir()
    (volume.mnt / "d0/f").touch()
    with pytest.raises(OSError):
        os.rmdir(volume.mnt / "d0")
    for number in (1, 2):
        os.rmdir(volume.mnt / f"d{number}")
    counts = volume.report("stats")
    assert counts["mkdir"][:TOTAL] == [7, 0]
    assert counts["rmdir"][:TOTAL] == [3, 1]
    assert counts["create"][:TOTAL] == [1, 0]
    assert "symlink" not in counts
    for name, line in counts.items():
        assert len(line) == 4 and line[SLOWEST] <= line[TOTAL], (name, line)


def test_it_agrees_with_what_the_volume_counts(mount):
    volume = mount("mem:", "stats")
    for number in range(20):
        (volume.mnt / f"f{number}").write_text("x" * number)
        (volume.mnt / f"f{number}").read_text()
    taken = volume.stats()["operations"]
    counts = volume.report("stats")
    for name in ("create", "open", "write", "read", "lookup", "flush"):
        assert counts.get(name, [0])[COUNT] == taken[name], name


def test_the_time_is_that_below(mount):
    """delay at the bottom keeps each mkdir for 30 ms: the least that stats above it can have measured."""
    volume = mount("mem:", "stats", "delay@1:op=mkdir:ms=30")
    for number in range(3):
        (volume.mnt / f"d{number}").mkdir()
    line = volume.report("stats")["mkdir"]
    assert line[COUNT] == 3 and line[TOTAL] >= 3 * 30000 and line[SLOWEST] >= 30000


def test_no_operation_of_many_threads_is_lost(mount):
    volume = mount("mem:", "stats")

    def work(who):
        for number in range(50):
            os.mkdir(volume.mnt / f"{who}-{number}")

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert volume.report("stats")["mkdir"][:TOTAL] == [200, 0]


def test_a_new_instance_begins_at_nothing(mount):
    volume = mount("mem:", "stats")
    (volume.mnt / "d").mkdir()
    volume.detach("stats")
    volume.attach("stats")
    assert "mkdir" not in volume.report("stats")
