# SPDX-License-Identifier: MIT
"""Who runs: the directory itself, altitude in several dresses, and other mirrors of directories."""
import contextlib
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("ALTITUDE_BUILD", ROOT / "build"))
ENV = dict(os.environ, ALTITUDE_MODULE_PATH=str(BUILD / "modules"), ALTITUDE_REGISTRY=str(BUILD / "modules"),
           LD_LIBRARY_PATH=str(BUILD))
EXAMPLES = pathlib.Path("/usr/share/doc/libfuse3-dev/examples")
DAY_MS = 86_400_000
RING_SWITCH = pathlib.Path("/sys/module/fuse/parameters/enable_uring")


class Failed(Exception):
    """Why something was not measured."""


class Contender:
    """A way to see the directory `below` at another place; command is None for the directory itself."""

    def __init__(self, name, what, command=None, missing=None):
        self.name, self.what, self.command = name, what, command
        self.missing = missing or (lambda: None)


def altitude(name, what, *options, missing=None):
    def command(below, mnt):
        return [str(BUILD / "altitude"), "mount", "--foreground", *options, f"dir:{below}", str(mnt)]
    return Contender(name, what, command, missing)


def no_ring():
    if not RING_SWITCH.exists():
        return "this kernel has no fuse-over-io_uring (Linux 6.14)"
    return None if RING_SWITCH.read_text().startswith("Y") else f"the kernel's switch is off (echo Y >{RING_SWITCH})"


def idle_filters(count):
    return [word for n in range(count) for word in ("--filter", f"null@370020.{n + 1:02d}")]


def no_bindfs():
    return None if shutil.which("bindfs") else "bindfs is not installed (Debian package bindfs)"


def build_example(name):
    """Compile one of libfuse's examples into the build directory; why not, or None."""
    source, made = EXAMPLES / f"{name}.c", BUILD / "bench-peers" / name
    if not source.exists():
        return f"{source} is not there (Debian package libfuse3-dev)"
    if made.exists() and made.stat().st_mtime >= source.stat().st_mtime:
        return None
    made.parent.mkdir(parents=True, exist_ok=True)
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], text=True, stdout=subprocess.PIPE)
    done = subprocess.run(["cc", "-O2", "-w", f"-I{EXAMPLES}", str(source), *flags.stdout.split(), "-o", str(made)],
                          text=True, stderr=subprocess.PIPE)
    return None if done.returncode == 0 else f"{name} does not compile: {done.stderr.strip().splitlines()[-1]}"


def passthrough_ll(below, mnt):
    return [str(BUILD / "bench-peers" / "passthrough_ll"), "-f", "-o",
            f"source={below},cache=always,timeout=86400,writeback,clone_fd", str(mnt)]


ALL = [
    Contender("native", "the directory itself"),
    altitude("altitude", "dir, no filter"),
    altitude("altitude-ttl", "dir, no filter, the kernel may remember for a day (-o ttl_ms)", "-o", f"ttl_ms={DAY_MS}"),
    altitude("altitude-ring", "dir, no filter, requests by io_uring (-o transport=uring)", "-o", "transport=uring", missing=no_ring),
    altitude("altitude-noopen", "dir, no filter, files are opened without a request (-o open=no)", "-o", "open=no"),
    altitude("altitude-10", "dir, ten filters without callbacks", *idle_filters(10)),
    altitude("altitude-pair", "dir, one filter with a pre and a post for everything", "--filter", "passthrough"),
    Contender("bindfs", "bindfs as it comes", lambda below, mnt: ["bindfs", "-f", str(below), str(mnt)], no_bindfs),
    Contender("libfuse-ll", "libfuse's passthrough_ll: cache=always, a day of timeouts, writeback, clone_fd",
              passthrough_ll, lambda: build_example("passthrough_ll")),
]
# What a reader may look for in vain.
NEVER = {"libfuse-hp": "passthrough_hp's source (passthrough_hp.cc) is not among the examples of the Debian package"}


def mounted(path):
    wanted = str(path).replace(" ", "\\040")
    with open("/proc/self/mountinfo") as info:
        return any(line.split()[4] == wanted for line in info)


@contextlib.contextmanager
def steady():
    """What would end the run waits until the block is over: no server is started or stopped by half."""
    came = []
    before = {number: signal.signal(number, lambda it, _: came.append(it)) for number in [signal.SIGINT, signal.SIGTERM]}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


class Mounted:
    """with Mounted(contender, below, mnt) as place: its server runs, and is gone afterwards."""

    def __init__(self, contender, below, mnt):
        self.contender, self.below, self.mnt, self.server = contender, pathlib.Path(below), pathlib.Path(mnt), None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:       # who is interrupted here leaves no mount either
            self.__exit__()
            raise

    def start(self):
        if self.contender.command is None:
            return self.below
        with open("/proc/self/mountinfo") as info:
            changed = select.poll()
            changed.register(info, select.POLLPRI | select.POLLERR)
            info.read()
            self.log = open(f"{self.mnt}.log", "w+")
            with steady():
                self.server = subprocess.Popen(self.contender.command(self.below, self.mnt), env=ENV,
                                               stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            deadline = time.monotonic() + 30
            while not mounted(self.mnt):
                if self.server.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{self.contender.name} did not mount: {self.said()}")
                changed.poll(50)
                info.seek(0)
                info.read()
        return self.mnt

    def said(self):
        self.log.seek(0)
        return " ".join(self.log.read().split())[:300] or "without a word"

    def stop(self):
        """Unmount, and wait for the server; a mount that stays busy is taken away all the same."""
        if not mounted(self.mnt):
            self.server.terminate()
        unmount = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        for _ in range(50):
            if not mounted(self.mnt):
                break
            if subprocess.run([*unmount, str(self.mnt)], stderr=subprocess.DEVNULL).returncode:
                time.sleep(0.1)
        else:
            subprocess.run([*unmount, "-l" if unmount[0] == "umount" else "-z", str(self.mnt)])
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def __exit__(self, *_):
        if not self.server:
            return
        with steady():
            self.stop()
            self.log.close()
