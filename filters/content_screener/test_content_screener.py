# SPDX-License-Identifier: MIT
"""content_screener without a program: names, types and contents are refused, and each refusal is told."""
import errno
import os
import stat
import sys

import pytest

until = sys.modules["altitude_fixtures"].until
ELF = open("/bin/true", "rb").read(4096)


def refused(work):
    with pytest.raises(OSError) as caught:
        work()
    assert caught.value.errno == errno.EACCES, caught.value
    return True


def watched(volume):
    return volume.cli("watch", "--once", volume.mnt).stdout.splitlines()


# ---- names ----

@pytest.mark.parametrize("how", ["create", "mknod", "fifo", "symlink", "link", "rename"])
def test_no_way_leads_to_a_name_that_is_refused(mount, how):
    volume = mount("mem:", "content_screener:name=*.exe;virus.*")
    (volume.mnt / "good").write_text("x")
    ways = {
        "create": lambda path: open(path, "w").close(),
        "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o644),
        "fifo": os.mkfifo,
        "symlink": lambda path: os.symlink("good", path),
        "link": lambda path: os.link(volume.mnt / "good", path),
        "rename": lambda path: os.rename(volume.mnt / "good", path),
    }
    for name in ("a.exe", "A.ExE", "virus.txt", "VIRUS."):
        refused(lambda path=volume.mnt / name: ways[how](path))
    assert os.listdir(volume.mnt) == ["good"]
    ways[how](volume.mnt / "a.exe.txt")
    assert (volume.mnt / "a.exe.txt").is_symlink() == (how == "symlink")


def test_a_directory_may_have_such_a_name_and_what_is_there_stays(mount):
    volume = mount("dir:", "content_screener:name=*.exe")
    (volume.tree / "old.exe").write_text("there before")
    (volume.mnt / "d.exe").mkdir()
    assert (volume.mnt / "old.exe").read_text() == "there before"
    os.rename(volume.mnt / "old.exe", volume.mnt / "old.txt")
    refused(lambda: os.rename(volume.mnt / "old.txt", volume.mnt / "d.exe" / "old.exe"))


# ---- types ----

def test_a_type_is_known_by_its_beginning_whatever_the_name(mount):
    volume = mount("dir:", "content_screener:type=application/x-")
    (volume.tree / "letter.txt").write_bytes(ELF)
    (volume.tree / "true.exe").write_text("only text\n")
    refused(lambda: open(volume.mnt / "letter.txt", "rb"))
    assert (volume.mnt / "true.exe").read_text() == "only text\n"
    line, = watched(volume)
    assert line.startswith("content_screener: refused open of '/letter.txt': type is 'application/x-")
    assert volume.report("content_screener")["refused"] == [1]


# ---- contents ----

def test_a_file_with_the_content_is_not_opened(mount):
    volume = mount("dir:", "content_screener:content=foul")
    (volume.tree / "good").write_text("fair")
    (volume.tree / "bad").write_text("x" * 500 + "foul")
    (volume.tree / "far").write_text("x" * 2000 + "foul")       # the first 1024 bytes decide
    (volume.tree / "edge").write_text("x" * 1020 + "foul")
    assert (volume.mnt / "good").read_text() == "fair"
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        refused(lambda flags=flags: os.open(volume.mnt / "bad", flags))
    refused(lambda: (volume.mnt / "edge").read_text())
    assert len((volume.mnt / "far").read_text()) == 2004
    assert watched(volume)[0] == "content_screener: refused open of '/bad': content has 'foul'"


@pytest.mark.parametrize("op, errno_", [("open", "EMFILE"), ("read", "EIO")])
def test_a_file_that_cannot_be_looked_into(mount, op, errno_):
    """The second open, and the first read, are the screener's own."""
    rate = 2 if op == "open" else 1
    for otherwise in ("allow", "deny"):
        volume = mount("dir:", f"content_screener:content=foul:otherwise={otherwise}",
                       f"error@100:op={op}:errno={errno_}:rate={rate}", passthrough="no")
        (volume.tree / "f").write_text("fair")
        if otherwise == "allow":
            os.close(os.open(volume.mnt / "f", os.O_RDONLY))
        else:
            refused(lambda volume=volume: os.open(volume.mnt / "f", os.O_RDONLY))
            why = os.strerror(getattr(errno, errno_))
            assert watched(volume)[0] == f"content_screener: refused open of '/f': it cannot be read: {why}"


def test_a_write_with_the_content_is_refused_wherever_it_is(mount):
    volume = mount("mem:", "content_screener:content=foul")
    with open(volume.mnt / "f", "wb", buffering=0) as f:
        f.write(b"fair ")
        refused(lambda: f.write(b"x" * 3000 + b"foul"))
        refused(lambda: os.pwrite(f.fileno(), b"foul", 1 << 20))
        f.write(b"again")
    assert (volume.mnt / "f").read_bytes() == b"fair again"
    assert volume.report("content_screener")["refused"] == [2]
    assert watched(volume) == ["content_screener: refused write of '/f': content has 'foul'"] * 2


def test_what_was_written_in_pieces_is_found_at_the_last_close(mount):
    volume = mount("mem:", "content_screener:content=foul")
    with open(volume.mnt / "f", "wb", buffering=0) as f:
        f.write(b"fo")
        f.write(b"ul")
        assert volume.report("content_screener")["foul"] == [0]
    until("it was looked at again", lambda: volume.report("content_screener")["foul"] == [1])
    assert "content_screener: found foul after writing '/f': content has 'foul'" in watched(volume)
    refused(lambda: (volume.mnt / "f").read_bytes())
    os.unlink(volume.mnt / "f")


def test_a_type_that_comes_by_writing_is_found_at_the_last_close(mount):
    volume = mount("mem:", "content_screener:type=application/x-")
    (volume.mnt / "f").write_bytes(ELF)
    until("it was looked at again", lambda: volume.report("content_screener")["foul"] == [1])
    refused(lambda: (volume.mnt / "f").read_bytes())


def test_what_is_only_read_is_not_looked_at_again(mount):
    volume = mount("dir:", "content_screener:content=foul")
    (volume.tree / "good").write_text("fair")
    for _ in range(3):
        (volume.mnt / "good").read_text()
    counts = volume.stats()["operations"]
    assert counts["open"] >= 3
    until("all are released", lambda: volume.stats()["operations"]["release"] == counts["open"])
    assert volume.report("content_screener")["scanned"] == [3]


# ---- reports ----

def test_a_refusal_is_one_line_on_standard_error(mount):
    volume = mount("mem:", "content_screener:name=*.exe")
    refused(lambda: open(volume.mnt / "a\nforged: line.exe", "w"))
    until("it is said", lambda: "refused" in volume.said())
    assert volume.said().splitlines()[-1:] == ["altitude: content_screener: refused create of '/a?forged: line.exe': name matches '*.exe'"]


def test_lines_that_nobody_watched_are_told_to_be_lost(mount):
    volume = mount("mem:", "content_screener:name=*.exe")
    for number in range(256 + 10):
        refused(lambda number=number: open(volume.mnt / f"{number}.exe", "w"))
    first, *rest = watched(volume)
    assert first == "10 records lost" and len(rest) == 256
    assert "'/10.exe'" in rest[0] and "'/265.exe'" in rest[-1]
    assert volume.report("content_screener")["refused"] == [266]
    assert watched(volume) == []


def test_it_ends_with_the_detach(mount):
    volume = mount("mem:", "content_screener:name=*.exe:content=foul")
    refused(lambda: open(volume.mnt / "a.exe", "w"))
    volume.detach("content_screener")
    (volume.mnt / "a.exe").write_text("foul")
    volume.attach("content_screener:content=foul")
    refused(lambda: (volume.mnt / "a.exe").read_text())
