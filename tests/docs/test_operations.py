# SPDX-License-Identifier: MIT
"""docs/operations.md says what the headers and the decoder say."""
import ctypes
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OP_H = (ROOT / "include/altitude/op.h").read_text()
DECODE = (ROOT / "engine/wire/decode.c").read_text()
IRP = """CREATE CLOSE READ WRITE QUERY_INFORMATION SET_INFORMATION QUERY_EA SET_EA FLUSH_BUFFERS QUERY_VOLUME_INFORMATION
    SET_VOLUME_INFORMATION DIRECTORY_CONTROL FILE_SYSTEM_CONTROL DEVICE_CONTROL LOCK_CONTROL CLEANUP QUERY_SECURITY
    SET_SECURITY""".split()


def rows():
    found = {}
    for line in (ROOT / "docs/operations.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] not in ("operation", "---"):
            assert cells[0] not in found
            found[cells[0]] = cells
    return found


def enum():
    body = re.search(r"enum alt_op_code \{(.*?)\};", OP_H, re.S)[1]
    names = re.findall(r"^\s*ALT_OP_(\w+)", body, re.M)
    assert names[0] == "END"
    return [name.lower() for name in names[1:names.index("COUNT")]]


def members():
    """Member of struct alt_params -> its comment."""
    body = re.search(r"struct alt_params \{(.*?)\n\};", OP_H, re.S)[1]
    return dict(re.findall(r"^\t[^/\n]*?(\w+);\s*/\*(.*?)\*/", body, re.M | re.S))


def messages():
    """Operation -> FUSE opcodes, as the decoder's table has them."""
    found = {}
    for message, code in re.findall(r"\[(FUSE_\w+)\] = OP(?:_BITS|_BARE)?\((\w+),", DECODE):
        found.setdefault(code.lower(), set()).add(message)
    return found


def opcode_numbers():
    text = pathlib.Path("/usr/include/linux/fuse.h").read_text()
    numbers = dict(re.findall(r"^\t(FUSE_\w+)\s*= (\d+),", text, re.M))
    numbers.update(re.findall(r"^#define (FUSE_\w+) (\d+)$", (ROOT / "engine/wire/proto.h").read_text(), re.M))
    return numbers


def test_the_table_has_every_operation_of_the_enum_in_its_order():
    assert list(rows()) == enum()


def test_the_library_gives_the_same_names(altitude):
    library = ctypes.CDLL(str(pathlib.Path(altitude.__globals__["BUILD"]) / "libaltitude.so"))
    library.alt_op_name.restype = ctypes.c_char_p
    library.alt_op_find.argtypes = [ctypes.c_char_p]
    names = enum()
    assert [library.alt_op_name(code + 1).decode() for code in range(len(names))] == names
    assert [library.alt_op_find(name.encode()) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("name", enum())
def test_kernel_messages_are_those_the_decoder_takes(name):
    named = dict(re.findall(r"(FUSE_\w+) \((\d+)\)", rows()[name][2]))
    assert set(named) == messages()[name]
    numbers = opcode_numbers()
    assert named == {message: numbers[message] for message in named}


@pytest.mark.parametrize("name", enum())
def test_windows_counterparts_exist(name):
    irps = re.findall(r"IRP_MJ_(\w+)", rows()[name][3])
    assert irps or rows()[name][3] == "none"
    assert set(irps) <= set(IRP)


@pytest.mark.parametrize("name", enum())
def test_parameters_are_members_and_agree_with_their_comments(name):
    fields = members()
    assert len(fields) > 15
    used = rows()[name][4].split()
    assert set(used) <= set(fields)
    for field, comment in fields.items():
        words = set(re.findall(r"\b[A-Z_]{4,}\b", comment))
        if name.upper() in words:
            assert field in used, f"op.h says that {field} is used by {name}"
