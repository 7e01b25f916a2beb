# SPDX-License-Identifier: MIT
"""attach tells how many open files a filter that looks at data comes too late for, and finds a module from here."""
import contextlib
import json
import sys

import pytest


def reads(volume):
    return json.loads(volume.cli("stats", "--json", volume.mnt).stdout)["operations"]["read"]


@pytest.fixture
def volume(mount):
    """A volume whose open files are passed through by the kernel."""
    made = mount("dir:")
    (made.tree / "f").write_text("content")
    with open(made.mnt / "f") as f:
        f.read()
    if reads(made):
        pytest.skip("this kernel does not pass the data of open files through (Linux 6.9, FUSE_PASSTHROUGH)")
    return made


def said(volume, spec):
    done = volume.attach(spec)
    assert done.stdout == ""
    return done.stderr


def test_attach_counts_open_files_that_pass_by_a_data_filter(volume):
    with contextlib.ExitStack() as held:
        for name in ("a", "b", "c"):
            (volume.tree / name).write_text("Hello")
            held.enter_context(open(volume.mnt / name))
        assert said(volume, "rot13") == ("altitude attach: 3 files that are open already are read and written below it; "
                                         "new opens come to it\n")
        # It is so: the one that was open reads what is below, a new open of the same file what rot13 makes of it.
        late = held.enter_context(open(volume.mnt / "a"))
        early = held.enter_context(open(volume.mnt / "b"))
        assert early.read() == "Uryyb" and late.read() == "Uryyb"
        # New opens of these files come to every filter: a second one misses the same three.
        assert "3 files" in said(volume, "content_screener:content=foul")


def test_one_file_is_told_as_one_and_none_not_at_all(volume):
    with open(volume.mnt / "f") as held:
        assert said(volume, "rot13").startswith("altitude attach: 1 file that is open already is read and written below it;")
        assert held.read() == "content"
        volume.detach("rot13")
    assert said(volume, "rot13") == ""


def test_a_filter_that_looks_at_no_data_misses_none(volume):
    with open(volume.mnt / "f"):
        assert said(volume, "null") == ""


def test_files_opened_under_a_data_filter_are_not_counted(volume):
    volume.attach("stats")
    with open(volume.mnt / "f"):
        assert said(volume, "rot13") == ""


@pytest.mark.parametrize("words, says", [
    (("attach", "rto13"), "unknown filter 'rto13'"),
    (("detach", "rot31"), "filter 'rot31' is not attached to 'mem:'"),
    (("detach", "rot"), "filter 'rot' is not attached to 'mem:'"),
    (("unload", "ort13"), "no filter 'ort13' is loaded"),
])
def test_who_mistypes_a_filter_is_told_which_is_meant(mount, words, says):
    volume = mount("mem:", "trace", "rot13")
    done = volume.cli(*words, volume.mnt, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"altitude {words[0]}: {says}") and "; do you mean 'rot13'? [0x" in done.stderr


def test_what_is_near_to_no_filter_is_not_guessed(mount):
    volume = mount("mem:", "rot13")
    assert "; see 'altitude instances' [0x" in volume.cli("detach", "zzzzz", volume.mnt, check=False).stderr
    assert "; see 'altitude filters' [0x" in volume.cli("unload", "zzzzz", volume.mnt, check=False).stderr


def test_a_module_is_loaded_by_its_path_from_here(mount):
    """The server stands somewhere else."""
    volume = mount("mem:")
    modules = sys.modules["altitude_fixtures"].BUILD / "modules"
    volume.cli("load", "./null.so", volume.mnt, cwd=modules)
    assert "null " in volume.cli("filters", volume.mnt).stdout
    volume.cli("unload", "null", volume.mnt)
    volume.cli("attach", "./null.so", volume.mnt, cwd=modules)
