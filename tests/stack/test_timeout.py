# SPDX-License-Identifier: MIT
"""A volume's request timeout: the kernel gets its error, nothing of the late answer stays, and who asks for it gets more time."""
import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

PATIENT = """
#include <altitude/filter.h>
static enum alt_pre patient_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_extend(op, 600000);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}
static const struct alt_callback callbacks[] = { { ALT_OP_ALL, .pre = patient_pre }, { .code = ALT_OP_END } };
static const struct alt_filter_registration registration = { .size = sizeof(registration), .name = "patient", .altitude = "380000",
	.callbacks = callbacks };
ALT_FILTER(registration);
"""
LATE = """
#include <altitude/filter.h>
#include <unistd.h>
static enum alt_post late_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->code == alt_op_find(alt_instance_option(in, "op")))
		usleep(400000);
	return ALT_POST_FINISHED;
}
static const struct alt_option options[] = { { "op", "NAME", "" }, { NULL, NULL, NULL } };
static const struct alt_callback callbacks[] = { { ALT_OP_ALL, .post = late_post }, { .code = ALT_OP_END } };
static const struct alt_filter_registration registration = { .size = sizeof(registration), .name = "late", .altitude = "300000",
	.callbacks = callbacks, .options = options };
ALT_FILTER(registration);
"""
ASKS = """
#include <altitude/filter.h>
#include <fcntl.h>
static int asked, failed;
static enum alt_pre asks_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_file *file = NULL;

	alt_op_extend(op, 600000);
	asked++;
	if (alt_io_open(in, op->node, O_RDONLY, &file))
		failed++;
	alt_io_close(in, file);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}
static void report(struct alt_instance *in, struct alt_report *to)
{
	alt_report_line(to, "asked %d %d", asked, failed);
}
static const struct alt_callback callbacks[] = { { ALT_OP_LISTXATTR, .pre = asks_pre }, { .code = ALT_OP_END } };
static const struct alt_filter_registration registration = { .size = sizeof(registration), .name = "asks", .altitude = "300000",
	.flags = ALT_FILTER_SLOW, .callbacks = callbacks, .stats = report };
ALT_FILTER(registration);
"""
LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+") as f:
    print("open", flush=True)
    fcntl.lockf(f, fcntl.LOCK_EX)
    print("got", flush=True)
"""


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.01)


def at_rest(volume, files=0):
    live = volume.stats()["live"]
    return live["operations"] == 0 and live["files"] == files


CALLS = {
    "listxattr": lambda mnt: os.listxattr(mnt / "f"),
    "open": lambda mnt: os.open(mnt / "f", os.O_RDWR),
    "create": lambda mnt: os.open(mnt / "new", os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "opendir": lambda mnt: os.listdir(mnt / "d"),
    "readdir": lambda mnt: os.listdir(mnt / "d"),
    "lookup": lambda mnt: os.stat(mnt / "unseen"),
    "mkdir": lambda mnt: os.mkdir(mnt / "made"),
    "rename": lambda mnt: os.rename(mnt / "f", mnt / "g"),
}


@pytest.mark.parametrize("fs", ["dir:", "mem:"])
@pytest.mark.parametrize("op", CALLS)
def test_the_late_answer_is_dropped_with_all_it_brings(mount, fs, op):
    """The filter that keeps the operation is told: what was to be done is not done at all."""
    volume = mount(fs, timeout_ms=150, ttl_ms=0)
    (volume.mnt / "f").write_text("text")
    (volume.mnt / "d").mkdir()
    (volume.mnt / "d" / "x").write_text("x")
    ((volume.tree or volume.mnt) / "unseen").write_text("unseen")
    volume.attach(f"delay:op={op}:ms=86400000")
    until("it rests", lambda: at_rest(volume))
    before = volume.stats()["live"]["nodes"]
    for _ in range(3):
        with pytest.raises(OSError) as error:
            CALLS[op](volume.mnt)
        assert error.value.errno == errno.ETIMEDOUT, error.value
        assert os.stat(volume.mnt).st_nlink                  # others are served
    until("nothing of it is kept", lambda: at_rest(volume))
    volume.detach("delay")
    assert (volume.mnt / "f").read_text() == "text" and not (volume.mnt / "new").exists()
    assert volume.stats()["live"]["nodes"] <= before + 2
    until("it rests", lambda: at_rest(volume))


@pytest.mark.parametrize("op", [op for op in CALLS if op not in ("listxattr", "rename")])
def test_what_was_done_too_late_leaves_nothing_behind(mount, module, op):
    """The file system did it, and nobody takes its answer: the open file is released, the node is forgotten."""
    volume = mount("dir:", timeout_ms=150, ttl_ms=0)
    (volume.mnt / "f").write_text("text")
    (volume.mnt / "d").mkdir()
    (volume.mnt / "d" / "x").write_text("x")
    (volume.tree / "unseen").write_text("unseen")
    volume.attach(f"{module('late', source=LATE)}:op={op}")
    with pytest.raises(OSError) as error:
        CALLS[op](volume.mnt)
    assert error.value.errno == errno.ETIMEDOUT, error.value
    until("nothing of it is kept", lambda: at_rest(volume))
    volume.detach("late")
    assert (volume.mnt / "f").read_text() == "text"
    assert (volume.mnt / "new").exists() == (op == "create") and (volume.mnt / "made").exists() == (op == "mkdir")


def test_who_asks_for_more_time_gets_it(mount, module):
    volume = mount("mem:", "delay@370000:op=listxattr:ms=600", timeout_ms=150)
    (volume.mnt / "f").write_text("text")
    with pytest.raises(OSError) as error:
        os.listxattr(volume.mnt / "f")
    assert error.value.errno == errno.ETIMEDOUT
    volume.attach(str(module("patient", source=PATIENT)))
    assert os.listxattr(volume.mnt / "f") == []
    volume.detach("patient")
    with pytest.raises(OSError) as error:
        os.listxattr(volume.mnt / "f")
    assert error.value.errno == errno.ETIMEDOUT


def test_who_waits_for_a_lock_waits_longer(mount):
    volume = mount("dir:", timeout_ms=150)
    (volume.mnt / "locked").write_text("text")
    with open(volume.mnt / "locked", "r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        waiter = subprocess.Popen([sys.executable, "-c", LOCK, volume.mnt / "locked"], text=True, stdout=subprocess.PIPE)
        assert waiter.stdout.readline() == "open\n"
        until("it waits", lambda: volume.stats()["live"]["operations"] == 1)
        time.sleep(0.5)                                      # some timeouts
        assert waiter.poll() is None
    assert waiter.stdout.readline() == "got\n"
    assert waiter.wait() == 0
    waiter.stdout.close()


def test_what_a_filter_asks_itself_has_no_time_to_ask_more_of(mount, module):
    """Its operation is none of the kernel's: no error goes there, and nobody ends it."""
    volume = mount("mem:", timeout_ms=150)
    (volume.mnt / "f").write_text("text")
    volume.attach(f"{module('asks', source=ASKS)}@300000")
    volume.attach(f"{module('patient', source=PATIENT.replace('600000', '10'))}@200000")
    volume.attach("delay@100000:op=open:ms=600")
    assert os.listxattr(volume.mnt / "f") == []
    volume.detach("delay")
    assert volume.report("asks")["asked"] == [1, 0]          # once, and with success
