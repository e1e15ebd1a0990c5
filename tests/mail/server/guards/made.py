"""Parts of guards for their tests."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from dcrouter.mail.ledger import Ledger

START = 1_800_000_000.0
"""UTC epoch seconds when a test begins: 08:00 of a day, and a whole minute."""


def made_ledger(directory: Path, clock: Clock) -> Ledger:
    """One whose writes block."""
    return Ledger(directory, clock, lambda: START + clock.seconds(), maybeDeferred)
