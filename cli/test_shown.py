# SPDX-License-Identifier: MIT
"""What reaches a terminal: names hold any byte, and some are commands to it; a table is as wide as there is room."""
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

fixtures = sys.modules["altitude_fixtures"]
RED = "\033[31m"


def on_terminal(columns, *args):
    """What comes out on a terminal of so many columns, without the bold of the titles."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    subprocess.run([fixtures.CLI, *map(str, args)], env=fixtures.ENV, stdout=its, check=True, timeout=60)
    os.close(its)
    out = b""
    while True:
        try:
            out += os.read(ours, 65536)
        except OSError:                      # the end, of a terminal
            break
    os.close(ours)
    return out.decode().replace("\033[1m", "").replace("\033[0m", "").replace("\r", "").splitlines()


@pytest.mark.parametrize("args,shown", [
    (["mount", f"dir:/no{RED}", "/"], "'/no\\033[31m'"),
    (["mount", f"no{RED}", "/"], "'no\\033[31m'"),
    ([f"no{RED}"], "'no\\033[31m'"),
    (["mount", "dir:/no\udcff", "/"], "'/no\\377'"),
    (["mount", "dir:/nö", "/"], "'/nö'"),
    (["mount-add", "mem:", f"/no{RED}/no"], "'/no\\033[31m/no'"),
])
def test_errors_hold_no_commands_to_the_terminal(altitude, args, shown):
    done = altitude(*args, check=False)
    assert done.returncode and shown in done.stderr and "\033" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_tables_hold_no_commands_to_the_terminal(mount, altitude):
    mount(f"mem:{RED}\n日本")
    assert "mem:\\033[31m\\012日本 " in altitude("volumes").stdout


def test_a_table_is_no_wider_than_the_terminal(mount, altitude):
    name = "mem:begin" + "日本" * 40 + "end"
    volume = mount(name)
    assert name in altitude("volumes").stdout
    head, *rows = on_terminal(70, "volumes")
    assert all(title in head for title in ("Volume Name", "File System", "Mounting Points", "Server"))
    row, = [row for row in rows if row.startswith("mem:begin")]
    assert "…" in row and "本end" in row
    assert sum(2 if letter in "日本" else 1 for letter in row) <= 70
    assert row.endswith(f" {volume.server.pid}")
    assert name in "".join(on_terminal(400, "volumes"))
