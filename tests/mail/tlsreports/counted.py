"""What has been counted, while its day is not over."""

from __future__ import annotations

from dcrouter.mail.tlsreports.counts import Counts
from dcrouter.wire.tlsrpt import Section


def sections(counts: Counts, day: int, domain: str) -> tuple[Section, ...]:
    """Of one day and domain; () where there is nothing."""
    found = (one.sections for one in counts.before(day + 1) if one[:2] == (day, domain))
    return next(found, ())
