# SPDX-License-Identifier: MIT
"""Gives every folder's tests the fixtures of tests/conftest.py, and ends a test that hangs."""
import importlib.util
import os
import pathlib
import signal
import sys
import threading

import pytest

HANGS_AFTER = 6000 if os.environ.get("ALTITUDE_LONG") else 600   # seconds
os.environ["ALTITUDE_TESTS"] = str(os.getpid())
signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell starts what is to run in the background without


def _load(name, file):
    """What any test may then import by that name."""
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).resolve().parent / "tests" / file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load("altitude_calls", "calls.py")
_module = _load("altitude_fixtures", "conftest.py")
mount, altitude, switch = _module.mount, _module.altitude, _module.switch


def _kill_all_started(what):
    """Whatever these tests started: a volume whose server is dead answers ENOTCONN, so whoever waited for it goes on."""
    mark = f"ALTITUDE_TESTS={os.getpid()}".encode()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                print(f"{what} hangs: killing {(process / 'cmdline').read_bytes().decode(errors='replace')!r}, which is in "
                      f"{(process / 'wchan').read_text()}", file=sys.__stderr__)
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            pass


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    watch = threading.Timer(HANGS_AFTER, _kill_all_started, [item.nodeid])
    watch.daemon = True
    watch.start()
    yield
    watch.cancel()
