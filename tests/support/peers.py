"""Real programs that tests talk to; a test whose program is absent skips and says which."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from unittest import SkipTest

_PLACES = os.pathsep.join(
    (os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/postfix/sbin", "/usr/lib/dovecot")
)


def require(program: str) -> str:
    """The full path of `program`; raises SkipTest, naming it, where it is not installed."""
    path = shutil.which(program, path=_PLACES)
    if path is None:
        raise SkipTest(f"needs a real peer: {program} is not installed")
    return path


def require_swaks_tls() -> str:
    """swaks, where it can speak TLS: Debian only recommends the module that it needs for that."""
    swaks = require("swaks")
    if not _swaks_speaks_tls(swaks):
        raise SkipTest("needs a real peer: swaks has no TLS (libnet-ssleay-perl is not installed)")
    return swaks


@cache
def _swaks_speaks_tls(swaks: str) -> bool:
    said = subprocess.run([swaks, "--support"], capture_output=True, text=True, timeout=240, check=False).stdout
    return "TLS supported" in said
