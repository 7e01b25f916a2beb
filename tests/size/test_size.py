# SPDX-License-Identifier: MIT
"""What an author must write stays small: code lines without comments and blank lines."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMITS = [
    ("filters/null/null.c", 15),
    ("examples/readonly/readonly.c", 40),
    ("examples/rot13/rot13.c", 60),
    ("examples/hello/hello.c", 60),
    ("filesystems/mem/mem.c", 300),
]
# Strings and characters first, so that what looks like a comment inside of them stays.
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|/\*.*?\*/|//[^\n]*', re.S)


def code_lines(text):
    text = TOKEN.sub(lambda m: m[0] if m[0][0] in "\"'" else "\n" * m[0].count("\n"), text)
    return sum(1 for line in text.splitlines() if line.strip())


def test_comments_and_blanks_do_not_count():
    assert code_lines('/* a\n b */\n\nint x; /* c */\n// d\nchar *s = "/* e */";\n') == 2


@pytest.mark.parametrize("path,limit", LIMITS)
def test_module_is_within_its_limit(path, limit):
    assert code_lines((ROOT / path).read_text()) <= limit
