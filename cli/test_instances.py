# SPDX-License-Identifier: MIT
"""The columns of `altitude instances`: what a filter lets pass, and whether the volume is still mounted."""
import json
import os

import pytest

COPY, ATTRIBUTES, DATA = 3, 4, 8


@pytest.mark.parametrize("spec,features", [
    ("null", COPY | ATTRIBUTES | DATA),              # sees nothing
    ("stats", COPY | ATTRIBUTES),                    # sees everything, copies too
    ("rot13", ATTRIBUTES),                           # sees reads and writes, but no copy
])
def test_features_tell_what_a_filter_lets_pass(mount, spec, features):
    volume = mount("mem:", spec)
    one, = volume.instances()
    assert (one["features"], one["detached"]) == (features, False)
    head, line = volume.cli("instances", volume.mnt).stdout.splitlines()
    assert head.split("  ")[-2:] == ["SprtFtrs", "VlStatus"]
    assert line.split()[-2:] == ["0", f"{features:08x}"]
    assert line == line.rstrip()


def test_a_volume_with_open_files_and_no_mounting_point_is_detached(mount):
    volume = mount("mem:name", "null")
    (volume.mnt / "f").write_text("x")
    with open(volume.mnt / "f") as held:
        volume.cli("unmount", "--lazy", volume.mnt)
        lines = [line for line in volume.cli("instances").stdout.splitlines() if " mem:name " in line]
        assert [line.split()[-2:] for line in lines] == [["0000000f", "Detached"]]
        one, = [one for one in json.loads(volume.cli("instances", "--json").stdout) if one["volume"] == "mem:name"]
        assert one["detached"] is True
        assert held.read() == "x" and os.fstat(held.fileno()).st_size == 1
