"""A clock that a test sets, for a service: libfaketime between its processes and the C library."""

from __future__ import annotations

import tempfile
from glob import glob
from pathlib import Path
from unittest import SkipTest, TestCase

LIBRARIES = "/usr/lib/*/faketime/libfaketime.so.1"


class Clock:
    """`environment`: of whoever goes by it. It is this machine's, `offset` seconds ahead.

    Where `monotonic`, time itself passes by a jump, and timers with it; else somebody has set the clock.
    """

    def __init__(self, case: TestCase, *, monotonic: bool) -> None:
        found = glob(LIBRARIES)
        if not found:
            raise SkipTest("needs libfaketime, which is not installed")
        directory = tempfile.TemporaryDirectory(prefix="clock-")
        case.addCleanup(directory.cleanup)
        self.offset = 0.0
        self._file = Path(directory.name) / "offset"
        self.jump(0.0)
        self.environment = {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": str(int(not monotonic)),
        }

    def jump(self, seconds: float) -> None:
        """Within a second it is so much later, or earlier."""
        self.offset += seconds
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self.offset:+f}\n")
        fresh.rename(self._file)
