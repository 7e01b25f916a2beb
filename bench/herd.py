# SPDX-License-Identifier: MIT
"""How many threads serve best, and whether far too many cost anything: a machine with many CPUs, played on this one."""
import os
import statistics
import time

import contenders

SIZES = (1, 2, 4, 16)
SECONDS = 0.5


def dressed(threads):
    """Nothing is remembered, so that each stat is a request."""
    return contenders.altitude(f"{threads} threads", "", "-o", f"threads={threads},ttl_ms=0")


def rate(path, seconds):
    """Stats of one file a second."""
    count, begun = 0, time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        for _ in range(100):
            os.stat(path)
        count += 100
    return count / took


def measure(place, rounds, seconds=SECONDS, say=lambda line: None):
    """Rates of each size, a list for each round; every round runs each size once, in an order turned by one."""
    below, mnt = place / "below", place / "mnt"
    below.mkdir()
    mnt.mkdir()
    (below / "file").write_text("x")
    rates = {threads: [] for threads in SIZES}
    for number in range(rounds):
        for threads in SIZES[number % len(SIZES):] + SIZES[:number % len(SIZES)]:
            with contenders.Mounted(dressed(threads), below, mnt) as seen:
                rate(f"{seen}/file", seconds / 2)
                rates[threads].append(rate(f"{seen}/file", seconds))
        say(f"round {number + 1} of {rounds}")
    return rates


def report(rates):
    """A line for each size: the median, and its share of the best size in the same round."""
    lines = ["threads   stats a second   of the best of its round"]
    best = [max(each) for each in zip(*rates.values())]
    for threads, mine in rates.items():
        shares = [rate / most for rate, most in zip(mine, best)]
        lines.append(f"{threads:7}   {statistics.median(mine):14.0f}   {statistics.median(shares):.2f}")
    return lines
