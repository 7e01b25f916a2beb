# SPDX-License-Identifier: MIT
"""usage: ./run bench [OPTION]... [ROW]...
       ./run bench pair [BATCHES [OPERATIONS]]
       ./run bench memory [NAMES]
       ./run bench herd [ROUNDS]

Compares altitude with the bare directory and with other mirrors, row by row. Every round runs each contender once, in an
order that is turned by one each time, so that a slow moment of the machine hits all alike. Speeds are divided by native's
of the same round; the table has their median over the rounds, and half the distance of their quartiles. What a contender
saw and what it left behind must be what native saw and left.

  -q, --quick             small sizes and two rounds: does it run, not how fast
  -r, --rounds N          5
  -p, --place PLACE       tmpfs (the default), disk, or a directory
  -c, --contender NAME    only this one, and native; may be given many times
  -b, --busy              with a busy process on every CPU beside it
  -o, --out DIR           where table.txt, plot.svg and raw.json go (build/bench)
  -l, --list              rows and contenders
  -h, --help              this text

'pair' measures, in the stack alone, what filters cost an operation. 'memory' measures what a name costs the server.
'herd' compares numbers of threads that serve, up to many more than there are CPUs.
"""
import getopt
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import contenders
import herd
import memory
import plot
import sample
import stats
import table

ROWS_PROGRAM = contenders.BUILD / "bench-rows"
FULL = {"mib": 256, "files": 5000, "folders": 10, "least": 0.3, "tree": 1500}
QUICK = {"mib": 4, "files": 60, "folders": 3, "least": 0.01, "tree": 40}
STEP_SECONDS = 300       # after which a row is given up


class Usage(Exception):
    pass


class Row:
    def __init__(self, line):
        self.name, self.unit, self.who, self.what = line.split("\t")

    def missing(self):
        """Why it cannot be run, or None."""
        if self.who == "root" and os.geteuid() != 0:
            return "dropping the kernel's caches needs root"
        return "git is not installed" if self.name.startswith("git") and not shutil.which("git") else None


def all_rows():
    if not ROWS_PROGRAM.exists():
        raise Usage(f"{ROWS_PROGRAM} is not built")
    text = subprocess.run([ROWS_PROGRAM, "list"], text=True, stdout=subprocess.PIPE, check=True).stdout
    return [Row(line) for line in text.splitlines()]


def place_of(name):
    """The directory a place means."""
    if name == "tmpfs":
        if not os.access("/dev/shm", os.W_OK) or kind_of("/dev/shm") != "tmpfs":
            raise Usage("/dev/shm is no tmpfs of ours; name a directory with --place")
        return pathlib.Path("/dev/shm")
    if name == "disk":
        if kind_of("/var/tmp") == "tmpfs":
            raise Usage("/var/tmp is in memory; name a directory on a disk with --place")
        return pathlib.Path("/var/tmp")
    if not os.path.isdir(name):
        raise Usage(f"--place {name}: neither 'tmpfs' nor 'disk' nor a directory")
    return pathlib.Path(name).resolve()


def kind_of(path):
    """The type of file system that holds a path; where several are mounted over one another, the last is the one seen."""
    found = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", path], text=True, stdout=subprocess.PIPE).stdout.split()
    return found[-1] if found else "unknown"


def step(what, row, where, sizes, data):
    """One run of the program: its answer. What it complains of is why the row failed."""
    words = [f"{key}={value}" for key, value in sizes.items() if key != "tree"]
    try:
        done = subprocess.run([ROWS_PROGRAM, what, row.name, where, f"data={data}", *words], env=sample.GIT, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=STEP_SECONDS)
    except subprocess.TimeoutExpired:
        raise contenders.Failed(f"not over after {STEP_SECONDS} s")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise contenders.Failed(f"{what}: {said[-1] if said else f'exit {done.returncode}'}")
    return json.loads(done.stdout or "{}")


def one(row, contender, place, sizes):
    """Prepare, measure and check: a sample."""
    below, mnt = place / "below", place / "mnt"
    below.mkdir()
    mnt.mkdir(exist_ok=True)
    found = {"row": row.name, "contender": contender.name, "load": os.getloadavg()[0]}
    try:
        step("prepare", row, below, sizes, place)
        with contenders.Mounted(contender, below, mnt) as seen:
            found.update(step("measure", row, seen, sizes, place))
        found.update(step("check", row, below, sizes, place))
    except contenders.Failed as why:
        found["failed"] = str(why).replace(str(place), "...")
    finally:
        if not contenders.mounted(mnt):
            shutil.rmtree(below)
    return found


def rounds(count, rows, runners, place, sizes, say):
    """All samples. A row goes through all contenders before the next one begins: what is compared is near in time."""
    samples = []
    for number in range(count):
        turn = number % len(runners)
        start = time.monotonic()
        for row in rows:
            say(f"round {number + 1} of {count}: {row.name}")
            for runner in runners[turn:] + runners[:turn]:
                samples.append(dict(one(row, runner, place, sizes), round=number))
        say("")
        print(f"round {number + 1} of {count}: {time.monotonic() - start:.0f} s, load {os.getloadavg()[0]:.1f}",
              file=sys.stderr, flush=True)
    return samples


def say(words):
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


def fail_those_who_disagree(samples):
    """An answer that is not native's is no answer: it has no speed."""
    for wrong in stats.disagreements(samples):
        wrong["failed"] = f"saw {wrong['seen']} and left {wrong['left']}, native did not"


def notes_of(samples, left_out):
    """What has no figure, and why; each reason once, with its rows."""
    rows = {}
    for s in samples:
        if "failed" in s:
            rows.setdefault((s["contender"], s["failed"]), []).append(s["row"])
    return ([f"not run: {what}: {why}" for what, why in left_out.items()]
            + [f"{who} fails {', '.join(sorted(set(where)))} ({len(where)} times): {why}"
               for (who, why), where in rows.items()])


def choose(options, wanted):
    """Rows, contenders, and what is left out with the reason."""
    known, left_out = all_rows(), dict(contenders.NEVER)
    for name in wanted:
        if name not in [row.name for row in known]:
            raise Usage(f"there is no row '{name}'; --list shows them")
    for name in options["contenders"]:
        if name not in [c.name for c in contenders.ALL]:
            raise Usage(f"there is no contender '{name}'; --list shows them")
    if options["contenders"]:
        left_out = {}
    chosen = [r for r in known if not wanted or r.name in wanted]
    runners = [c for c in contenders.ALL if not options["contenders"] or c.name in ["native", *options["contenders"]]]
    for thing in [*chosen, *runners]:
        why = thing.missing()
        if why:
            left_out[thing.name] = why
    return ([r for r in chosen if r.name not in left_out], [c for c in runners if c.name not in left_out], left_out)


def machine():
    return {"kernel": platform.release(), "cpus": os.cpu_count(), "load": os.getloadavg(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def compare(options, wanted):
    rows, runners, left_out = choose(options, wanted)
    if not rows:
        raise Usage("; ".join(f"{what}: {why}" for what, why in left_out.items()))
    base, sizes = place_of(options["place"]), QUICK if options["quick"] else FULL
    count = options["rounds"] or (2 if options["quick"] else 5)
    about = {"machine": machine(), "place": str(base), "filesystem": kind_of(base), "sizes": sizes, "rounds": count,
             "busy": options["busy"], "contenders": {c.name: c.what for c in runners}, "not run": left_out}
    place = pathlib.Path(tempfile.mkdtemp(prefix="altitude-bench-", dir=base))
    hogs = []
    try:
        for _ in range(os.cpu_count() if options["busy"] else 0):
            hogs.append(subprocess.Popen([ROWS_PROGRAM, "hog"]))
        sample.archives(place, sizes["tree"])
        samples = rounds(count, rows, runners, place, sizes, say)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
        if contenders.mounted(place / "mnt"):
            print(f"{place}/mnt is still mounted", file=sys.stderr)
        else:
            shutil.rmtree(place, ignore_errors=True)
    fail_those_who_disagree(samples)
    return tell(options["out"], about, samples, rows, runners, left_out)


def tell(out, about, samples, rows, runners, left_out):
    """Print the table, write the three files; 1 when altitude failed anywhere."""
    names, who = [r.name for r in rows], [c.name for c in runners]
    figures = stats.summary(samples, names, who)
    title = f"{about['filesystem']} at {about['place']}, {about['rounds']} rounds{', busy' if about['busy'] else ''}"
    lines = [f"Speed against native, {title}; Linux {about['machine']['kernel']}, {about['machine']['cpus']} CPUs", ""]
    lines += table.lines(samples, names, {r.name: r.unit for r in rows}, who, figures)
    below = table.below_goal(names, figures)
    lines += ["", f"below the goal: {', '.join(below) if below else 'none'}", *notes_of(samples, left_out)]
    print("\n".join(lines))
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.txt").write_text("\n".join(lines) + "\n")
    (out / "raw.json").write_text(json.dumps(dict(about, samples=samples), indent=1) + "\n")
    (out / "plot.svg").write_text(plot.svg(
        "Altitude and others against the bare directory", f"{title}; Linux {about['machine']['kernel']}, "
        f"{about['machine']['cpus']} CPUs", names, [name for name in who if name != "native"], figures, table.GOALS))
    print(f"written: {out}/table.txt, plot.svg, raw.json")
    return int(any("failed" in s and s["contender"].startswith(("altitude", "native")) for s in samples))


def show():
    for row in all_rows():
        print(f"{row.name:15} {row.what} ({row.unit})")
    print()
    for contender in contenders.ALL:
        print(f"{contender.name:15} {contender.what}")
    return 0


def run_pair(args):
    program = contenders.BUILD / "bench-pair"
    if not program.exists():
        raise Usage("bench-pair is not built: cmocka is missing (Debian package libcmocka-dev)")
    return subprocess.run([program, *args], env=contenders.ENV).returncode


def run_on_tmpfs(what, args, fallback, measure):
    if len(args) > 1 or not all(a.isdigit() and int(a) for a in args):
        raise Usage(what)
    place = pathlib.Path(tempfile.mkdtemp(prefix="altitude-bench-", dir=place_of("tmpfs")))
    try:
        print("\n".join(measure(place, int(args[0]) if args else fallback)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


def run_memory(args):
    return run_on_tmpfs("memory takes one number, of names", args, 100_000,
                        lambda place, names: memory.report(names, memory.measure(place, names)))


def run_herd(args):
    return run_on_tmpfs("herd takes one number, of rounds", args, 7,
                        lambda place, rounds: herd.report(herd.measure(place, rounds, say=say)))


def parse(argv):
    options = {"quick": False, "rounds": 0, "place": "tmpfs", "contenders": [], "busy": False,
               "out": contenders.BUILD / "bench"}
    try:
        found, wanted = getopt.gnu_getopt(argv, "qr:p:c:bo:lh", ["quick", "rounds=", "place=", "contender=", "busy", "out=",
                                                               "list", "help"])
    except getopt.GetoptError as error:
        raise Usage(str(error))
    for key, value in found:
        key = {"-q": "--quick", "-r": "--rounds", "-p": "--place", "-c": "--contender", "-b": "--busy", "-o": "--out",
               "-l": "--list", "-h": "--help"}.get(key, key)[2:]
        if key in ("list", "help"):
            return key, []
        if key == "contender":
            options["contenders"].append(value)
        elif key == "rounds":
            if not value.isdigit() or value == "0":
                raise Usage(f"--rounds {value}: not a number above 0")
            options["rounds"] = int(value)
        elif key == "out":
            options["out"] = pathlib.Path(value)
        else:
            options[key] = value or True
    return options, wanted


def main(argv):
    try:
        if argv[:1] == ["pair"]:
            return run_pair(argv[1:])
        if argv[:1] == ["memory"]:
            return run_memory(argv[1:])
        if argv[:1] == ["herd"]:
            return run_herd(argv[1:])
        options, wanted = parse(argv)
        if options == "help":
            print(__doc__.strip())
            return 0
        return show() if options == "list" else compare(options, wanted)
    except Usage as why:
        print(f"./run bench: {why}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # on the way out everything is unmounted
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
