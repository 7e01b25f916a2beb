# SPDX-License-Identifier: MIT
"""A tree with everything a Linux file system can hold, and a comparison of two trees that looks at every attribute."""
import hashlib
import os
import random
import socket
import stat
import subprocess

SPARSE = 8 << 20


def make(top, acls=True):
    """Fill a directory; the same each time."""
    rng = random.Random(7)
    os.makedirs(top / "deep" / "er" / "still")
    for number in range(40):
        directory = [top, top / "deep", top / "deep" / "er"][number % 3]
        data = rng.randbytes(rng.choice([0, 1, 511, 4096, 4097, 70000, 300000]))
        (directory / f"file{number}").write_bytes(data)
        os.chown(directory / f"file{number}", rng.choice([0, 12001, 4294967290]), rng.choice([0, 12002]))
        os.chmod(directory / f"file{number}", rng.choice([0o644, 0o600, 0, 0o4755, 0o2755, 0o6711, 0o1666]))
    with open(top / "sparse", "wb") as f:
        for at in (0, 1 << 20, SPARSE // 2):
            os.pwrite(f.fileno(), rng.randbytes(4096), at)
        os.ftruncate(f.fileno(), SPARSE)
    for number in range(3):
        os.link(top / "file0", top / "deep" / f"hard{number}")
    os.symlink("../file0", top / "deep" / "link")
    os.symlink("nowhere/" + "x" * 200, top / "dangling")
    os.lchown(top / "dangling", 12001, 12002)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o640, os.makedev(259, 70000))
    os.mkfifo(top / "fifo", 0o620)
    (top / ("n" * 255)).write_text("long")
    with open(os.path.join(os.fsencode(top), b"odd \xff\n\t'\"\\"), "wb") as f:
        f.write(b"odd")
    os.mkdir(top / "sticky")
    os.chmod(top / "sticky", 0o3777)
    os.setxattr(top / "file3", "user.text", b"value")
    os.setxattr(top / "file3", "user.bytes", bytes(range(256)))
    os.setxattr(top / "deep", "user.directory", b"d")
    os.setxattr(top / "file6", "trusted.secret", b"t")
    os.setxattr(top / "file9", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    if acls:
        subprocess.run(["setfacl", "-m", "u:12003:r,g:12004:rw,m:rwx", top / "file12"], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:12003:rwx,g:12004:r", top / "deep" / "er"], check=True)
    _set_times(top, rng)


def make_more(top):
    """What tar does not keep: a socket, and two names of one fifo."""
    os.link(top / "fifo", top / "deep" / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(top, os.O_PATH)
        s.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    os.utime(top / "socket", ns=(1, 1_234_567_890_123_456_789))
    for directory in (top, top / "deep"):
        os.utime(directory, ns=(5, 1_600_000_000_000_000_001))


def _set_times(top, rng):
    for directory, names, files in os.walk(os.fsencode(top), topdown=False):
        for name in sorted(names + files):
            when = rng.randrange(-2_000_000_000_000_000_000, 4_000_000_000_000_000_000)
            os.utime(os.path.join(directory, name), ns=(rng.randrange(10**18), when), follow_symlinks=False)
    os.utime(top, ns=(5, 1_600_000_000_000_000_001))


def _xattrs(path):
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
            if name != "security.selinux"}


def _one(path):
    s = os.lstat(path)
    told = {"mode": oct(s.st_mode), "uid": s.st_uid, "gid": s.st_gid, "mtime": s.st_mtime_ns, "xattrs": _xattrs(path)}
    if not stat.S_ISDIR(s.st_mode):
        told["links"] = s.st_nlink
    if stat.S_ISBLK(s.st_mode) or stat.S_ISCHR(s.st_mode):
        told["device"] = (os.major(s.st_rdev), os.minor(s.st_rdev))
    if stat.S_ISLNK(s.st_mode):
        told["target"] = os.readlink(path)
    if stat.S_ISREG(s.st_mode):
        with open(path, "rb") as f:
            told["content"] = hashlib.sha256(f.read()).hexdigest()
        told["size"] = s.st_size
        told["has holes"] = s.st_size >= SPARSE and s.st_blocks * 512 < s.st_size // 2
    return told, (s.st_dev, s.st_ino)


def describe(top):
    """{path: {attribute: value}}; hard links are told by the first of their names."""
    top = os.fsencode(top)
    out, first = {}, {}
    for directory, names, files in os.walk(top):
        names.sort()
        for name in [b"."] * (directory == top) + sorted(names + files):
            path = os.path.join(directory, name)
            told, inode = _one(path)
            told["same as"] = first.setdefault(inode, os.path.relpath(path, top)) if told.get("links", 1) > 1 else None
            out[os.path.relpath(path, top)] = told
    return out


def differences(one, two):
    """What differs between two described trees, each ready to be read."""
    out = []
    for path in sorted(set(one) | set(two)):
        if path not in one or path not in two:
            out.append(f"{path!r} is only in the {'second' if path in two else 'first'}")
            continue
        for key in sorted(set(one[path]) | set(two[path])):
            a, b = one[path].get(key), two[path].get(key)
            if a != b:
                out.append(f"{path!r}: {key} is {a!r} in the first, {b!r} in the second")
    return out
