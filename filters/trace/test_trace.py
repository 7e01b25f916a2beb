# SPDX-License-Identifier: MIT
"""trace: a line for each finished operation, in a file or in the log."""
import os
import re
import sys

import pytest

until = sys.modules["altitude_fixtures"].until
LINE = re.compile(r"([a-z_]+) (\S+|\(no name\)) (\d+|E[A-Z0-9]+) (\d+)")


def lines_of(text):
    lines = text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), [line for line in lines if not LINE.fullmatch(line)]
    return [LINE.fullmatch(line).groups()[:3] for line in lines]


@pytest.fixture
def traced(mount, tmp_path):
    log = tmp_path / "trace.log"
    return mount("mem:", f"trace:file={log}"), log


def test_each_operation_is_a_line_with_path_and_result(traced):
    volume, log = traced
    (volume.mnt / "d").mkdir()
    (volume.mnt / "d/f").write_bytes(b"x" * 5000)
    assert len((volume.mnt / "d/f").read_bytes()) == 5000
    with pytest.raises(FileNotFoundError):
        os.stat(volume.mnt / "none")
    with pytest.raises(OSError):
        os.rmdir(volume.mnt / "d")
    os.unlink(volume.mnt / "d/f")
    lines = lines_of(log.read_text())
    for line in (("mkdir", "/d", "0"), ("create", "/d/f", "0"), ("write", "/d/f", "5000"), ("read", "/d/f", "5000"),
                 ("lookup", "/none", "ENOENT"), ("rmdir", "/d", "ENOTEMPTY"), ("unlink", "/d/f", "0")):
        assert lines.count(line) == 1, (line, lines)
    assert lines.index(("mkdir", "/d", "0")) < lines.index(("create", "/d/f", "0")) < lines.index(("unlink", "/d/f", "0"))


def test_there_are_as_many_lines_as_operations(traced):
    volume, log = traced
    for number in range(10):
        (volume.mnt / f"f{number}").write_text("x")
    until("all ten are released", lambda: volume.stats()["operations"]["release"] == 10)
    until("the last line is written",
          lambda: len(log.read_text().splitlines()) == sum(volume.stats()["operations"].values()))
    lines_of(log.read_text())


def test_a_name_cannot_forge_a_line(traced):
    volume, log = traced
    (volume.mnt / "a\nmkdir forged 0 1\x1b[31m").write_text("")
    text = log.read_text()
    assert "\x1b" not in text
    assert ("mkdir", "forged", "0") not in [tuple(line.split()[:3]) for line in text.splitlines()]
    assert "create /a?mkdir forged 0 1?[31m 0 " in text


def test_without_a_file_the_lines_go_to_the_log(mount):
    volume = mount("mem:", "trace")
    (volume.mnt / "d").mkdir()
    until("the line is there", lambda: re.search(r"mkdir /d 0 \d+", volume.said()))


def test_lines_are_appended_to_what_is_there(mount, tmp_path):
    log = tmp_path / "trace.log"
    log.write_text("before\n")
    volume = mount("mem:", f"trace:file={log}")
    (volume.mnt / "d").mkdir()
    volume.detach("trace")
    (volume.mnt / "e").mkdir()
    text = log.read_text()
    assert text.startswith("before\n") and "mkdir /d 0 " in text and "/e" not in text


def test_a_new_file_is_its_owners_alone(traced):
    """It tells who did what, and the server itself has no umask."""
    _, log = traced
    assert os.stat(log).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", ["", "=", "=lines", "=./lines"])
def test_a_path_that_depends_on_where_the_server_works_is_refused(mount, path):
    volume = mount("mem:")
    done = volume.attach(f"trace:file{path}", check=False)
    assert done.returncode == 1 and "is not an absolute path" in done.stderr
    assert volume.instances() == []


def test_a_file_that_cannot_be_opened_is_told(mount, tmp_path):
    done = mount("mem:").attach(f"trace:file={tmp_path}/no/such", check=False)
    assert done.returncode == 1 and f"trace: cannot open file '{tmp_path}/no/such': No such file or directory" in done.stderr
