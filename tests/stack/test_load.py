# SPDX-License-Identifier: MIT
"""A hundred thousand times a filter comes and goes on a mounted volume in use: nothing is lost, doubled, kept or changed.

The unit test of the same name as what it asks is engine/stack/test_attach.c; here the kernel asks, over /dev/fuse, and the
control socket is told.
"""
import mmap
import os
import subprocess
import time

import pytest

BLOCK, BLOCKS = 4096, 16
SEED = 20240611
CYCLES = {"strict": 80000, "turning": 20000}


def pattern(text):
    return b"".join(bytes([text[(i + i // BLOCK * 7 + i // 100) % len(text)]]) for i in range(BLOCK * BLOCKS))


LETTERS = pattern(b"The quick brown fox jumps over the lazy dog; ")
DIGITS = pattern(b"31415926535897932384626433832795")
TURN = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM")


def report(answer, instance):
    """An instance's lines of "stats", as numbers."""
    lines, found = answer["lines"], {}
    for line in lines[lines.index(f"[{instance}]") + 1:]:
        if line.startswith("["):
            break
        key, value = line.split()[:2]
        found[key] = int(value)
    return found


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (seen := condition()) is True:
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}: {seen}"
        time.sleep(0.05)


def same(got, want, turning):
    """Block by block; where a rot13 came and went, the whole block may be turned."""
    assert len(got) == len(want)
    for at in range(0, len(want), BLOCK):
        block = want[at:at + BLOCK]
        allowed = [block, block.translate(TURN)] if turning else [block]
        assert got[at:at + BLOCK] in allowed, f"block {at // BLOCK} differs"


def files_of(pid):
    """What a process has open, without the numbers of sockets and pipes."""
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split("[")[0] for fd in os.listdir(f"/proc/{pid}/fd"))


def at_rest(volume, talk):
    """No file and no operation is held; and no node but the root, for the kernel forgets what is removed."""
    for name in os.listdir(volume.mnt):
        os.unlink(volume.mnt / name)

    def held():
        live = talk.ask("stats")["live"]
        return live == {"nodes": 1, "files": 0, "operations": 0} or live
    until("nodes, files and operations are given back", held)


@pytest.mark.parametrize("kind", CYCLES)
def test_filters_come_and_go_under_load_and_nothing_is_lost(mount, module, program, control, socket_of, tmp_path, kind):
    witness, load = module("witness"), program("load")
    volume = mount("dir:", "rot13@140000", "delay@380000:op=read;open:ms=1:name=slow")
    talk = control(volume)
    keep = tmp_path / "keep"
    keep.mkdir()
    for name, text in (("letters", LETTERS), ("held", LETTERS), ("digits", DIGITS), ("slow", LETTERS)):
        (volume.tree / name).write_bytes(text.translate(TURN))
    for name in ("null", "passthrough", "stats"):
        assert talk.ask("load", filter=name)["ok"]
    assert talk.ask("load", filter=str(witness))["ok"]
    files, stack = files_of(volume.pid), talk.instances()
    talk.talk.close()                    # a silent one is sent away in time

    done = subprocess.run([load, socket_of(volume), volume.mnt, keep, kind, str(CYCLES[kind]), str(SEED)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, f"{done.stderr}\n{volume.said()}"
    words = done.stdout.split()
    counts = {key: int(value) for key, value in zip(words[::2], words[1::2])}
    assert counts["cycles"] == CYCLES[kind]
    assert all(counts[key] > 0 for key in ("reads", "writes", "names", "waits", "interrupted")), counts

    # What is there is what was written, above and, turned by the one that stays, below.
    turning = kind == "turning"
    assert counts["followed"] == (CYCLES[kind] // 2 if turning else 0)
    for name, text in (("letters", LETTERS), ("held", LETTERS), ("digits", DIGITS), ("slow", LETTERS)):
        assert (volume.mnt / name).read_bytes() == text
        assert (volume.tree / name).read_bytes() == text.translate(TURN)
    for name in ("w0", "w1"):
        want = (keep / name).read_bytes()
        assert len(want) == BLOCK * BLOCKS
        same((volume.mnt / name).read_bytes(), want, turning)
        same((volume.tree / name).read_bytes(), want.translate(TURN), turning)
    assert sorted(os.listdir(volume.tree)) == ["digits", "held", "letters", "slow", "w0", "w1"]

    # Every counter is where it was.
    talk = control(volume)
    assert talk.instances() == stack
    assert all(one["ops"] == 0 for one in talk.instances())
    assert talk.ask("attach", filter="witness", instance="asked", altitude="1", options="quiet")["ok"]
    seen = report(talk.ask("stats"), "asked")
    assert seen["pres"] > 0 and seen["contexts"] > 0
    assert seen["pres"] == seen["posts"] + seen["drains"]
    assert seen["contexts"] == seen["cleaned"]
    assert seen["setups"] == seen["teardowns"] > 0
    assert talk.ask("detach", filter="witness", instance="asked")["ok"]
    in_memory = {one["filter"]: one["instances"] for one in talk.ask("filters")["filters"]}
    assert in_memory == {"rot13": 1, "delay": 1, "null": 0, "passthrough": 0, "stats": 0, "witness": 0}
    at_rest(volume, talk)
    until("descriptors are closed", lambda: files_of(volume.pid) == files or files_of(volume.pid))
    assert "verifier" not in volume.said(), volume.said()
    assert volume.unmount() == 0
    assert "verifier" not in volume.said(), volume.said()


@pytest.mark.parametrize("fs", ["mem:", "dir:"])
def test_what_is_open_and_cached_is_read_as_the_stack_stands(mount, fs):
    """Nothing else makes the kernel forget its pages here: no other filter comes or goes, nobody opens the file again."""
    volume = mount(fs, "stats")          # it looks at data: of dir, too, reads come to the volume and are cached
    (volume.mnt / "f").write_bytes(LETTERS)
    fd = os.open(volume.mnt / "f", os.O_RDONLY)
    mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)

    def both(want):
        return lambda: os.pread(fd, len(want), 0) == want and mapped[:] == want
    try:
        assert both(LETTERS)()
        reads = volume.report("stats")["read"]
        assert both(LETTERS)() and volume.report("stats")["read"] == reads, "the kernel keeps no pages: nothing is tested"
        for _ in range(20):
            volume.attach("rot13")
            until("the filter that came is seen", both(LETTERS.translate(TURN)))
            volume.detach("rot13")
            until("the filter that went is not seen", both(LETTERS))
    finally:
        mapped.close()
        os.close(fd)
