# SPDX-License-Identifier: MIT
"""A name that is not there is remembered by the kernel as long as other names are: a negative entry."""
import json
import os

import pytest


def lookups(volume):
    return json.loads(volume.cli("stats", "--json", volume.mnt).stdout)["operations"]["lookup"]


def missed(volume, name="missing"):
    """How many lookups it takes to be told twice that it is not there."""
    before = lookups(volume)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            os.stat(volume.mnt / name)
    return lookups(volume) - before


def test_with_a_lifetime_the_second_look_is_not_asked(mount):
    volume = mount("mem:", ttl_ms=3600000)
    assert missed(volume) == 1
    (volume.mnt / "missing").write_text("now it is")
    assert (volume.mnt / "missing").read_text() == "now it is"


def test_without_one_each_look_is_asked(mount):
    volume = mount("mem:", ttl_ms=0)
    assert missed(volume) == 2


def test_a_filter_sees_that_the_name_is_not_there(mount, tmp_path):
    """The engine makes the entry above the filters: they see -ENOENT, not a success without a node."""
    log = tmp_path / "trace"
    volume = mount("mem:", f"trace:file={log}", ttl_ms=3600000)
    assert missed(volume) == 1
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [line[2] for line in lines if line[0] == "lookup" and line[1] == "/missing"] == ["ENOENT"]
