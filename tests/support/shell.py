"""A program that is run to its end, and fails the test where it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def run(argv: Sequence[str], *, seconds: float = 240.0, say: bytes = b"", status: int = 0) -> bytes:
    """Its standard output; AssertionError with all it said where it does not exit with `status`."""
    done = subprocess.run(argv, input=say, capture_output=True, timeout=seconds, check=False)
    if done.returncode != status:
        raise AssertionError(f"{argv}: exit {done.returncode}: {done.stdout[-2000:]!r} {done.stderr[-2000:]!r}")
    return done.stdout
