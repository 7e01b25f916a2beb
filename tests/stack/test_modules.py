# SPDX-License-Identifier: MIT
"""Files that are no modules, modules that are not right, and modules that come and go: errors, and never a crash."""
import os
import random
import shutil

import pytest

INVALID, DENIED = "0xC000000D", "0xC0000022"
FILTER = """
#include <altitude/filter.h>
%(more)s
static const struct alt_callback callbacks[] = { { .code = ALT_OP_END } };
static const struct alt_filter_registration registration = { .size = sizeof(registration), .name = "mine", .altitude = "1000",
	.callbacks = callbacks, %(members)s };
ALT_FILTER(registration);
"""
DESCRIPTOR = """
#include <altitude/filter.h>
static const struct alt_filter_registration registration = { .size = %(size)s, .name = %(name)s, .altitude = "1000" };
__attribute__((visibility("default"))) const struct alt_module alt_module = {
	.magic = %(magic)s, .abi = %(abi)s, .kind = %(kind)s, .registration = %(registration)s };
"""
RIGHT = dict(size="sizeof(registration)", name='"mine"', magic="ALT_MODULE_MAGIC", abi="ALT_ABI", kind="ALT_MODULE_FILTER",
             registration="&registration")


def a_filter(more="", members=""):
    return FILTER % dict(more=more, members=members)


@pytest.fixture
def server(mount, control):
    """A control that is sure, after each refusal, that the server serves on and holds nothing."""
    volume = mount("mem:")
    (volume.mnt / "f").write_text("content")
    talk = control(volume)

    class Server:
        ask = staticmethod(talk.ask)

        @staticmethod
        def right(cmd, **more):
            answer = talk.ask(cmd, **more)
            assert answer["ok"], answer

        @staticmethod
        def refused(status, cmd="load", **more):
            before = talk.ask("filters")["filters"]
            answer = talk.ask(cmd, **more)
            assert not answer["ok"] and answer.get("status") == status, answer
            assert talk.ask("filters")["filters"] == before
            assert (volume.mnt / "f").read_text() == "content"
            return answer["error"]

    return Server


def test_a_right_module_is_loaded(server, module):
    server.right("load", filter=str(module("mine", source=DESCRIPTOR % RIGHT)))
    server.right("attach", filter="mine")
    server.right("unload", filter="mine")


@pytest.mark.parametrize("wrong, said", [
    (dict(magic="0x00544c42u"), "is no module"), (dict(magic="0"), "is no module"),
    (dict(abi="ALT_ABI + 1"), "has interface version 2, this program 1"), (dict(abi="0"), "has interface version 0"),
    (dict(kind="ALT_MODULE_FILESYSTEM"), "is a file system, not a filter"), (dict(kind="0"), "is a ?, not a filter"),
    (dict(kind="4000000000u"), "is a ?, not a filter"), (dict(registration="0"), "registers nothing"),
    (dict(size="0"), "its table has 0 bytes"), (dict(size="sizeof(registration) - 8"), "was made with other headers"),
    (dict(size="sizeof(registration) + 8"), "was made with other headers"), (dict(name="0"), "registers no name"),
], ids=str)
def test_a_wrong_descriptor_is_refused(server, module, wrong, said):
    path = module("mine", source=DESCRIPTOR % dict(RIGHT, **wrong))
    for _ in range(2):
        error = server.refused(INVALID, filter=str(path))
        assert said in error and "mine" in error
    server.right("load", filter=str(module("mine", source=DESCRIPTOR % RIGHT)))      # and nothing of it is left


def test_a_shared_object_without_a_descriptor_is_refused(server, module):
    assert 'exports no "alt_module"' in server.refused(INVALID, filter=str(module("mine", source="int x = 1;\n")))


def test_a_truncated_module_is_refused_or_whole_enough(server, module, tmp_path):
    whole = module("mine", source=a_filter()).read_bytes()
    path, refused = tmp_path / "mine.so", 0
    for length in [0, 1, 4, 16, 63, 64, 65, 100, 500, *range(1000, len(whole), len(whole) // 40), len(whole) - 1]:
        path.unlink()            # not written over: an old one could still be mapped
        path.write_bytes(whole[:length])
        path.chmod(0o755)
        answer = server.ask("load", filter=str(path))
        if answer["ok"]:         # what is missing is for linkers and debuggers
            server.right("unload", filter="mine")
        else:
            assert answer["status"] == INVALID and str(path) in answer["error"], answer
            refused += 1
    assert refused > 10
    assert server.ask("filters")["filters"] == []


def test_garbage_is_refused(server, module, tmp_path):
    draw = random.Random(7)
    head = module("mine", source=a_filter()).read_bytes()[:64]
    path = tmp_path / "garbage.so"
    for content in [b"", b"\0" * 5000, b"#!/bin/sh\nexit 0\n", draw.randbytes(5000), b"\x7fELF", b"\x7fELF" + draw.randbytes(5000),
                    head + draw.randbytes(5000), head + b"\0" * 5000, head + b"\xff" * 5000]:
        path.write_bytes(content)
        path.chmod(0o755)
        assert str(path) in server.refused(INVALID, filter=str(path))
    for seed in range(200):      # a head that lies
        draw = random.Random(seed)
        lies = bytearray(head)
        lies[draw.randrange(16, 64)] = draw.randrange(256)
        path.write_bytes(bytes(lies) + draw.randbytes(3000))
        assert str(path) in server.refused(INVALID, filter=str(path)), f"seed {seed}"


def test_what_is_no_file_is_refused(server, tmp_path):
    (tmp_path / "dir.so").mkdir()
    os.mkfifo(tmp_path / "fifo.so", 0o755)
    for name in ("dir.so", "fifo.so"):
        assert "is not a regular file" in server.refused(INVALID, filter=str(tmp_path / name))
    assert "is not a regular file" in server.refused(INVALID, filter="/dev/null")
    server.refused("0xC0000034", filter=str(tmp_path / "none.so"))
    server.refused("0xC0000034", filter="nobody")
    server.refused(INVALID, filter="")
    server.refused(INVALID, filter="/bin/true")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o666])
def test_a_module_that_others_may_write_is_refused(server, module, tmp_path, mode):
    path = module("mine", source=a_filter())
    path.chmod(mode)
    (tmp_path / "link.so").symlink_to(path)
    for name in (path, tmp_path / "link.so"):
        assert f"is writable by others (mode {mode:04o}): chmod go-w" in server.refused(DENIED, filter=str(name))
    path.chmod(0o755)
    server.right("load", filter=str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a file is given away")
def test_a_module_of_another_user_is_refused(server, module):
    path = module("mine", source=a_filter())
    os.chown(path, 12001, 0)
    assert "belongs to user 12001, who is neither root nor you" in server.refused(DENIED, filter=str(path))
    os.chown(path, 0, 12001)     # a group that may not write is nobody's business
    server.right("load", filter=str(path))


def test_one_that_is_loaded_is_not_loaded_again(server, module, tmp_path):
    path = module("mine", source=a_filter())
    server.right("load", filter=str(path))
    assert "'mine' is already loaded" in server.refused("0xC000010E", filter=str(path))
    server.refused("0xC000010E", filter="mine")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(path, other)
    server.refused("0xC000010E", filter=str(other / "mine.so"))      # of the same name, from wherever
    server.right("attach", filter="mine")                            # needs no load


def test_an_image_that_stays_in_memory_is_in_the_way_and_says_so(server, module):
    path = module("mine", "-Wl,-z,nodelete", source=a_filter())
    server.right("load", filter=str(path))
    answer = server.ask("unload", filter="mine")
    assert not answer["ok"] and "did not leave memory" in answer["error"]
    error = server.refused("0xC000038E", filter=str(path))
    assert "an old 'mine' is still in memory (zombie), held by: code that did not leave memory" in error
    server.refused("0xC000038E", "attach", filter=str(path))
    server.refused("0xC01C0013", "unload", filter="mine")
    server.right("attach", filter="null")                            # others come and go


def test_a_new_version_is_loaded_after_the_old_one(server, module):
    def version(number):
        path = module("mine", source=a_filter('''
static void report(struct alt_instance *in, struct alt_report *to) { alt_report_line(to, "version %d"); }
''' % number, ".stats = report"))
        server.right("attach", filter=str(path))
        assert f"version {number}" in server.ask("stats")["lines"]
        server.right("unload", filter="mine")
        path.unlink()

    version(1)
    version(2)


def test_a_filter_may_refuse_to_unload_but_not_for_ever(server, module):
    path = module("mine", source=a_filter("static int unload(uint32_t flags) { return flags & ALT_UNLOAD_MANDATORY ? 0 : -1; }",
                                          ".unload = unload"))
    server.right("attach", filter=str(path))
    assert "refuses to unload" in server.refused("0xC01C0010", "unload", filter="mine")
    assert [one["filter"] for one in server.ask("instances")["instances"]] == ["mine"]       # and is still there
    server.right("unload", filter="mine", mandatory=True)
    assert server.ask("instances")["instances"] == []
    server.right("load", filter=str(path))


def test_a_filter_that_cannot_be_stopped_says_so(server, module):
    path = module("mine", source=a_filter(members=".flags = ALT_FILTER_NO_MANDATORY_UNLOAD"))
    server.right("attach", filter=str(path))
    assert "cannot be stopped" in server.refused("0xC01C0010", "unload", filter="mine", mandatory=True)
    server.right("unload", filter="mine")        # it was asked, and agrees


def test_a_filter_that_cannot_prepare_is_not_loaded(server, module):
    path = module("mine", source=a_filter("static int load(struct alt_error *err) { return -12; }", ".load = load"))
    for _ in range(2):
        server.refused("0xC0000365", filter=str(path))
        server.refused("0xC0000365", "attach", filter=str(path))


def test_a_file_system_without_a_mount_function_is_refused(module, altitude, tmp_path):
    path = module("empty", source='''
#include <altitude/filesystem.h>
static const struct alt_filesystem_registration registration = { .size = sizeof(registration), .name = "empty" };
ALT_FILESYSTEM(registration);
''')
    (tmp_path / "there").mkdir()
    done = altitude("mount", f"{path}:", tmp_path / "there", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert "registers no mount function" in done.stderr
