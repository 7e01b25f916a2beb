# SPDX-License-Identifier: MIT
"""What a looked-up name costs in the server's memory, and whether it comes back when the kernel forgets the names."""
import os
import pathlib
import time

import contenders

FOLDERS = 100
FORGET_SECONDS = 30


def resident(pid):
    """Bytes of a process that are in memory."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def plant(below, names):
    for n in range(min(FOLDERS, names)):
        (below / f"folder{n:03d}").mkdir()
    for n in range(names):
        os.close(os.open(below / f"folder{n % FOLDERS:03d}/file{n:07d}", os.O_CREAT | os.O_WRONLY, 0o644))


def look_at(mnt, names):
    for n in range(names):
        os.lstat(f"{mnt}/folder{n % FOLDERS:03d}/file{n:07d}")


def settled(pid, seconds=FORGET_SECONDS):
    """The size once it has not changed for a second; forgetting goes on behind the back of whoever asked for it."""
    size, since, end = resident(pid), time.monotonic(), time.monotonic() + seconds
    while time.monotonic() < min(end, since + 1):
        time.sleep(0.05)
        if resident(pid) != size:
            size, since = resident(pid), time.monotonic()
    return size


def drop_names():
    with open("/proc/sys/vm/drop_caches", "w") as knob:
        knob.write("2")


def measure(place, names):
    """{"empty", "full", "again", "forgotten"}: bytes; the last is None without the right to drop caches."""
    below, mnt = place / "below", place / "mnt"
    below.mkdir()
    mnt.mkdir()
    plant(below, names)
    altitude = next(c for c in contenders.ALL if c.name == "altitude")
    run = contenders.Mounted(altitude, below, mnt)
    with run as seen:
        os.lstat(seen)
        sizes = {"empty": settled(run.server.pid)}
        look_at(seen, names)
        sizes["full"] = settled(run.server.pid)
        sizes["forgotten"] = None
        if os.geteuid() == 0:
            drop_names()
            sizes["forgotten"] = settled(run.server.pid)
        look_at(seen, names)
        sizes["again"] = settled(run.server.pid)
    return sizes


def report(names, sizes):
    """The measurement as lines of text."""
    lines = [f"{names} names looked up: {sizes['full'] - sizes['empty']} bytes more in the server's memory, "
             f"{(sizes['full'] - sizes['empty']) / names:.0f} for each",
             f"empty {sizes['empty'] / 2**20:.1f} MiB, full {sizes['full'] / 2**20:.1f} MiB"]
    if sizes["forgotten"] is None:
        lines.append("not run: dropping the kernel's caches needs root")
    else:
        lines.append(f"after the kernel forgot them {sizes['forgotten'] / 2**20:.1f} MiB")
    lines.append(f"looked up once more {sizes['again'] / 2**20:.1f} MiB")
    return lines
