# SPDX-License-Identifier: MIT
"""Every #include of the tree, and every name that one folder of the engine takes from another, against docs/floors.txt."""
import fnmatch
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)
PARTS = ["include", "engine", "components", "filters", "filesystems", "blockdevs", "cli", "monitor", "bindings", "examples"]
# Where the build lets each kind of file look, besides the file's own folder.
PATHS = ["include", "engine", "components", "."]


class Plan:
    def __init__(self, text):
        self.floors, self.only, self.never, self.known = [], [], [], []
        for line in text.splitlines():
            words = line.split("#")[0].split()
            if not words:
                continue
            rule, words = words[0], words[1:]
            if rule == "floor":
                self.floors += [(pattern, int(words[0])) for pattern in words[1:]]
            elif rule == "only":
                self.only.append((words[0], words[1:]))
            elif rule == "never":
                self.never.append(tuple(words))
            elif rule == "except":
                self.known.append(tuple(words))
            else:
                raise ValueError(f"docs/floors.txt: '{rule}' is no rule")

    def floor(self, folder):
        """Floor of a folder, None for one that is on none."""
        for pattern, floor in self.floors:
            if fits(folder, pattern):
                return floor
        return None

    def breach(self, source, target):
        """Why a file in folder source may not include one in folder target; None when it may."""
        if source == target:
            return None
        for a, b in self.never:
            if fits(source, a) and fits(target, b):
                return f"{a} never sees {b}"
        for a, seen in self.only:
            if fits(source, a) and not any(fits(target, b) for b in seen):
                return f"{a} sees only {' '.join(seen)}"
        mine, its = self.floor(source), self.floor(target)
        if mine is None:
            return None
        if its is None:
            return f"{target} stands on no floor"
        return None if its < mine else f"floor {mine} does not see floor {its}"


def fits(folder, pattern):
    return fnmatch.fnmatchcase(folder, pattern)


def folder_of(path):
    """filters/quota of filters/quota/ledger.h; cli of cli/main.c; deeper folders belong to their part."""
    parts = path.parts[:-1]
    return "/".join(parts[:2] if parts and parts[0] not in ("cli", "monitor") else parts[:1])


def resolve(source, kind, name):
    """The file of the tree an #include means, None for a header of the system."""
    places = ([source.parent] if kind == '"' else []) + [pathlib.Path(p) for p in PATHS]
    for place in places:
        path = place / name
        if (ROOT / path).is_file():
            return pathlib.Path(*[part for part in path.parts if part != "."])
    return None


def arrows():
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.[ch]")):
            source = path.relative_to(ROOT)
            for kind, name in INCLUDE.findall(path.read_text()):
                yield source, kind, name, resolve(source, kind, name)


def names():
    """Who uses what: (folder, name, folder that defines it), as the engine's objects were linked."""
    defined, used = {}, []
    build = pathlib.Path(os.environ.get("ALTITUDE_BUILD", ROOT / "build"))
    for path in sorted(build.glob("libaltitude.so*.p/*.o")):
        folder = "engine/" + re.search(r"(?:^|_)engine_([a-z]+)_", path.name)[1]
        for line in subprocess.run(["nm", path], check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines():
            kind, name = line.split()[-2:]
            if kind == "U":
                used.append((folder, name))
            elif kind.isupper():
                defined[name] = folder
    return [(folder, name, defined[name]) for folder, name in used if name in defined]


PLAN = Plan((ROOT / "docs/floors.txt").read_text())


def test_each_include_goes_down_or_stays():
    wrong = []
    for source, _, name, target in arrows():
        if target and (str(source), name) not in PLAN.known:
            why = PLAN.breach(folder_of(source), folder_of(target))
            if why:
                wrong.append(f"{source} includes {name}: {why}")
    assert not wrong, "\n".join(wrong)


def test_each_include_in_quotes_is_a_file_of_the_tree_and_none_climbs():
    wrong = [f"{source}: {name}" for source, kind, name, target in arrows()
             if ".." in name.split("/") or (kind == '"' and target is None)]
    assert not wrong, "\n".join(wrong)


def test_each_name_is_taken_from_below_or_at_home():
    known = {(folder_of(pathlib.Path(source)), folder_of(resolve(pathlib.Path(source), '"', name))) for source, name in PLAN.known}
    taken = names()
    assert any(source != target for source, _, target in taken)
    wrong = [f"{source} takes {name} from {target}: {PLAN.breach(source, target)}" for source, name, target in taken
             if PLAN.breach(source, target) and (source, target) not in known]
    assert not wrong, "\n".join(wrong)


def test_known_breaches_are_still_breaches():
    seen = {(str(source), name) for source, _, name, target in arrows()
            if target and PLAN.breach(folder_of(source), folder_of(target))}
    assert set(PLAN.known) <= seen, "docs/floors.txt excepts what is mended"


def test_each_folder_with_sources_stands_on_a_floor():
    missing = {folder_of(source) for source, *_ in arrows() if PLAN.floor(folder_of(source)) is None}
    assert not missing


def test_each_folder_of_the_engine_opens_with_what_it_owns():
    for folder in sorted({folder_of(source) for source, *_ in arrows()}):
        if folder.startswith("engine/"):
            heads = [path.read_text()[:600] for path in (ROOT / folder).glob("*.h")]
            assert any(all(f" * {word}" in head for word in ("owns ", "never ", "hands to ")) for head in heads), folder


@pytest.mark.parametrize("source,target,allowed", [
    ("filters/null", "include/altitude", True),
    ("filters/null", "engine/io", False),
    ("filters/null", "filters/trace", False),
    ("filters/null", "filesystems/dir", False),
    ("examples/hello", "cli", False),
    ("engine/io", "engine/wire", True),
    ("engine/wire", "engine/base", False),
    ("engine/wire", "engine/io", False),
    ("engine/io", "engine/module", False),
    ("engine/stack", "engine/session", False),
    ("engine/session", "engine/stack", True),
    ("engine/io", "filesystems/mem", False),
    ("include/altitude", "engine/base", False),
    ("cli", "engine/control", True),
    ("cli", "filters/null", False),
])
def test_the_rules_say_what_the_plan_of_the_house_says(source, target, allowed):
    assert (PLAN.breach(source, target) is None) == allowed


def test_modules_and_examples_read_the_public_headers_alone():
    for path in sorted(ROOT.glob("filters/*/*.c")) + sorted(ROOT.glob("filesystems/*/*.c")) + sorted(ROOT.glob("examples/*/*.c")):
        if path.name.startswith("test_"):
            continue
        done = subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-MM", "-MG", "-I", ROOT / "include", path],
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        allowed = (str(ROOT / "include"), str(path.parent))
        for used in done.stdout.replace("\\\n", " ").split(":", 1)[1].split():
            if "/" in used or (path.parent / used).exists(): # else a library's header that is not installed
                assert used.startswith(allowed), f"{path} reads {used}"


def test_a_public_header_compiles_alone(tmp_path):
    for path in sorted(ROOT.glob("include/altitude/*.h")):
        (tmp_path / "one.c").write_text(f"#include <altitude/{path.name}>\n")
        subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", ROOT / "include", tmp_path / "one.c"], check=True)
