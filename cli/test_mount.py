# SPDX-License-Identifier: MIT
"""What stands in a line of /etc/fstab and is mount(8)'s own affair is accepted by both ways to mount."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
IGNORED = ["rw", "exec", "suid", "dev", "auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group", "nogroup",
           "defaults", "_netdev", "nofail", "async", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
           "strictatime", "nostrictatime", "lazytime", "nolazytime", "silent", "loud", "nomand", "noiversion", "nosync",
           "comment=what it is for", "user=somebody", "x-systemd.automount", "x-gvfs-show", "X-mount.mkdir"]


def test_options_of_mount_without_a_meaning_are_accepted(mount):
    volume = mount("mem:", **{option: True for option in IGNORED})
    (volume.mnt / "f").write_text("x")
    assert (volume.mnt / "f").read_text() == "x"


@pytest.mark.parametrize("option", ["diratim", "remount", "comments=x", "sync"])
def test_options_that_are_not_mounts_are_refused(altitude, tmp_path, option):
    done = altitude("mount", "-o", option, "mem:", tmp_path, check=False)
    assert done.returncode == 1 and f"no option '{option.split('=')[0]}'" in done.stderr


def test_the_helper_of_mount_leaves_out_no_other_options():
    """setup/mount.altitude drops what the command line ignores: the lists are one."""
    text = (ROOT / "setup/mount.altitude").read_text()
    patterns = re.search(r"\n\t(x-\*.*?)\) ;;", text, re.S)[1].replace("\\\n", "").replace("\t", "").split("|")
    patterns = [pattern.strip() for pattern in patterns]
    for option in IGNORED:
        assert any(pathlib.PurePath(option).match(pattern) for pattern in patterns), option
