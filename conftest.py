# SPDX-License-Identifier: MIT
"""Gives every folder's tests the fixtures of tests/conftest.py."""
import importlib.util
import pathlib
import sys

_path = pathlib.Path(__file__).resolve().parent / "tests" / "conftest.py"
_spec = importlib.util.spec_from_file_location("altitude_fixtures", _path)
_module = importlib.util.module_from_spec(_spec)
sys.modules["altitude_fixtures"] = _module
_spec.loader.exec_module(_module)
mount, altitude = _module.mount, _module.altitude
