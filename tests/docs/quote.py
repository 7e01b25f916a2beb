#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Put the sources that HACKING.md quotes into it again, after one of them has changed."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
page = ROOT / "HACKING.md"
page.write_text(re.sub(r"^```c (\S+)\n.*?^```$", lambda m: f"```c {m[1]}\n{(ROOT / m[1]).read_text()}```",
                       page.read_text(), flags=re.M | re.S))
