# SPDX-License-Identifier: MIT
"""A table of figures as a picture: a line for each row, a mark for each contender, native at 1. Plain SVG."""
import math
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP, LINE, FOOT = 150, 40, 100, 44, 70
WIDTH = 1060
COLOURS = ["#1f5fa8", "#3aa0d8", "#7a4fb5", "#17877a", "#c2571a", "#8a8a1f", "#b03060", "#555555"]
SHAPES = ["circle", "square", "diamond", "triangle"]
INK, FAINT, PAPER = "#222222", "#d5d5d5", "#ffffff"


class Axis:
    """Ratios on a logarithmic scale, which begins at a round one at or below the smallest."""

    def __init__(self, values):
        positive = [v for v in values if v > 0] or [1]
        least = min(positive + [0.1])
        power = 10 ** math.floor(math.log10(least))
        self.low = max(power * m for m in (1, 2, 5) if power * m <= least * 1.0001)
        self.high = max(2, max(positive) * 1.15)

    def x(self, value):
        value = min(max(value, self.low), self.high)
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def ticks(self):
        found = []
        power = 10 ** math.floor(math.log10(self.low * 1.0001))
        while power <= self.high:
            found += [power * m for m in (1, 2, 5) if self.low * 0.999 <= power * m <= self.high]
            power *= 10
        return found


def text(x, y, words, size=13, anchor="start", colour=INK, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def line(x1, y1, x2, y2, colour=FAINT, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dashes}/>')


def mark(x, y, number):
    colour, shape, r = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)], 4.5
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{colour}"/>'
    corners = {"square": [(-1, -1), (1, -1), (1, 1), (-1, 1)], "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
               "triangle": [(0, -1.2), (1.2, 1), (-1.2, 1)]}[shape]
    points = " ".join(f"{x + dx * r * 0.9:.1f},{y + dy * r * 0.9:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def grid(axis, bottom):
    out = []
    for value in axis.ticks():
        x = axis.x(value)
        out += [line(x, TOP, x, bottom, INK if value == 1 else FAINT, 1.5 if value == 1 else 1),
                text(x, bottom + 18, f"{value:g}", 12, "middle"), text(x, TOP - 8, f"{value:g}", 12, "middle")]
    return out


def legend(contenders, y):
    out, x = [], LEFT
    for number, name in enumerate(contenders):
        if x + 40 + 8 * len(name) > WIDTH - RIGHT:
            x, y = LEFT, y + 20
        out += [mark(x, y - 4, number), text(x + 10, y, name)]
        x += 34 + 8 * len(name)
    out += [line(x, y - 10, x, y + 2, INK, 2.5), text(x + 8, y, "goal")]
    return out


def row_of(name, y, contenders, figures, goal, axis):
    out = [text(LEFT - 12, y + LINE / 2 + 4, name, 14, "end")]
    if goal:
        out.append(line(axis.x(goal), y + 3, axis.x(goal), y + LINE - 3, INK, 2.5))
    step = (LINE - 12) / max(len(contenders) - 1, 1)
    first = y + 6 if len(contenders) > 1 else y + LINE / 2
    for number, contender in enumerate(contenders):
        figure = figures.get((name, contender))
        if figure:
            at = first + number * step
            out += [line(axis.x(figure.low), at, axis.x(figure.high), at, COLOURS[number % len(COLOURS)], 2),
                    mark(axis.x(figure.median), at, number)]
    return out


def svg(title, notes, rows, contenders, figures, goals):
    """figures: (row, contender) -> something with low, median and high; goals: row -> ratio."""
    axis = Axis([v for f in figures.values() for v in (f.low, f.high)] + [goals[r] for r in rows if r in goals])
    bottom = TOP + LINE * len(rows)
    height = bottom + FOOT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" font-family="DejaVu Sans, Arial, sans-serif">',
           f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
           text(LEFT, 28, title, 18, weight="bold")]
    out += legend(contenders, 54)
    for n, row in enumerate(rows):
        y = TOP + n * LINE
        if n % 2 == 0:
            out.append(f'<rect x="10" y="{y}" width="{WIDTH - 20}" height="{LINE}" fill="#f5f6f8"/>')
    out += grid(axis, bottom)
    for n, row in enumerate(rows):
        out += row_of(row, TOP + n * LINE, contenders, figures, goals.get(row), axis)
    out += [text(LEFT, bottom + 40, "speed against native: 1 is as fast, 0.1 ten times slower; marks are medians, bars the "
                 "middle half of the rounds", 12),
            text(LEFT, bottom + 58, notes, 12), "</svg>"]
    return "\n".join(out) + "\n"
