"""Real programs that tests talk to; a test whose program is absent skips and says which."""

from __future__ import annotations

import os
import shutil
from unittest import SkipTest

_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/postfix/sbin"))


def require(program: str) -> str:
    """The full path of `program`; raises SkipTest, naming it, where it is not installed."""
    path = shutil.which(program, path=_PLACES)
    if path is None:
        raise SkipTest(f"needs a real peer: {program} is not installed")
    return path
