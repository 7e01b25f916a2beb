# SPDX-License-Identifier: MIT
"""A generated list of system calls, and how to run it in a directory as any user.

The same seed gives the same list. Each call answers what a program would see: a value or an errno.
"""
import errno
import os
import pickle
import random
import stat
import sys
import traceback

NAMES = ["a", "b", "c", "d", "dir", "dir/a", "dir/b", "dir/sub", "dir/sub/a", "sym", "loop", "priv", "priv/a",
         "shared", "shared/a", "missing/a", "a/b", "x" * 255, "y" * 256, ".", "..", "dir/..", "dir/", "a/"]
MODES = [0o644, 0o600, 0o000, 0o755, 0o700, 0o4755, 0o2755, 0o1777, 0o2775, 0o666, 0o777]
FLAGS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
         os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDONLY | os.O_DIRECTORY,
         os.O_RDONLY | os.O_NOFOLLOW, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_APPEND]
USERS = [(0, 0), (12001, 12001), (12002, 12002, 12001)]     # uid, gid, further groups


def generate(seed, blocks, length):
    """[(user, [call...])...]; a call is (verb, arguments...)."""
    rng = random.Random(seed)

    def name():
        return rng.choice(NAMES)

    def own():
        """The directory above is that of both."""
        return rng.choice([n for n in NAMES if n != ".."])

    makers = {
        "open": lambda: (name(), rng.choice(FLAGS), rng.choice(MODES)),
        "close": lambda: (rng.randrange(4),),
        "pread": lambda: (rng.randrange(4), rng.choice([0, 1, 10, 5000]), rng.choice([0, 3, 4096, 1 << 20])),
        "pwrite": lambda: (rng.randrange(4), rng.choice([0, 1, 7, 4097]), rng.choice([0, 3, 4096, 70000])),
        "ftruncate": lambda: (rng.randrange(4), rng.choice([0, 1, 5000, 100000, -1])),
        "fstat": lambda: (rng.randrange(4),),
        "fchmod": lambda: (rng.randrange(4), rng.choice(MODES)),
        "stat": lambda: (name(),),
        "lstat": lambda: (name(),),
        "mkdir": lambda: (name(), rng.choice(MODES)),
        "rmdir": lambda: (name(),),
        "unlink": lambda: (name(),),
        "rename": lambda: (name(), name()),
        "link": lambda: (name(), name()),
        "symlink": lambda: (rng.choice(["a", "dir", "loop", "/proc/nowhere", "missing", "z" * 300]), name()),
        "readlink": lambda: (name(),),
        "chmod": lambda: (own(), rng.choice(MODES)),
        "chown": lambda: (own(), rng.choice([-1, 0, 12001, 12002]), rng.choice([-1, 0, 12001, 12002])),
        "truncate": lambda: (name(), rng.choice([0, 1, 4096, 123456, -1])),
        "utime": lambda: (own(), rng.choice([None, (1000000007, 5)])),
        "access": lambda: (name(), rng.choice([os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK])),
        "listdir": lambda: (name(),),
        "mkfifo": lambda: (name(), rng.choice(MODES)),
        "umask": lambda: (rng.choice([0, 0o022, 0o077]),),
    }
    verbs = list(makers)
    weights = [5 if v in ("open", "pwrite", "stat", "mkdir", "rename") else 2 for v in verbs]
    prepare = [("mkdir", "dir", 0o755), ("mkdir", "dir/sub", 0o777), ("mkdir", "priv", 0o700),
               ("mkdir", "shared", 0o1777), ("symlink", "a", "sym"), ("symlink", "loop", "loop"),
               ("open", "a", os.O_RDWR | os.O_CREAT, 0o666), ("chmod", ".", 0o1777)]
    out = [(USERS[0], prepare)]
    for number in range(blocks):
        calls = []
        for _ in range(length):
            verb = rng.choices(verbs, weights)[0]
            calls.append((verb, *makers[verb]()))
        out.append((USERS[number % len(USERS)], calls))
    return out


def _attributes(s):
    plain = stat.S_ISREG(s.st_mode) or stat.S_ISLNK(s.st_mode)
    return (oct(s.st_mode), s.st_uid, s.st_gid, s.st_size if plain else None,
            s.st_nlink if not stat.S_ISDIR(s.st_mode) else None)


class Process:
    """What one process may hold: open files."""

    def __init__(self):
        self.fds = []

    def fd(self, index):
        return self.fds[index] if index < len(self.fds) else -1

    def run(self, verb, *args):
        if verb == "open":
            fd = os.open(args[0], args[1] | os.O_NONBLOCK, args[2])
            self.fds.append(fd)
            return "open"
        if verb == "close":
            if args[0] >= len(self.fds):
                return "none"
            os.close(self.fds.pop(args[0]))
            return "closed"
        if verb == "pread":
            return os.pread(self.fd(args[0]), args[1], args[2])
        if verb == "pwrite":
            return os.pwrite(self.fd(args[0]), bytes(i % 251 for i in range(args[1])), args[2])
        if verb in ("ftruncate", "fchmod", "posix_fallocate"):
            return getattr(os, verb)(self.fd(args[0]), *args[1:])
        if verb == "copy_file_range":
            return os.copy_file_range(self.fd(args[0]), self.fd(args[1]), *args[2:])
        if verb == "fstat":
            return _attributes(os.fstat(self.fd(args[0])))
        if verb in ("stat", "lstat"):
            return _attributes(getattr(os, verb)(args[0]))
        if verb == "utime":
            if args[1] is None:
                return os.utime(args[0])
            os.utime(args[0], ns=args[1])
            return os.stat(args[0]).st_mtime_ns
        if verb == "listdir":
            return sorted(os.listdir(args[0]))
        if verb == "umask":
            os.umask(args[0])
            return None
        return getattr(os, verb)(*args)


def run_block(directory, user, calls):
    """Run calls in a process of its own, as user, in directory; the list of answers."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.close(r)
            os.chdir(directory)
            os.umask(0o022)
            if user[0] != os.geteuid():
                os.setgroups(user[2:])
                os.setgid(user[1])
                os.setuid(user[0])
            process, answers = Process(), []
            for call in calls:
                try:
                    answers.append(process.run(*call))
                except OSError as error:
                    answers.append(errno.errorcode.get(error.errno, error.errno))
            with os.fdopen(w, "wb") as out:
                pickle.dump(answers, out)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)
    os.close(w)
    with os.fdopen(r, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the calling process ended with {status}"
    return pickle.loads(data)


def compare(native, tried, blocks):
    """Run every block in both places; the list of differences, each ready to be read."""
    differences = []
    for number, (user, calls) in enumerate(blocks):
        want = run_block(native, user, calls)
        have = run_block(tried, user, calls)
        for place, (call, a, b) in enumerate(zip(calls, want, have)):
            if a != b:
                shown = tuple(f"{x[:12]}...({len(x)})" if isinstance(x, str) and len(x) > 40 else x for x in call)
                differences.append(f"block {number} call {place} uid {user[0]}: {shown}: "
                                   f"native {str(a)[:200]}, here {str(b)[:200]}")
        if len(differences) > 20:
            break
    return differences
