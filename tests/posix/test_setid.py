# SPDX-License-Identifier: MIT
"""What becomes of set-user-id and set-group-id, whoever does what: as natively, call by call."""
import importlib.util
import itertools
import os
import pathlib

import pytest

_spec = importlib.util.spec_from_file_location("posix_calls", pathlib.Path(__file__).with_name("calls.py"))
calls = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(calls)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")

OWNER, GROUP = 12001, 12005
WHO = [(0, 0), (OWNER, OWNER), (OWNER, OWNER, GROUP), (OWNER, GROUP), (12002, GROUP), (12002, 12002, 12003, GROUP), (12002, 12002)]
MODES = [0o2644, 0o2664, 0o2666, 0o6666, 0o4666, 0o2676, 0o2755, 0o6777, 0o6600]     # without and with the right to execute
WAYS = {
    "write": [("open", os.O_RDWR), ("pwrite", 0, 10, 0)],
    "append": [("open", os.O_WRONLY | os.O_APPEND), ("pwrite", 0, 10, 0)],
    "nothing": [("open", os.O_RDWR), ("pwrite", 0, 0, 0)],
    "ftruncate": [("open", os.O_RDWR), ("ftruncate", 0, 5)],
    "open": [("open", os.O_WRONLY | os.O_TRUNC)],
    "allocate": [("open", os.O_RDWR), ("posix_fallocate", 0, 0, 9000)],
    "copy": [("open", os.O_RDWR), ("copy_file_range", 0, 0, 3, 0, 50)],
    "truncate": [("truncate", 5)],
    "group": [("chown", -1, GROUP)],
    "own_group": [("chown", -1, OWNER)],
    "owner": [("chown", 12002, -1)],
    "both": [("chown", 12002, 12002)],
    "chmod": [("chmod", 0o2664)],
}


def on(name, call):
    """The call about this file; those about an open one have its number."""
    verb, *args = call
    if verb == "open":
        return ("open", name, *args, 0)
    return call if verb in ("pwrite", "ftruncate", "posix_fallocate", "copy_file_range") else (verb, name, *args)


def blocks(user):
    root, make, do, look = calls.USERS[0], [("chmod", ".", 0o777)], [], []
    for way, mode in itertools.product(WAYS, MODES):
        name = f"{way}.{mode:o}"
        make += [("open", name, os.O_RDWR | os.O_CREAT, 0o600), ("pwrite", 0, 100, 0), ("close", 0),
                 ("chown", name, OWNER, GROUP), ("chmod", name, mode)]
        do += [on(name, call) for call in WAYS[way]]
        do += [("close", 0), ("stat", name)]
        look += [("stat", name), ("unlink", name)]
    return [(root, make), (user, do), (root, look)]


@pytest.mark.parametrize("filters", [(), ("stats",)], ids=["bare", "filtered"])
@pytest.mark.parametrize("user", WHO, ids=lambda user: "-".join(map(str, user)))
def test_the_bits_are_those_of_the_native_file_system(mount, tmp_path, user, filters):
    native = tmp_path / "native"
    native.mkdir()
    volume = mount("dir:", *filters)
    differences = calls.compare(native, volume.mnt, blocks(user))
    assert not differences, "\n".join(differences)
