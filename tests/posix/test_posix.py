# SPDX-License-Identifier: MIT
"""dir and mem answer as the native file system does, call by call, for root and two ordinary users."""
import importlib.util
import os
import pathlib
import sys

import pytest

_spec = importlib.util.spec_from_file_location("posix_calls", pathlib.Path(__file__).with_name("calls.py"))
calls = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(calls)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
BLOCKS = int(os.environ.get("ALTITUDE_POSIX_BLOCKS", 45))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("fs", ["dir:", "mem:"])
@pytest.mark.parametrize("filters", [(), ("null", "stats")], ids=["bare", "filtered"])
def test_same_answers(mount, tmp_path, fs, filters, seed):
    native = tmp_path / "native"
    native.mkdir()
    volume = mount(fs, *filters)
    blocks = calls.generate(seed, BLOCKS, 60)
    differences = calls.compare(native, volume.mnt, blocks)
    assert not differences, "\n".join(differences)


def test_generated_list_is_the_same_each_time():
    assert calls.generate(7, 5, 20) == calls.generate(7, 5, 20)


def test_native_agrees_with_itself(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    sys.modules["altitude_fixtures"].let_through(tmp_path)
    assert calls.compare(one, two, calls.generate(1, BLOCKS, 60)) == []
