# SPDX-License-Identifier: MIT
"""Builds test_kit.c with the public headers alone, as an author would, and runs it."""
import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
CC = os.environ.get("CC", "cc")


@pytest.mark.skipif(not shutil.which(CC), reason="no C compiler")
@pytest.mark.skipif(not pathlib.Path("/usr/include/cmocka.h").exists(), reason="cmocka is not installed")
@pytest.mark.parametrize("options", [["-O2"], ["-g", "-fsanitize=address,undefined"]], ids=["fast", "sanitized"])
def test_kit(tmp_path, options):
    program = tmp_path / "test_kit"
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
    subprocess.run([CC, "-std=gnu17", "-D_GNU_SOURCE", *strict, *options, f"-I{HERE.parents[1] / 'include'}",
                    HERE / "test_kit.c", "-lcmocka", "-o", program], check=True)
    done = subprocess.run([program], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
