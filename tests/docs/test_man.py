# SPDX-License-Identifier: MIT
"""Man pages: one for each module, clean, and with the options the module registers."""
import ctypes
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = sorted({path.parent for kind in ("filters", "filesystems", "blockdevs", "examples")
                  for path in ROOT.glob(f"{kind}/*/*.c")})
PROGRAMS = [folder for folder in FOLDERS if "\nint main(" in (folder / f"{folder.name}.c").read_text()]
MODULES = [folder for folder in FOLDERS if folder not in PROGRAMS]
PAGES = sorted([*ROOT.glob("cli/*.[178].md"), *ROOT.glob("setup/*.[178].md"), *ROOT.glob("docs/*.[178].md"),
                *(folder / f"{folder.name}.7.md" for folder in FOLDERS)])


class Option(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_char_p), ("help", ctypes.c_char_p)]


class FilterHead(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("name", ctypes.c_char_p), ("flags", ctypes.c_uint32),
                ("altitude", ctypes.c_char_p), ("options", ctypes.POINTER(Option))]


class FilesystemHead(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("name", ctypes.c_char_p), ("flags", ctypes.c_uint32),
                ("options", ctypes.POINTER(Option))]


class Descriptor(ctypes.Structure):
    _fields_ = [("magic", ctypes.c_uint32), ("abi", ctypes.c_uint32), ("kind", ctypes.c_uint32),
                ("reserved", ctypes.c_uint32), ("registration", ctypes.c_void_p)]


def ident(path):
    return str(path.relative_to(ROOT))


def page_of(folder):
    return (folder / f"{folder.name}.7.md").read_text()


def registration(folder, altitude):
    """What the built module says of itself."""
    build = pathlib.Path(altitude.__globals__["BUILD"])
    path = build / "modules" / f"{folder.name}.so"
    if not path.exists():
        pytest.skip(f"{folder.name} is not built: a library it needs is missing")
    ctypes.CDLL(str(build / "libaltitude.so"), mode=ctypes.RTLD_GLOBAL)
    module = Descriptor.in_dll(ctypes.CDLL(str(path)), "alt_module")
    head = FilterHead if module.kind == 1 else FilesystemHead
    return head.from_address(module.registration)


def options_of(head):
    found = []
    while head.options and head.options[len(found)].name:
        found.append(head.options[len(found)])
    return found


@pytest.mark.parametrize("folder", MODULES, ids=ident)
def test_each_module_has_a_page_named_after_it(folder):
    text = page_of(folder)
    name = folder.name
    assert text.startswith(f"% ALTITUDE-{name.upper()}(7) ")
    assert f"\naltitude-{name} - " in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == [
        "# NAME", *(["# SYNOPSIS"] if "# SYNOPSIS" in text else []), "# DESCRIPTION", "# OPTIONS", "# EXAMPLES", "# SEE ALSO"]


@pytest.mark.parametrize("folder", MODULES, ids=ident)
def test_options_of_the_page_are_those_the_module_registers(folder, altitude):
    head = registration(folder, altitude)
    assert head.name.decode() == folder.name
    section = re.search(r"^# OPTIONS\n(.*?)^# ", page_of(folder), re.M | re.S)[1]
    documented = re.findall(r"^\*\*([\w.-]+)(?:=\*\*\*(\w+)\*)?(?:\*\*)?$", section, re.M)
    registered = [(o.name.decode(), o.value.decode() if o.value else "") for o in options_of(head)]
    assert documented == registered
    if not registered:
        assert section.strip().startswith(("None.", f"**{folder.name}** has no options of its own."))
    for option in options_of(head):
        assert option.help and b"\n" not in option.help


@pytest.mark.parametrize("folder", [f for f in FOLDERS if (f / f"{f.name}.ini").exists()], ids=ident)
def test_altitude_is_the_same_in_source_manifest_and_page(folder, altitude):
    head = registration(folder, altitude)
    number = head.altitude.decode()
    assert f"altitude {number} " in page_of(folder)
    manifest = (folder / f"{folder.name}.ini").read_text()
    assert f"\nAltitude={number}\n" in manifest
    group = re.search(r"^Group=(.*)$", manifest, re.M)[1]
    assert f"({group})" in page_of(folder)
    groups = altitude("groups").stdout
    low, high = re.search(rf"^{re.escape(group)}  +(\d+)  +(\d+) ", groups, re.M).groups()
    assert int(low) <= float(number) <= int(high)


@pytest.mark.parametrize("folder", MODULES, ids=ident)
def test_options_in_examples_exist(folder, altitude):
    """An example with a comma where a colon belongs looks right, and is refused."""
    names = {o.name.decode() for o in options_of(registration(folder, altitude))}
    for spec in re.findall(rf"(?<![\w/]){folder.name}(?:@[\d.]+)?:(\w[^\s'/]*=\S*)", page_of(folder)):
        for one in spec.strip("'").split(":"):
            key, _, value = one.partition("=")
            assert key in names, f"{spec}: '{key}' is no option"
            assert not re.search(r",\w+=", value), f"{spec}: options stand between colons"


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_page_is_clean_roff(page, tmp_path):
    for tool in ("pandoc", "mandoc"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    out = tmp_path / page.name[:-3]
    subprocess.run(["pandoc", "-s", "-t", "man", "-f", "markdown", page, "-o", out], check=True)
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "error", out], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    text = subprocess.run(["mandoc", "-T", "utf8", out], text=True, stdout=subprocess.PIPE, check=True).stdout
    assert "**" not in re.sub(".\b", "", text), "markup of the source is left"


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_pages_that_are_named_exist(page):
    ours = {f"altitude-{f.name}(7)" for f in FOLDERS} | {f"{p.name[:-5]}({p.name[-4]})" for p in PAGES if p.parent.name in ("cli", "setup", "docs")}
    for name, section in re.findall(r"\*\*((?:mount\.)?altitude[\w@.-]*)\*\*\((\d)\)", page.read_text()):
        assert f"{name}({section})" in ours


def test_the_main_page_lists_every_module():
    text = (ROOT / "cli/altitude.1.md").read_text()
    for folder in FOLDERS:
        if folder.parent.name != "examples":
            assert f"**altitude-{folder.name}**(7)" in text
