# SPDX-License-Identifier: MIT
"""Figures out of samples: ratios within a round, then their median and quartiles over the rounds."""


def quantile(values, q):
    """Between two neighbours on a straight line; values in any order."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    at = (len(ordered) - 1) * q
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


class Figure:
    """Median and quartiles of some values."""

    def __init__(self, values):
        self.count = len(values)
        self.low, self.median, self.high = (quantile(values, q) for q in (0.25, 0.5, 0.75))

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g} of {self.count})"


def rate(sample):
    return sample["work"] / sample["seconds"]


def good(samples):
    return [s for s in samples if "failed" not in s]


def ratios(samples, row, contender, base="native"):
    """Speed against that of the base in the same round; rounds where one of them failed have none."""
    mine, its = ({s["round"]: rate(s) for s in good(samples) if s["row"] == row and s["contender"] == who}
                 for who in (contender, base))
    return [mine[n] / its[n] for n in sorted(mine) if n in its]


def summary(samples, rows, contenders, base="native"):
    """(row, contender) -> Figure of its ratios; what was never measured is not there."""
    found = {}
    for row in rows:
        for contender in contenders:
            values = ratios(samples, row, contender, base)
            if values:
                found[row, contender] = Figure(values)
    return found


def disagreements(samples, base="native"):
    """Samples that saw or left something else than the base did in the same round and row."""
    truth = {(s["round"], s["row"]): (s["seen"], s["left"]) for s in good(samples) if s["contender"] == base}
    return [s for s in good(samples)
            if truth.get((s["round"], s["row"]), (s["seen"], s["left"])) != (s["seen"], s["left"])]
