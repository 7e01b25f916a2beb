# SPDX-License-Identifier: MIT
"""What the documents quote, name and promise: sources, links, folders, modules, commands and their output."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = {"build", ".git", ".cache", "__pycache__", ".pytest_cache"}
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)


def documents():
    for path in sorted(ROOT.rglob("*.md")):
        if not SKIPPED & set(path.relative_to(ROOT).parts):
            yield path


def ident(path):
    return str(path.relative_to(ROOT))


def blocks(name, info):
    """Bodies of the fenced blocks of a document whose info string matches."""
    return [(m[2], m[3]) for m in FENCE.finditer((ROOT / name).read_text()) if re.fullmatch(info, m[2])]


# ---- links ----

@pytest.mark.parametrize("path", documents(), ids=ident)
def test_relative_links_lead_to_files(path):
    text = FENCE.sub("", path.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://|mailto:|#", link):
            continue
        assert (path.parent / link.split("#")[0]).exists(), f"{ident(path)} links to {link}"


# ---- quotes ----

def test_sources_in_hacking_are_the_files():
    quoted = blocks("HACKING.md", r"c \S+")
    assert [info.split()[1] for info, _ in quoted] == ["filters/null/null.c", "examples/rot13/rot13.c", "examples/hello/hello.c"]
    for info, body in quoted:
        assert body == (ROOT / info.split()[1]).read_text(), f"HACKING.md quotes another {info.split()[1]}: run tests/docs/quote.py"


# ---- the picture and the tables of the README ----

def folders():
    """Folders that hold something: those at the top, of the engine one by one."""
    found = set()
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and len(parts) > 1 and not SKIPPED & set(parts) and not parts[0].startswith("."):
            found.add("/".join(parts[:2]) if parts[0] in ("engine", "include") and len(parts) > 2 else parts[0])
    return found


def test_the_picture_of_the_house_shows_what_ls_shows():
    picture = FENCE.search((ROOT / "README.md").read_text())[3]
    shown = set(re.findall(r"(?<![\w/])((?:engine|include)/\w+|[a-z]+(?=/(?![\w])))", picture))
    assert shown == folders()
    for script in ("try", "check", "run"):
        assert script in picture.split() and (ROOT / script).exists()


def test_the_picture_has_the_floors_of_floors_txt():
    picture = FENCE.search((ROOT / "README.md").read_text())[3]
    floors = {}
    for line in (ROOT / "docs/floors.txt").read_text().splitlines():
        if line.startswith("floor "):
            for pattern in line.split("#")[0].split()[2:]:
                floors[pattern.split("/*")[0]] = line.split()[1]
    floor = None
    for line in picture.splitlines():
        floor = (re.match(r" +(\d) ", line) or [None, floor])[1]
        for folder in re.findall(r"(?<![\w/])(engine/\w+|(?:cli|examples|filters|filesystems)(?=/))", line):
            assert floors[folder] == floor, f"README.md shows {folder} on floor {floor}"


def test_the_tables_name_every_module_there_is():
    text = (ROOT / "README.md").read_text()
    linked = set(re.findall(r"^\| \[\w+\]\((\S+?)/\w+\.7\.md\) \|", text, re.M))
    there = {ident(path.parent) for kind in ("filters", "filesystems", "blockdevs", "examples") for path in ROOT.glob(f"{kind}/*/*.c")}
    assert linked == there
    for name, altitude in re.findall(r"^\| \[(\w+)\]\(\S+\) \| ([\d.]+) \|", text, re.M):
        source = next(ROOT.glob(f"*/{name}/{name}.c")).read_text()
        assert f'.altitude = "{altitude}"' in source


# ---- commands ----

@pytest.fixture
def world(altitude, tmp_path):
    """An environment with an altitude command in it, and the end of every volume that is left."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not open to this user")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "altitude").symlink_to(altitude.__globals__["CLI"])
    env = dict(altitude.__globals__["ENV"], PATH=f"{bin_}:{os.environ['PATH']}", LC_ALL="C.UTF-8", TMPDIR=str(tmp_path),
               ALTITUDE_RUNTIME=str(tmp_path / "runtime"))
    yield env
    with open("/proc/self/mountinfo") as mounts:
        left = [line.split()[4] for line in mounts if str(tmp_path) in line.split()[4]]
    for point in reversed(left):
        subprocess.run(["umount", "-l", point] if os.geteuid() == 0 else ["fusermount3", "-uz", point])
    assert not left


def plain(text):
    """Numbers that differ from day to day become #, the width of columns goes."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [re.sub(r"^\d\d:\d\d:\d\d\.\d+ (\S+) \d+ \d+ (\S+ \S+ \S+) \d+$", r"TIME \1 # # \2 #", line) for line in lines]


def test_the_session_in_the_readme_is_real(world, tmp_path, altitude):
    if not (altitude.__globals__["BUILD"] / "modules/content_screener.so").exists():
        pytest.skip("content_screener is not built: libmagic is missing")
    (_, session), = blocks("README.md", "console")
    here = tmp_path / "tmp"
    here.mkdir()
    steps = re.split(r"^\$ ", session, flags=re.M)[1:]
    for step in steps:
        command, _, shown = step.partition("\n")
        done = subprocess.run(["bash", "-c", command], cwd=here, env=world, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert plain(done.stdout.replace(str(here), "/tmp")) == plain(shown), command


def test_the_commands_in_hacking_work(world, tmp_path):
    for tool in ("meson", "ninja", "cc", "pkg-config"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=lambda folder, names: SKIPPED & set(names))
    script = "set -e -o pipefail\n" + "\n".join(body for _, body in blocks("HACKING.md", "sh run"))
    env = {key: value for key, value in world.items() if not key.startswith(("ALTITUDE_", "LD_LIBRARY_PATH"))}
    env["ALTITUDE_RUNTIME"] = world["ALTITUDE_RUNTIME"]
    os.chmod(tmp_path, 0o755)
    done = subprocess.run(["bash", "-x", "-c", script], cwd=tree, env=env, text=True, timeout=600,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "1 passed" in done.stdout and "Hello from my own drive." in done.stdout
    assert not subprocess.run(["pgrep", "-f", str(tree)], stdout=subprocess.PIPE).stdout, "a server is left"


def test_the_two_commands_of_the_readme_explain_themselves():
    done = subprocess.run([ROOT / "try", "--help"], text=True, stdout=subprocess.PIPE, check=True)
    assert "./try" in done.stdout
    done = subprocess.run([ROOT / "try", "--nonsense"], text=True, stderr=subprocess.PIPE)
    assert done.returncode == 2 and "'--nonsense' is not an option" in done.stderr
    assert subprocess.run(["bash", "-n", ROOT / "check"]).returncode == 0
