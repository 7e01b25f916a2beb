# SPDX-License-Identifier: MIT
"""Where an instance stands is said by its altitude alone; what waits in the stack holds up nobody else."""
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

# From the top: 03333 is more than 100.123456, digits after the point are a fraction, no number is too long.
STACK = [("trace", "389999.99"), ("passthrough", "03333"), ("stats", "100.123456"), ("null", "100.1234559999999999999999999999"),
         ("rot13", "0099.5")]
PROCESS = """
import fcntl, sys
with open(sys.argv[1], "r+") as f:
    print("open", flush=True)
    fcntl.lockf(f, fcntl.LOCK_EX)
    print("got", flush=True)
    sys.stdin.readline()
"""


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (seen := condition()) is True:
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}: {seen}"
        time.sleep(0.01)


def seen(talk):
    return [(one["filter"], one["altitude"]) for one in talk.instances()]


def done(answer):
    assert answer["ok"], answer
    return answer


def test_every_order_of_loading_and_attaching_gives_the_same_stack(mount, control):
    volume = mount("dir:")
    talk = control(volume)
    (volume.mnt / "f").write_text("Hello")
    tried = 0
    for order in itertools.permutations(STACK):
        for name, _ in order:
            done(talk.ask("load", filter=name))
        for name, altitude in reversed(order):
            done(talk.ask("attach", filter=name, altitude=altitude))
        assert seen(talk) == STACK, f"attached in the order {order[::-1]}"
        assert (volume.mnt / "f").read_text() == "Uryyb"
        for name, _ in order:
            done(talk.ask("unload", filter=name))
        assert talk.instances() == [] and talk.ask("filters")["filters"] == []
        tried += 1
    assert tried == 120
    assert (volume.mnt / "f").read_text() == "Hello"


@pytest.mark.parametrize("turn", range(len(STACK)))
def test_the_order_of_the_command_line_makes_no_difference(mount, control, turn):
    order = STACK[turn:] + STACK[:turn]
    volume = mount("dir:", *[f"{name}@{altitude}" for name, altitude in order])
    assert seen(control(volume)) == STACK


def test_a_filter_that_comes_late_stands_where_its_altitude_says(mount, control):
    volume = mount("dir:", "null@03333", "stats@100.123456")
    talk = control(volume)
    for altitude in ("100.1234561", "3333.00000000000000000001", "0.5", "100.12345"):
        done(talk.ask("attach", filter="passthrough", altitude=altitude))
    assert [altitude for _, altitude in seen(talk)] == ["3333.00000000000000000001", "03333", "100.1234561", "100.123456",
                                                       "100.12345", "0.5"]


@pytest.mark.parametrize("there, wanted", [("100", "0100.0"), ("0100.0", "100"), ("0.5", ".50"), ("7", "7."),
                                           ("18014398509481985", "018014398509481985.0")])
def test_the_same_number_in_other_digits_collides(mount, control, there, wanted):
    volume = mount("dir:", f"null@{there}")
    talk = control(volume)
    answer = talk.ask("attach", filter="passthrough", altitude=wanted)
    assert (answer["ok"], answer["status"]) == (False, "0xC01C0011")
    assert answer["status_name"] == "STATUS_FLT_INSTANCE_ALTITUDE_COLLISION"
    assert f"taken by instance 'null' ({there})" in answer["error"]
    assert seen(talk) == [("null", there)]
    said = volume.cli("attach", f"passthrough@{wanted}", volume.mnt, check=False)
    assert said.returncode == 1 and "[0xC01C0011 STATUS_FLT_INSTANCE_ALTITUDE_COLLISION]" in said.stderr
    done(talk.ask("detach", filter="null"))
    done(talk.ask("attach", filter="passthrough", altitude=wanted))      # the place is free again


@pytest.mark.parametrize("registered", ["by the module", "by the manifest"])
def test_a_registered_altitude_that_is_taken_is_another_error(mount, control, alone, registered):
    """Who asks for no altitude is not told that he chose a wrong one."""
    if registered == "by the manifest":
        (alone / "null.ini").write_text("[module]\nName=null\nKind=filter\nDefaultInstance=null\n"
                                        "[instance null]\nAltitude=141000.0\n")
    volume = mount("dir:", "rot13@" + ("370020.0" if registered == "by the module" else "141000"))
    talk = control(volume)
    answer = talk.ask("attach", filter="null")
    assert (answer["ok"], answer["status"], answer["status_name"]) == (False, "0xC0000035", "STATUS_OBJECT_NAME_COLLISION")
    assert "taken by instance 'rot13'" in answer["error"]
    assert [filter for filter, _ in seen(talk)] == ["rot13"]
    done(talk.ask("attach", filter="null", altitude="370021"))


def test_no_digit_is_rounded_away(mount, control):
    volume = mount("dir:", "null@18014398509481984")
    done(control(volume).ask("attach", filter="passthrough", altitude="18014398509481985"))
    assert seen(control(volume)) == [("passthrough", "18014398509481985"), ("null", "18014398509481984")]


def test_the_same_name_collides_whatever_the_altitude(mount, control):
    volume = mount("dir:", "null@300000")
    talk = control(volume)
    for name in ("null", "passthrough"):
        answer = talk.ask("attach", filter=name, instance="null", altitude="200000")
        assert (answer["ok"], answer["status"]) == (False, "0xC01C0012")
        assert answer["status_name"] == "STATUS_FLT_INSTANCE_NAME_COLLISION"
    assert seen(talk) == [("null", "300000")]
    done(talk.ask("attach", filter="null", instance="another", altitude="200000"))
    assert seen(talk) == [("null", "300000"), ("null", "200000")]


# ---- who waits ----

class Waiters:
    def __init__(self, path, count):
        self.processes = [subprocess.Popen([sys.executable, "-c", PROCESS, str(path)], text=True, stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE) for _ in range(count)]
        for process in self.processes:
            assert process.stdout.readline() == "open\n"

    def kill(self, number):
        process = self.processes.pop(number)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        process.stdin.close()

    def all_get_it(self):
        """One after the other, in whatever order: each gives it back when it is told to."""
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in self.processes:
            assert process.stdout.readline() == "got\n"
            assert process.wait() == 0

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stdin.close()


@pytest.fixture
def waiters():
    made = []

    def make(path, count):
        made.append(Waiters(path, count))
        return made[-1]

    yield make
    for one in made:
        one.end()


def waiting(talk, count):
    def look():
        now = talk.ask("stats")["live"]["operations"]
        return now == count or now
    until(f"{count} wait", look)


def others_go_on(volume):
    (volume.mnt / "other").write_text("other")
    assert (volume.mnt / "other").read_text() == "other"
    assert os.stat(volume.mnt / "locked").st_size == 4       # to close it would give our own lock back
    os.unlink(volume.mnt / "other")


def test_a_killed_lock_waiter_holds_up_nobody(mount, module, control, waiters):
    volume = mount("dir:", "passthrough@300000", f"{module('witness')}@200000")
    talk = control(volume)
    (volume.mnt / "locked").write_text("text")
    with open(volume.mnt / "locked", "r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        wait = waiters(volume.mnt / "locked", 3)
        waiting(talk, 3)
        others_go_on(volume)
        wait.kill(1)
        waiting(talk, 2)
        others_go_on(volume)
        # A wait has no end: whoever goes does not wait for it, and neither does who comes.
        done(talk.ask("detach", filter="witness"))
        done(talk.ask("attach", filter="null", altitude="100000"))
        waiting(talk, 2)
        wait.kill(0)
        waiting(talk, 1)
        others_go_on(volume)
    wait.all_get_it()
    waiting(talk, 0)
    done(talk.ask("attach", filter="witness", instance="asked", altitude="1", options="quiet"))
    lines = talk.ask("stats")["lines"]
    counts = dict(line.split() for line in lines[lines.index("[asked]") + 1:])
    assert int(counts["drains"]) == 2, counts
    assert int(counts["pres"]) == int(counts["posts"]) + int(counts["drains"]), counts
    assert counts["contexts"] == counts["cleaned"]


def test_a_killed_lock_waiter_that_a_filter_parks_holds_up_nobody(mount, control, waiters):
    """It has not reached the file system: the filter that keeps it lets it go, and the lock is nobody's."""
    volume = mount("dir:", "passthrough@390000", "delay@380000:op=setlk:ms=86400000", "stats@370000")
    talk = control(volume)
    (volume.mnt / "locked").write_text("text")
    wait = waiters(volume.mnt / "locked", 3)
    waiting(talk, 3)
    others_go_on(volume)
    wait.kill(2)
    waiting(talk, 2)
    others_go_on(volume)
    assert "cancelled 1" in talk.ask("stats")["lines"]
    done(talk.ask("detach", filter="delay"))     # lets the others go on
    wait.all_get_it()
    waiting(talk, 0)
    with open(volume.mnt / "locked", "r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_release_that_a_filter_parks_reaches_the_file_system_at_the_end(mount, control):
    """It never fails, so the end of the volume lets it go on, and does not cancel it."""
    volume = mount("dir:", "delay:op=release;releasedir:ms=86400000")
    talk = control(volume)
    (volume.mnt / "f").write_text("text")
    assert os.listdir(volume.mnt) == ["f"]
    waiting(talk, 2)
    talk.talk.close()
    assert volume.unmount() == 0
    assert "verifier" not in volume.said(), volume.said()
