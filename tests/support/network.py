"""A network of a test's own: loopback with its 65536 ports and addresses of the test's choice, and nobody else.

For services that find their peers at ports that the world agrees on: 25, 53, 443. What the test starts from then on
(sockets, threads, processes) is in there, and nothing of it is reached from outside. It needs root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from functools import cache
from unittest import SkipTest, TestCase

from tests.support.peers import require

_CLONE_NEWNET = 0x40000000  # from linux/sched.h
_LIBC = ctypes.CDLL(None, use_errno=True)


def own_network(case: TestCase, *addresses: str) -> None:
    """This thread is in there until the end of the test; `addresses` are its own, beside ::1 and all of 127/8."""
    if why := _obstacle():
        raise SkipTest(f"needs a network of its own: {why}")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _done(_LIBC.unshare(_CLONE_NEWNET))
    case.addCleanup(_back, before)
    ip = require("ip")
    commands = ["link set lo up", *(f"address add {one} dev lo{' nodad' * (':' in one)}" for one in addresses)]
    subprocess.run([ip, "-batch", "-"], input="\n".join(commands), text=True, check=True, timeout=240)


def _back(before: int) -> None:
    try:
        _done(_LIBC.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _done(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def _obstacle() -> str:
    if os.geteuid():
        return "root may make one"
    require("ip")
    done = subprocess.run(
        [require("unshare"), "--net", "true"], capture_output=True, text=True, timeout=240, check=False
    )
    return done.stderr if done.returncode else ""
