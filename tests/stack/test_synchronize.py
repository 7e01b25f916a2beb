# SPDX-License-Identifier: MIT
"""Who waits for what pends below it waits on a worker: however many wait, those who serve go on serving."""
import errno
import os
import sys
import threading

import pytest

fixtures = sys.modules["altitude_fixtures"]
ENDLESS = 3600000
WORKERS = 64                             # at most; see engine/io/workers.c
WAITS = WORKERS + 8                      # more than threads that serve, on either transport


@pytest.fixture(params=["devfuse", "uring"])
def carried(request, mount):
    """As `mount`, over each transport."""
    if request.param == "uring":
        request.getfixturevalue("switch")("Y")

    def make(fs, *filters, **options):
        # Each wait keeps its place in the ring: there are more than there are waits.
        return mount(fs, *filters, transport=request.param, ring_depth=2 * WAITS, **options)
    return make


def ask(path, answers):
    try:
        os.getxattr(path, "user.none")
        answers.append(0)
    except OSError as error:
        answers.append(error.errno)


def others(mnt, served):
    """Other operations, asked on each CPU: each queue of a ring gets one."""
    for cpu in os.sched_getaffinity(0):
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        assert os.stat(mnt).st_nlink and os.statvfs(mnt).f_bsize
    served.append(True)


@pytest.mark.parametrize("flags", ["ALT_CALLBACK_SYNCHRONIZES", "0"], ids=["said", "learned"])
def test_synchronized_waits_hold_up_no_other_operation(carried, module, flags):
    """More waits than either transport has threads: who waited on one of those would have all of them wait."""
    volume = carried("mem:", str(module("synchronizer", f"-DFLAGS={flags}")), ttl_ms=0)
    answers = []
    ask(volume.mnt, answers)             # one that did not say so has been seen to do it
    assert answers.pop() == errno.ENODATA
    volume.attach(f"delay:op=getxattr:ms={ENDLESS}")
    threads = [threading.Thread(target=ask, args=(volume.mnt, answers), daemon=True) for _ in range(WAITS)]
    for one in threads:
        one.start()
    served = []
    try:
        fixtures.until("all workers wait", lambda: volume.report("delay")["delayed"] == [WORKERS])
        threading.Thread(target=others, args=(volume.mnt, served), daemon=True).start()
        fixtures.until("others are served", lambda: served)
        assert answers == []
    finally:
        volume.detach("delay")           # lets all of them go on; the unmount too
    for one in threads:
        one.join()
    assert answers == [errno.ENODATA] * WAITS
    assert volume.report("synchronizer") == {"pres": [WAITS + 1], "posts": [WAITS + 1], "strayed": [0]}
    assert ("does not say so" in volume.said()) == (flags == "0")
