# SPDX-License-Identifier: MIT
"""System calls that Python does not have, and work that another process or user does."""
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def checked(answer):
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def renameat2(old, new, flags):
    return checked(libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))


def fallocate(fd, mode, offset, length):
    return checked(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def link_open(fd, path):
    """A name for what is open, as one gives it to an O_TMPFILE."""
    checked(libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(path), 0x400))


def answer(call, *args):
    """What the call answers, or the name of its error."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def write_two(path, flags):
    """Open, write two bytes, close."""
    fd = os.open(path, flags, 0o644)
    try:
        return os.write(fd, b"zz")
    finally:
        os.close(fd)


def in_child(work):
    """Run work() in a child process; the errno it failed with, or 0."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            work()
        except OSError as error:
            code = error.errno
        except BaseException:
            code = 255
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become(uid, gid=None):
    os.setgroups([])
    os.setgid(uid if gid is None else gid)
    os.setuid(uid)


def as_user(uid, work, gid=None):
    """The same as uid."""
    def as_uid():
        become(uid, gid)
        work()

    return in_child(as_uid)
