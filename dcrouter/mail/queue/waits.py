"""What mail waits for that is early: its turn, which a rate decides, or the end of a pause; and the replies.

After a start the replies alone tell who waits for what (inherited.py).
"""

from __future__ import annotations

RATE = "rate of "
PAUSE = "pause "
"""How the name of that begins which mail waits for, before the name of what has the rate, or is paused."""

RATE_REACHED = f"4.4.5 the {RATE}"
PAUSED = "4.3.2 "
"""What the replies begin with."""


def rate_reached(name: str) -> str:
    """The reply."""
    return f"{RATE_REACHED}{name} is reached"


def paused(what: str, reason: str = "") -> str:
    """The reply, behind PAUSED."""
    return f"{what} is paused" + (f": {reason}" if reason else "")


def beginning_of(target: str) -> str | None:
    """What the reply to mail that waits for this begins with; None: it does not tell."""
    if target.startswith(RATE):
        return rate_reached(target.removeprefix(RATE))
    if target.startswith(PAUSE):
        return PAUSED + paused(target.removeprefix(PAUSE))
    return None
