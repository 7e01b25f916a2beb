# SPDX-License-Identifier: MIT
"""Programs that check themselves, on volumes without and with filters: fio, stress-ng, git, sqlite3, tar, rsync."""
import importlib.util
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys

import pytest

_spec = importlib.util.spec_from_file_location("integrity_compare", pathlib.Path(__file__).with_name("compare.py"))
compare = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compare)

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILTERS = ("null", "passthrough", "stats", "activity_monitor", "delay:op=read;write;lookup:ms=0",
           "content_screener:name=*.never:content=is never written", "rot13")
STACKS = {"dir": ("dir:",), "dir-filters": ("dir:", *FILTERS), "mem": ("mem:",), "mem-filters": ("mem:", *FILTERS)}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for owners and device nodes")


@pytest.fixture(params=STACKS)
def volume(mount, request):
    return mount(*STACKS[request.param])


def requires(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


def run(*args, **kw):
    """A program that must succeed; what it said on standard output."""
    done = subprocess.run([str(a) if isinstance(a, pathlib.Path) else a for a in args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **kw)
    assert done.returncode == 0, f"{args}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


# fio

JOBS = """
[global]
directory={directory}
size=8m
verify=crc32c
verify_fatal=1
randseed=1
allow_file_create=1
[random]
stonewall
rw=randwrite
bsrange=512-64k
blockalign=512
ioengine=psync
verify_backlog=100
[mixed]
stonewall
rw=randrw
bs=4k
ioengine=psync
[sequential]
stonewall
rw=write
bs=128k
ioengine=psync
[mapped]
stonewall
rw=randwrite
bs=4k
ioengine=mmap
[direct]
stonewall
rw=randwrite
bs=16k
direct=1
ioengine=libaio
iodepth=8
"""


def fio(volume, tmp_path, *flags):
    jobs = tmp_path / "jobs"
    jobs.write_text(JOBS.format(directory=volume.mnt))
    answer = json.loads(run("fio", "--output-format=json", *flags, jobs, cwd=tmp_path))
    assert [job["jobname"] for job in answer["jobs"]] == ["random", "mixed", "sequential", "mapped", "direct"]
    return answer["jobs"]


def test_fio_reads_what_it_wrote(volume, tmp_path):
    requires("fio")
    for job in fio(volume, tmp_path):
        assert job["error"] == 0 and job["write"]["io_bytes"] > 0
        assert job["read"]["io_bytes"] >= job["write"]["io_bytes"], f"{job['jobname']} was not verified"


@pytest.mark.parametrize("filters", [(), FILTERS], ids=["bare", "filters"])
def test_fio_reads_what_it_wrote_before_an_unmount(mount, tmp_path, filters):
    requires("fio")
    first = mount("dir:", *filters)
    fio(first, tmp_path, "--do_verify=0")
    assert first.unmount() == 0
    again = mount(f"dir:{first.tree}", *filters)
    for job in fio(again, tmp_path, "--verify_only"):
        assert job["error"] == 0 and job["read"]["io_bytes"] > 0


# git


def git(where, *args):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*", "-c", "gc.auto=0"]
    return run("git", *who, *args, cwd=where, env=dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", HOME="/nonexistent"))


@pytest.fixture
def repository(tmp_path):
    """A repository of the project's own sources: four commits, two branches."""
    requires("git")
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    for folder in ("include", "engine", "filters", "filesystems"):
        shutil.copytree(ROOT / folder, made / folder, ignore=shutil.ignore_patterns("__pycache__"))
        git(made, "add", "-A")
        git(made, "commit", "-q", "-m", folder)
    git(made, "branch", "old", "HEAD~2")
    return made


def test_git_clones_and_finds_nothing_wrong(volume, repository):
    clone = volume.mnt / "clone"
    git(volume.mnt, "clone", "-q", f"file://{repository}", clone)
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "rev-parse", "HEAD^{tree}") == git(repository, "rev-parse", "HEAD^{tree}")
    git(clone, "checkout", "-q", "origin/old")
    assert not (clone / "filesystems").exists()
    git(clone, "checkout", "-q", "-b", "work", "main")
    git(clone, "mv", "engine", "motor")
    git(clone, "commit", "-q", "-m", "moved")
    git(clone, "repack", "-q", "-a", "-d", "-f")
    git(clone, "prune-packed")
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "status", "--porcelain", "--ignored") == ""
    git(repository, "fetch", "-q", clone, "work:back")
    assert git(repository, "rev-parse", "back") == git(clone, "rev-parse", "work")
    git(repository, "fsck", "--full", "--strict")


# sqlite3: money is moved about, and its sum stays

WRITER = """
import random, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
rng = random.Random(1)
for n in range(int(sys.argv[2])):
    a, b, sum = rng.randrange(500), rng.randrange(500), rng.randrange(100)
    db.execute("begin immediate")
    db.execute("update account set has = has - ? where id = ?", (sum, a))
    db.execute("update account set has = has + ? where id = ?", (sum, b))
    db.execute("insert into log(text) values(?)", (rng.randbytes(rng.randrange(3000)),))
    db.execute("rollback" if n % 10 == 9 else "commit")
    if n % 100 == 99:
        db.execute("pragma wal_checkpoint(passive)")
"""


def test_sqlite_writes_and_reads_at_a_time(volume):
    requires("sqlite3")
    path, count = volume.mnt / "db", 400
    db = sqlite3.connect(path, timeout=60)
    assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    db.execute("create table account(id integer primary key, has integer)")
    db.execute("create table log(n integer primary key, text blob)")
    db.executemany("insert into account values(?, 1000)", [(n,) for n in range(500)])
    db.commit()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path, str(count)])
    try:
        seen = [0]
        while writer.poll() is None:
            total, rows, logged = db.execute("select sum(has), count(*), (select count(*) from log) from account").fetchone()
            assert (total, rows) == (500000, 500) and logged >= seen[-1]
            seen.append(logged)
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == 0
    assert len(set(seen)) > 3, "the reader saw nothing of the writing"
    db.close()
    assert run("sqlite3", path, "pragma integrity_check; pragma journal_mode; select count(*) from log;").split() == [
        "ok", "wal", str(count * 9 // 10)]


# tar and rsync

TAR = ["--format=posix", "--sparse", "--xattrs", "--xattrs-include=*", "--numeric-owner"]


def tar(source, target, archive, acls):
    flags = TAR + (["--acls"] if acls else [])
    target.mkdir()
    run("tar", *flags, "-C", source, "-cf", archive, ".")
    run("tar", *flags, "-C", target, "-xpf", archive)
    archive.unlink()


def rsync(source, target, archive, acls):
    target.mkdir()
    flags = ["-aHXS" + ("A" if acls else ""), "--numeric-ids"]
    run("rsync", *flags, f"{source}/", target)
    assert run("rsync", *flags, "--checksum", "--dry-run", "--itemize-changes", f"{source}/", target) == ""


@pytest.mark.parametrize("copy", [tar, rsync])
def test_a_tree_goes_in_and_comes_back(volume, tmp_path, copy):
    """Each attribute of each file: into the volume, and out of it again."""
    requires(copy.__name__)
    source, acls = tmp_path / "source", volume.tree is not None
    compare.make(source, acls)
    if copy is rsync:
        compare.make_more(source)
    want = compare.describe(source)
    copy(source, volume.mnt / "copy", volume.mnt / "archive", acls)
    found = compare.differences(want, compare.describe(volume.mnt / "copy"))
    assert not found, "\n".join(found)
    copy(volume.mnt / "copy", tmp_path / "back", tmp_path / "archive", acls)
    found = compare.differences(want, compare.describe(tmp_path / "back"))
    assert not found, "\n".join(found)


def test_the_comparison_sees_every_attribute(tmp_path):
    """Each change alone is a difference, and nothing else is one."""
    changes = {
        "content": lambda top: (top / "file3").write_bytes(b"x"),
        "mode": lambda top: os.chmod(top / "deep", 0o711),
        "uid": lambda top: os.lchown(top / "dangling", 1, -1),
        "gid": lambda top: os.chown(top / "fifo", -1, 1),
        "mtime": lambda top: os.utime(top / "null", ns=(0, os.stat(top / "null").st_mtime_ns + 1)),
        "xattrs": lambda top: os.setxattr(top / "file3", "user.text", b"valve"),
        "same as": lambda top: (os.unlink(top / "deep" / "hard2"), shutil.copy2(top / "file0", top / "deep" / "hard2")),
        "device": lambda top: (os.unlink(top / "disk"), os.mknod(top / "disk", 0o60640, os.makedev(259, 70001))),
        "target": lambda top: (os.unlink(top / "dangling"), os.symlink("elsewhere", top / "dangling")),
        "has holes": lambda top: (top / "sparse").write_bytes((top / "sparse").read_bytes()),
        "only in": lambda top: os.unlink(top / "file6"),
    }
    compare.make(tmp_path / "one")
    want = compare.describe(tmp_path / "one")
    for number, (key, change) in enumerate(changes.items()):
        top = tmp_path / f"two{number}"
        compare.make(top)
        assert compare.differences(want, compare.describe(top)) == []
        change(top)
        assert any(key in line for line in compare.differences(want, compare.describe(top))), key
        shutil.rmtree(top)


# stress-ng: {stressor: how many of its own operations, and options}. Left out is io, which syncs the whole machine;
# those that take long are for ALTITUDE_LONG=1.

STRESSORS = {
    "access": "10", "chdir": "20 --chdir-dirs 64", "chmod": "20", "chown": "50", "copy-file": "5 --copy-file-bytes 128m",
    "dentry": "200 --dentries 64", "dir": "100 --dir-dirs 64",
    "dirmany": "100", "dup": "20", "fallocate": "2 --fallocate-bytes 4m", "fcntl": "500", "filename": "10", "flock": "500",
    "fsize": "5", "fstat": "200", "getdent": "200", "hdd": "200 --hdd-bytes 4m", "iomix": "20 --iomix-bytes 4m",
    "lease": "100", "locka": "200", "lockofd": "200", "mknod": "50", "mmap": "1 --mmap-file --mmap-bytes 256k",
    "open": "200", "rename": "200", "seek": "500 --seek-size 4m", "sync-file": "5 --sync-file-bytes 4m",
    "touch": "100", "utime": "200", "xattr": "3",
}
if os.environ.get("ALTITUDE_LONG"):
    STRESSORS |= {"fpunch": "2", "link": "5", "lockf": "20", "symlink": "5"}


def stress(volume, answer, name, rest):
    """What is wrong with one stressor's work, or None."""
    count, *options = rest.split()
    done = subprocess.run(["stress-ng", "--temp-path", volume.mnt, "--verify", "--seed", "1", "--metrics-brief", "--yaml", answer,
                           f"--{name}", "1", f"--{name}-ops", count, *options], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    worked = [line for line in answer.read_text().splitlines() if "bogo-ops:" in line and not line.endswith(" 0")]
    if done.returncode == 0 and worked and "skipping stressor" not in done.stdout:
        return None
    return f"{name}: exit {done.returncode}, {worked}\n{done.stdout[-2000:]}"


@pytest.mark.parametrize("stack", ["dir", "dir-filters"])
def test_stress_ng_verifies(mount, tmp_path, stack):
    requires("stress-ng")
    volume = mount(*STACKS[stack])
    wrong = [stress(volume, tmp_path / "answer", name, rest) for name, rest in STRESSORS.items()]
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert os.listdir(volume.mnt) == []
