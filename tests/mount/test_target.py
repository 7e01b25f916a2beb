# SPDX-License-Identifier: MIT
"""What cannot be mounted is refused in one line that says what, where and what to do; then nothing is left."""
import json
import os
import subprocess

import pytest

from altitude_fixtures import CLI, mounted


def refused(place, *args, code=1, **kw):
    done = place.cli(*args, check=False, **kw)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("altitude mount: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    place.nothing_left()
    return done.stderr


@pytest.fixture(params=["background", "foreground"])
def how(request):
    return ["--foreground"] if request.param == "foreground" else []


def test_a_missing_target(place, how):
    said = refused(place, "mount", *how, f"dir:{place.tree}", place.path / "no")
    assert said == f"altitude mount: mounting point '{place.path / 'no'}': No such file or directory; " \
                   "make the directory first (mkdir)\n"


def test_a_target_in_a_missing_directory(place, how):
    said = refused(place, "mount", *how, f"dir:{place.tree}", place.path / "no" / "no")
    assert f"'{place.path / 'no' / 'no'}': No such file or directory" in said


def test_paths_that_are_too_long(place, how):
    """Not cut: what is left of them may be there too."""
    long = "/" * 4096 + str(place.tree)
    assert "the argument has" in refused(place, "mount", *how, f"dir:{long}", place.mnt, code=2)
    assert "File name too long" in refused(place, "mount", *how, f"dir:{place.tree}", long)


def test_a_target_that_is_a_file(place, how):
    (place.path / "file").write_text("")
    said = refused(place, "mount", *how, f"dir:{place.tree}", place.path / "file")
    assert said == f"altitude mount: mounting point '{place.path / 'file'}' is not a directory\n"


def test_a_target_that_is_not_empty(place, how):
    full = place.directory("full")
    (full / "x").write_text("")
    said = refused(place, "mount", *how, f"dir:{place.tree}", full)
    assert said == f"altitude mount: mounting point '{full}' is not empty; choose an empty directory, " \
                   "or cover it with -o nonempty\n"
    place.mount("-o", "nonempty", target=full)
    assert os.listdir(full) == ["f"]
    place.cli("unmount", full)
    assert os.listdir(full) == ["x"]


def test_of_those_who_mount_at_one_place_at_once_one_does(place):
    """The others do not cover it: whose mount is visible decides what a server takes away at its end."""
    for _ in range(20):
        command = [CLI, "mount", f"dir:{place.tree}", place.mnt]
        three = [subprocess.Popen(command, env=place.env, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        said = [one.communicate()[1] for one in three]
        assert sorted(one.returncode for one in three) == [0, 1, 1], said
        assert sum("shows a volume already" in text for text in said) == 2, said
        place.cli("unmount", place.mnt)
        assert not mounted(place.mnt)


def test_a_target_that_is_mounted_already(place):
    place.mount()
    done = place.mount(check=False)
    assert done.returncode == 1 and done.stderr == (
        f"altitude mount: mounting point '{place.mnt}' shows a volume already ('altitude unmount' ends it); "
        "choose an empty directory, or cover it with -o nonempty\n")
    assert (place.mnt / "f").read_text() == "content"
    assert len(place.sockets()) == 1


def test_an_empty_volume_is_not_covered_unasked(place):
    """A mounting point that shows nothing looks like an empty directory."""
    other = place.directory("other")
    place.cli("mount", f"dir:{other}", place.mnt)
    done = place.mount(check=False)
    assert done.returncode == 1 and "shows a volume already" in done.stderr and done.stderr.count("\n") == 1
    assert list(place.mnt.iterdir()) == []
    add = place.directory("add")
    place.mount(target=add)
    done = place.cli("mount-add", add, place.mnt, check=False)
    assert done.returncode == 1 and done.stderr == (
        f"altitude mount-add: mounting point '{place.mnt}' shows a volume already ('altitude unmount' ends it); "
        "choose an empty directory\n")


def test_a_covered_volume_comes_to_light_again(place):
    """The one that is seen has the mounting point's name; the other is not taken for one that is gone."""
    other = place.directory("other")
    place.cli("mount", f"dir:{other}", place.mnt)
    place.mount("-o", "nonempty")
    assert (place.mnt / "f").read_text() == "content"
    names = {one["name"]: one["points"] for one in json.loads(place.cli("volumes", "--json").stdout)}
    assert names == {f"dir:{other}": [], f"dir:{place.tree}": [str(place.mnt)]}
    done = place.cli("unmount", f"dir:{other}", check=False)
    assert done.returncode == 1 and "is covered by another mount; unmount that first" in done.stderr
    place.cli("attach", "null", place.mnt)
    place.cli("unmount", place.mnt)
    assert list(place.mnt.iterdir()) == []
    place.cli("unmount", place.mnt)
    place.nothing_left()


@pytest.mark.parametrize("source, reason", [
    ("dir:{path}/no", "No such file or directory"), ("dir:{path}/tree/f", "Not a directory"),
    ("dir:", "no directory given"), ("nosuch:x", "unknown file system 'nosuch'"),
])
def test_a_source_that_cannot_be(place, how, source, reason):
    assert reason in refused(place, "mount", *how, source.format(path=place.path), place.mnt)


@pytest.mark.parametrize("filters, reason", [
    (["nosuch"], "unknown filter 'nosuch'"), (["null", "null"], "instance 'null' is attached"),
    (["null", "stats@1e5"], "is no decimal number"), (["null:speed=9"], "has no option 'speed'"),
    (["null@100", "stats@100.0"], "altitude 100.0 on "), (["delay"], "say which operations"),
    (["delay:op=read:ms=many"], "is not a number"), (["/nowhere/x.so"], "no module '/nowhere/x.so'"),
])
def test_a_filter_that_cannot_be(place, how, filters, reason):
    given = [word for name in filters for word in ("--filter", name)]
    assert reason in refused(place, "mount", *how, *given, f"dir:{place.tree}", place.mnt)


@pytest.mark.parametrize("option", ["nonsense", "ttl=abc", "timeout_ms=x"])
def test_an_option_that_cannot_be(place, how, option):
    said = refused(place, "mount", *how, "-o", option, f"dir:{place.tree}", place.mnt)
    assert option.split("=")[0] in said


@pytest.mark.parametrize("name", ["with blank", "tab\there", "comma,comma", "back\\slash", "new\nline", "größe", "a'b\"c",
                                  "-o", "x" * 200])
def test_a_target_of_any_name(place, name):
    target = place.directory(name)
    place.mount(target=target)
    assert (target / "f").read_text() == "content"
    place.cli("instances", target)
    place.cli("unmount", target)
    place.nothing_left()


@pytest.mark.parametrize("name", ["with blank", "comma,comma", "back\\slash", "größe"])
def test_a_source_of_any_name(place, name):
    tree = place.directory(name)
    (tree / "g").write_text("g")
    place.cli("mount", f"dir:{tree}", place.mnt)
    assert (place.mnt / "g").read_text() == "g"
    place.cli("unmount", f"dir:{tree}")
    place.nothing_left()


def test_targets_are_found_from_where_the_caller_stands(place):
    place.cli("mount", "dir:tree", "mnt", cwd=place.path)
    assert (place.mnt / "f").read_text() == "content"
    place.cli("unmount", "../mnt/", cwd=place.tree)
    place.nothing_left()


def test_a_target_by_way_of_a_symbolic_link(place):
    link = place.path / "link"
    link.symlink_to("mnt")
    place.mount(target=link)
    assert (place.mnt / "f").read_text() == "content"
    place.cli("unmount", link)
    place.nothing_left()


def test_mountinfo_says_what_it_is_and_where_from(place):
    place.mount()
    kind, source, options = mounted(place.mnt).split(" - ")[1].split()
    assert kind == "fuse.altitude"
    assert source == f"dir:{place.tree}"
    assert "default_permissions" in options and "allow_other" in options
    shown = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,SOURCE", place.mnt], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["fuse.altitude", f"dir:{place.tree}"]


def test_read_only(place):
    for option in (["--read-only"], ["-o", "ro"]):
        place.mount(*option)
        assert "ro" in mounted(place.mnt).split()[5].split(",")
        assert (place.mnt / "f").read_text() == "content"
        for change in (lambda: (place.mnt / "g").write_text(""), lambda: os.unlink(place.mnt / "f"),
                       lambda: os.mkdir(place.mnt / "d"), lambda: os.chmod(place.mnt / "f", 0o600),
                       lambda: os.truncate(place.mnt / "f", 0), lambda: os.utime(place.mnt / "f"),
                       lambda: os.rename(place.mnt / "f", place.mnt / "g")):
            with pytest.raises(OSError) as e:
                change()
            assert e.value.errno == 30     # EROFS
        place.cli("unmount", place.mnt)
        place.nothing_left()


def test_noexec_nosuid_nodev(place):
    program = place.tree / "id"
    program.write_bytes(open("/usr/bin/id", "rb").read())
    os.chmod(program, 0o4755)
    os.mknod(place.tree / "zero", 0o20666, os.makedev(1, 5))

    def effective():
        return subprocess.run(["setpriv", "--reuid", "12001", "--clear-groups", place.mnt / "id", "-u"],
                              capture_output=True, text=True).stdout.strip()

    place.mount()
    assert effective() == "0"
    with open(place.mnt / "zero", "rb") as f:
        assert f.read(3) == bytes(3)
    place.cli("unmount", place.mnt)

    place.mount("-o", "nosuid,nodev")
    assert effective() == "12001"
    with pytest.raises(PermissionError):
        open(place.mnt / "zero", "rb").close()
    place.cli("unmount", place.mnt)

    place.mount("-o", "noexec")
    with pytest.raises(PermissionError):
        subprocess.run([place.mnt / "id"])
    assert (place.mnt / "id").read_bytes() == program.read_bytes()
    place.cli("unmount", place.mnt)
    place.nothing_left()
