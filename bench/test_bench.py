# SPDX-License-Identifier: MIT
"""The arithmetic, the picture, and that the whole runs: it measures, it finds out a contender that lies, it leaves nothing."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as tree

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench                                                                    # noqa: E402
import contenders                                                               # noqa: E402
import herd                                                                     # noqa: E402
import memory                                                                   # noqa: E402
import plot                                                                     # noqa: E402
import sample as sources                                                        # noqa: E402
import stats                                                                    # noqa: E402
import table                                                                    # noqa: E402


def measured(round_, contender, seconds, work=100, row="stat", seen="s", left="l"):
    return {"round": round_, "row": row, "contender": contender, "seconds": seconds, "work": work, "seen": seen, "left": left}


# ---- statistics ----

@pytest.mark.parametrize("values,q,expected", [
    ([5], 0.25, 5), ([1, 2], 0.5, 1.5), ([3, 1, 2], 0.5, 2), ([4, 1, 3, 2], 0.25, 1.75), ([4, 1, 3, 2], 0.75, 3.25),
    ([1, 2, 3, 4, 5], 0, 1), ([1, 2, 3, 4, 5], 1, 5)])
def test_a_quantile_lies_between_its_neighbours(values, q, expected):
    assert stats.quantile(values, q) == pytest.approx(expected)


def test_no_values_have_no_quantile():
    with pytest.raises(ValueError):
        stats.quantile([], 0.5)


def test_a_ratio_is_taken_within_its_round():
    """The machine is three times slower in round 1, for both: over all rounds the ratio is the same."""
    samples = [measured(0, "native", 1), measured(0, "x", 2), measured(1, "x", 6), measured(1, "native", 3)]
    assert stats.ratios(samples, "stat", "x") == [0.5, 0.5]


def test_more_work_in_the_same_time_is_faster():
    assert stats.ratios([measured(0, "native", 1, work=100), measured(0, "x", 1, work=300)], "stat", "x") == [3]


def test_a_round_without_a_partner_has_no_ratio():
    samples = [measured(0, "x", 1), dict(measured(1, "native", 1), failed="no"), measured(1, "x", 1),
               measured(2, "native", 1), measured(2, "x", 4), measured(2, "x", 1, row="other")]
    assert stats.ratios(samples, "stat", "x") == [0.25]
    assert ("stat", "y") not in stats.summary(samples, ["stat"], ["x", "y"])


def test_a_summary_has_median_and_quartiles():
    samples = [measured(n, "native", 1) for n in range(5)] + [measured(n, "x", n + 1) for n in range(5)]
    figure = stats.summary(samples, ["stat"], ["x"])["stat", "x"]
    assert (figure.count, figure.low, figure.median, figure.high) == (5, 0.25, pytest.approx(1 / 3), 0.5)


@pytest.mark.parametrize("key", ["seen", "left"])
def test_who_saw_or_left_something_else_disagrees(key):
    samples = [measured(0, "native", 1), measured(0, "good", 1), dict(measured(0, "liar", 1), **{key: "other"}),
               measured(1, "native", 1, seen="t"), measured(1, "liar", 1, seen="t")]
    assert stats.disagreements(samples) == [samples[2]]


# ---- the table ----

@pytest.mark.parametrize("value,text", [(0.0931, "0.0931"), (999.4, "999"), (999.6, "1k"), (1234, "1.23k"), (37149, "37.1k"),
                                        (1.5e6, "1.5M")])
def test_numbers_are_short(value, text):
    assert table.short(value) == text


def test_the_table_shows_ratios_failures_and_what_is_below_its_goal():
    samples = [measured(0, "native", 0.002, work=1, row="untar"), measured(0, "altitude", 0.01, work=1, row="untar"),
               dict(row="untar", contender="bindfs", round=0, failed="why")]
    figures = stats.summary(samples, ["untar"], ["native", "altitude", "bindfs"])
    lines = table.lines(samples, ["untar"], {"untar": "ms"}, ["native", "altitude", "bindfs"], figures)
    assert lines[1].split() == ["untar", "2", "ms", "0.25", "0.20", "±0.00", "fails"]
    assert table.below_goal(["untar"], figures) == ["untar"]


def test_every_goal_is_that_of_a_row(built):
    assert set(table.GOALS) <= {row.name for row in bench.all_rows()}


# ---- the picture ----

SVG = "{http://www.w3.org/2000/svg}"


def figure(low, median, high):
    made = stats.Figure([median])
    made.low, made.high = low, high
    return made


def test_the_axis_is_logarithmic_and_holds_every_value():
    axis = plot.Axis([0.013, 1.7])
    assert axis.low == pytest.approx(0.01) and axis.high == 2
    assert axis.x(0.1) - axis.x(0.01) == pytest.approx(axis.x(1) - axis.x(0.1))
    assert axis.x(axis.low) == plot.LEFT and axis.x(axis.high) == plot.WIDTH - plot.RIGHT
    assert [round(t, 9) for t in axis.ticks()] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]


def test_the_picture_has_a_mark_and_a_bar_where_the_figure_is():
    figures = {("stat", "x"): figure(0.1, 0.2, 0.4), ("list", "x"): figure(1, 1, 1)}
    text = plot.svg("A < B & C", "note", ["stat", "list", "none"], ["x", "y"], figures, {"stat": 0.3})
    root = tree.fromstring(text)
    words = [t.text for t in root.iter(f"{SVG}text")]
    for wanted in ("A < B & C", "note", "stat", "list", "none", "x", "y", "goal", "0.1", "1"):
        assert wanted in words
    axis = plot.Axis([0.1, 0.4, 1, 0.3])
    marks = [float(c.get("cx")) for c in root.iter(f"{SVG}circle")]
    assert marks[1:] == [pytest.approx(axis.x(0.2), abs=0.1), pytest.approx(axis.x(1), abs=0.1)]   # the first is the legend's
    bars = [(float(li.get("x1")), float(li.get("x2"))) for li in root.iter(f"{SVG}line") if li.get("stroke") == plot.COLOURS[0]]
    assert bars[0] == (pytest.approx(axis.x(0.1), abs=0.1), pytest.approx(axis.x(0.4), abs=0.1))
    goals = [li for li in root.iter(f"{SVG}line") if li.get("stroke-width") == "2.5" and float(li.get("y1")) > plot.TOP]
    assert [float(g.get("x1")) for g in goals] == [pytest.approx(axis.x(0.3), abs=0.1)]


def test_nothing_of_the_picture_lies_outside_of_it():
    names = [f"contender-number-{n}" for n in range(8)]
    figures = {("row", name): figure(0.0001, 0.5, 400) for name in names}
    root = tree.fromstring(plot.svg("t", "n", ["row"], names, figures, {}))
    width, height = float(root.get("width")), float(root.get("height"))
    for thing in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            assert 0 <= float(thing.get(key, 0)) <= width
        for key in ("y", "y1", "y2", "cy"):
            assert 0 <= float(thing.get(key, 0)) <= height


# ---- the programs ----

@pytest.fixture
def built():
    if not bench.ROWS_PROGRAM.exists():
        pytest.skip("bench-rows is not built")
    return bench.ROWS_PROGRAM


@pytest.fixture
def fuse(built):
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs root and /dev/fuse")


def run(*args, **env):
    return subprocess.run([sys.executable, HERE / "bench.py", *map(str, args)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=300, env=dict(os.environ, **env))


def rows_step(program, what, row, where, *words):
    return subprocess.run([program, what, row, where, "mib=1", "files=20", "folders=2", "least=0", *words], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def test_the_help_names_every_option_and_wrong_ones_are_refused():
    text = run("--help").stdout
    for word in ("--quick", "--rounds", "--place", "--contender", "--busy", "--out", "--list", "pair", "memory", "herd"):
        assert word in text
    for wrong, said in ((["--nonsense"], "nonsense"), (["no-such-row"], "no row 'no-such-row'"),
                        (["--contender", "nobody"], "no contender 'nobody'"), (["--place", "/no/such"], "--place /no/such: "),
                        (["--rounds", "0"], "--rounds 0: "), (["memory", "few"], "memory takes one number"), (["herd", "0"], "herd takes one number")):
        done = run(*wrong)
        assert done.returncode == 2
        assert done.stderr.startswith("./run bench: ") and said in done.stderr


def test_the_kind_of_a_place_is_that_of_the_topmost_mount(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        for kind in ("tmpfs", "ramfs"):
            subprocess.run(["mount", "-t", kind, "none", tmp_path], check=True)
        assert bench.kind_of(tmp_path) == "ramfs"
    finally:
        while subprocess.run(["umount", tmp_path], stderr=subprocess.DEVNULL).returncode == 0:
            pass


def test_a_block_that_is_not_where_it_belongs_is_found_while_it_is_read(built, tmp_path):
    assert rows_step(built, "prepare", "rand-read", tmp_path).returncode == 0
    assert rows_step(built, "measure", "rand-read", tmp_path).returncode == 0
    with open(tmp_path / "data", "r+b") as data:
        data.seek(77 * 4096)
        data.write(b"\1")
    for row in ("seq-read", "rand-read"):
        done = rows_step(built, "measure", row, tmp_path)
        assert done.returncode == 1 and "block 77 reads as block 1:" in done.stderr


def test_a_write_that_does_not_arrive_is_found_afterwards(built, tmp_path):
    rows_step(built, "prepare", "seq-write", tmp_path)
    before = rows_step(built, "check", "seq-write", tmp_path).stdout
    assert rows_step(built, "measure", "seq-write", tmp_path).returncode == 0
    assert rows_step(built, "check", "seq-write", tmp_path).stdout != before


@pytest.mark.parametrize("change", [
    lambda f: f.chmod(0o600), lambda f: f.write_text("x"), lambda f: f.rename(f.parent / "other"), lambda f: f.unlink(),
    lambda f: (f.parent / "more").write_text("")], ids=["mode", "content", "name", "gone", "more"])
def test_the_digest_of_a_tree_tells_every_difference(built, tmp_path, change):
    rows_step(built, "prepare", "stat-first", tmp_path)
    before = rows_step(built, "check", "stat-first", tmp_path).stdout
    assert before == rows_step(built, "check", "stat-first", tmp_path).stdout != ""
    change(tmp_path / "folder01" / "file000003")
    assert rows_step(built, "check", "stat-first", tmp_path).stdout != before


def test_archives_are_the_same_each_time(tmp_path):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    listings = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        sources.archives(tmp_path / name, 45)
        for archive in ("tree.tar", "repo.tar"):
            subprocess.run(["tar", "-C", tmp_path / name, "-xf", tmp_path / name / archive], check=True)
        status = subprocess.run(["git", "-C", tmp_path / name / "repo", "status", "--porcelain"], env=sources.GIT, text=True,
                                stdout=subprocess.PIPE, check=True).stdout
        assert sorted(status.splitlines()) == [" M part00/unit000/file00000.c", "?? new"]
        listings.append({p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name / "tree").rglob("*.c")})
    assert listings[0] == listings[1] and len(listings[0]) == 45
    assert any(b"needle" in text for text in listings[0].values())


# ---- end to end ----

def test_two_rows_from_end_to_end(fuse, tmp_path):
    place, out = tmp_path / "place", tmp_path / "out"
    place.mkdir()
    done = run("--quick", "--place", place, "--out", out, "-c", "altitude", "-c", "altitude-10", "rename", "seq-read")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^rename +\S+ op/s +0\.15 +[\d.]+ ±[\d.]+ +[\d.]+ ±[\d.]+$", done.stdout, re.M)
    assert done.stdout.startswith((out / "table.txt").read_text())
    raw = json.loads((out / "raw.json").read_text())
    order = [(s["round"], s["contender"]) for s in raw["samples"] if s["row"] == "rename"]
    assert order == [(0, "native"), (0, "altitude"), (0, "altitude-10"), (1, "altitude"), (1, "altitude-10"), (1, "native")]
    assert {s["row"] for s in raw["samples"]} == {"rename", "seq-read"}
    assert len({s["left"] for s in raw["samples"] if s["row"] == "rename"}) == 1
    assert tree.parse(out / "plot.svg").getroot().tag == f"{SVG}svg"
    assert list(place.iterdir()) == []
    assert str(place) not in pathlib.Path("/proc/self/mountinfo").read_text()


def left_of(mark):
    """Command lines of the processes that were started with a variable."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes())
        except OSError:
            pass
    return found


def until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not after {seconds} s: {what}"
        time.sleep(0.02)


@pytest.mark.parametrize("later", [0, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("deadly", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_process_and_no_mount(fuse, tmp_path, deadly, later):
    """Wherever it is: while a contender is mounted and busy processes run, while one is unmounted."""
    mark = f"BENCH_TEST={os.getpid()}.{deadly}"
    place = tmp_path / "place"
    place.mkdir()
    running = subprocess.Popen([sys.executable, HERE / "bench.py", "--quick", "--rounds", "9999", "--busy", "--place", place,
                                "-c", "altitude", "stat-warm"],
                               env=dict(os.environ, BENCH_TEST=mark.split("=")[1]), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        until("a contender is mounted", lambda: str(place) in pathlib.Path("/proc/self/mountinfo").read_text())
        assert sum(b"hog" in line for line in left_of(mark)) == os.cpu_count()
        time.sleep(later)
    finally:
        running.send_signal(deadly)
        running.wait(60)
    until("the last one is gone", lambda: not left_of(mark), 20)
    assert str(place) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert list(place.iterdir()) == []


def test_a_contender_that_shows_something_else_has_no_speed(fuse, tmp_path, monkeypatch, capsys):
    """One that serves a directory of its own, with a file more."""
    def elsewhere(below, mnt):
        other = tmp_path / f"other{len(list(tmp_path.glob('other*')))}"
        shutil.copytree(below, other)
        (other / "folder00" / "more").write_text("")
        return [str(contenders.BUILD / "altitude"), "mount", "--foreground", f"dir:{other}", str(mnt)]

    dead = contenders.Contender("dead", "does not mount", lambda below, mnt: ["false"])
    absent = contenders.Contender("absent", "is not there", lambda below, mnt: ["true"], lambda: "nobody made it")
    monkeypatch.setattr(contenders, "ALL", [contenders.ALL[0], contenders.Contender("liar", "lies", elsewhere), dead, absent])
    place = tmp_path / "place"
    place.mkdir()
    assert bench.main(["--quick", "--rounds", "1", "--place", str(place), "--out", str(tmp_path / "out"), "list-first"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^list-first +\S+ op/s +fails +fails$", said, re.M)
    assert re.search(r"^liar fails list-first \(1 times\): saw \w+ and left \w+, native did not$", said, re.M)
    assert "dead fails list-first (1 times): dead did not mount: without a word" in said
    assert "not run: absent: nobody made it" in said
    assert list(place.iterdir()) == []


def test_every_row_runs_on_the_directory_itself(built, tmp_path):
    sources.archives(tmp_path, 25)
    names = [row.name for row in bench.all_rows()]
    assert len(names) == len(set(names)) == 22
    for row in bench.all_rows():
        if row.missing() or row.who == "root":
            continue
        found = bench.one(row, contenders.ALL[0], tmp_path, bench.QUICK)
        if row.name.startswith("direct") and "O_DIRECT" in found.get("failed", ""):
            continue
        assert "failed" not in found, found
        assert found["seconds"] > 0 and found["work"] > 0


def test_the_cost_of_a_pair_is_told_for_each_operation(built):
    if not (contenders.BUILD / "bench-pair").exists():
        pytest.skip("bench-pair is not built: cmocka is missing")
    done = run("pair", 3, 200)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+) +nothing", done.stdout, re.M) == ["getattr", "lookup", "read", "write"]
    assert len(re.findall(r"^ +1 pair +\+ +-?[\d.]+ ns", done.stdout, re.M)) == 4


def test_sizes_of_the_herd_are_compared_within_a_round(fuse, tmp_path):
    rates = herd.measure(tmp_path, 1, seconds=0.05)
    assert set(rates) == {1, 2, 4, 16} and all(len(mine) == 1 and mine[0] > 0 for mine in rates.values())
    assert herd.report({1: [10, 40], 2: [20, 20]})[1:] == ["      1               25   0.75", "      2               20   0.75"]


def test_memory_of_names_is_told_and_comes_back(fuse, tmp_path):
    sizes = memory.measure(tmp_path, 20_000)
    grown = sizes["full"] - sizes["empty"]
    assert 20_000 * 50 < grown < 20_000 * 1000
    assert sizes["forgotten"] - sizes["empty"] < grown * 2 / 3
    assert f"{grown / 20_000:.0f} for each" in "\n".join(memory.report(20_000, sizes))
