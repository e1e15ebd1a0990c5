"""When a certificate is renewed, and when what failed is tried again: arithmetic, right for lifetimes of any length.

Instants are UTC epoch seconds. `chance`: a random number from 0 to 1, by which many certificates are spread.
"""

from __future__ import annotations

SPREAD = 0.05
"""The share of the time until its renewal by which a certificate is renewed earlier, at most."""
FIRST_WAIT = 60.0
FACTOR = 3.0
LAST_WAIT = 86400.0
"""Seconds between failures, each time FACTOR times as long: five in the first hour, which is what authorities take of
one name, and one a day in the end.
"""
WAIT_SPREAD = 0.2
YOUNG = 3600.0
"""Seconds for which a certificate is kept at least, or a tenth of what it has left."""
LATE = (0.5, 0.9)
"""Shares of the time between planned renewal and expiry after which somebody is told."""


def planned(begin: float, end: float, share: float, chance: float) -> float:
    """When to renew a certificate that is valid from `begin` to `end`, after `share` of that or a little earlier."""
    return begin + (end - begin) * share * (1 - SPREAD * chance)


def within(start: float, end: float, chance: float) -> float:
    """When to renew where the authority has named a window (RFC 9773 section 4.2)."""
    return start + (end - start) * chance


def soonest(issued: float, end: float) -> float:
    """Before which no new certificate is renewed, whatever its lifetime and its window say: there is no end to it
    otherwise where an authority, or a clock, is wrong.
    """
    return issued + min(YOUNG, max(end - issued, 0.0) / 10)


def wait(failures: int, chance: float) -> float:
    """Seconds after so many failures in a row, at least one."""
    seconds = min(FIRST_WAIT * FACTOR ** min(failures - 1, 20), LAST_WAIT)
    return seconds * (1 + WAIT_SPREAD * (chance - 0.5))


def late(renew: float, end: float, now: float) -> int:
    """How many of LATE have passed."""
    gone = (now - renew) / max(end - renew, 1.0)
    return sum(gone >= share for share in LATE)
