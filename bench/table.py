# SPDX-License-Identifier: MIT
"""The figures as text, and what they are held against."""
import stats

# Speed against native on tmpfs that the contender "altitude" is to reach.
GOALS = {
    "seq-read": 0.9, "seq-write": 0.9, "rand-read": 0.8, "rand-write": 0.8, "direct-read": 0.85, "direct-write": 0.6,
    "create": 0.15, "stat-first": 0.2, "stat-warm": 0.9, "stat-cold": 0.12, "open-close": 0.06, "list-warm": 1.2,
    "rename": 0.15, "unlink": 0.15, "chmod": 0.15, "untar": 0.25, "rm-rf": 0.25, "find-cold": 0.2, "grep-cold": 0.2,
}


def short(value):
    """Three digits that count: 1.24M, 37.1k, 0.093."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def absolute(samples, row, unit):
    """What native does, in the row's unit."""
    rates = [stats.rate(s) for s in stats.good(samples) if s["row"] == row and s["contender"] == "native"]
    if not rates:
        return "-"
    middle = stats.quantile(rates, 0.5)
    return f"{short(1000 / middle if unit == 'ms' else middle)} {unit}"


def cell(figure, failed):
    if figure is None:
        return "fails" if failed else "-"
    ratio = f"{figure.median:.2f}" if figure.median >= 0.1 else f"{figure.median:.3f}"
    return f"{ratio} ±{(figure.high - figure.low) / 2:.2f}"


def lines(samples, rows, units, contenders, figures):
    """Columns: the row, native in units, then each contender's ratio and half the distance of its quartiles."""
    others = [c for c in contenders if c != "native"]
    failed = {(s["row"], s["contender"]) for s in samples if "failed" in s}
    grid = [["row", "native", "goal", *others]]
    for row in rows:
        grid.append([row, absolute(samples, row, units[row]), f"{GOALS[row]:g}" if row in GOALS else "",
                     *(cell(figures.get((row, c)), (row, c) in failed) for c in others)])
    widths = [max(len(line[n]) for line in grid) for n in range(len(grid[0]))]
    return ["  ".join(word.ljust(width) if n == 0 else word.rjust(width)
                      for n, (word, width) in enumerate(zip(line, widths))) for line in grid]


def below_goal(rows, figures, contender="altitude"):
    return [row for row in rows if row in GOALS and (row, contender) in figures
            and figures[row, contender].median < GOALS[row]]
