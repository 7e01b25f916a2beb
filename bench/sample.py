# SPDX-License-Identifier: MIT
"""The source tree that whole programs work on, as two archives: tree.tar, and repo.tar with the same under git."""
import os
import pathlib
import random
import shutil
import subprocess

# Nobody's configuration is to count; the dates are part of what git hashes.
GIT = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", GIT_AUTHOR_NAME="b",
           GIT_AUTHOR_EMAIL="b@localhost", GIT_COMMITTER_NAME="b", GIT_COMMITTER_EMAIL="b@localhost",
           GIT_AUTHOR_DATE="2000-01-01T00:00:00Z", GIT_COMMITTER_DATE="2000-01-01T00:00:00Z")


def grow(tree, files, seed=7):
    """Files of a source tree's sizes, twenty to a folder; one in fifty has the word that is looked for."""
    dice = random.Random(seed)
    words = [bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(500)]
    for n in range(files):
        folder = tree / f"part{n // 200:02d}" / f"unit{n // 20:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        size = min(int(dice.lognormvariate(8, 1.2)), 200_000)
        text = b"\n".join(b" ".join(dice.choices(words, k=9)) for _ in range(size // 60 + 1))
        (folder / f"file{n:05d}.c").write_bytes(text + (b"\nneedle\n" if n % 50 == 0 else b"\n"))
        if n % 100 == 0:
            (folder / "link").symlink_to(f"file{n:05d}.c")


def archives(data, files):
    """Make both below `data`, which is new."""
    data = pathlib.Path(data)
    grow(data / "tree", files)
    subprocess.run(["tar", "-C", data, "-cf", data / "tree.tar", "tree"], check=True)
    (data / "tree").rename(data / "repo")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", data / "repo", *command], env=GIT, check=True)
    (data / "repo" / "new").write_text("not known to git\n")
    (data / "repo" / "part00" / "unit000" / "file00000.c").write_text("changed\n")
    subprocess.run(["tar", "-C", data, "-cf", data / "repo.tar", "repo"], check=True)
    shutil.rmtree(data / "repo")
