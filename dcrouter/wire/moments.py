"""UTC epoch seconds as they are written: in headers of mail (RFC 5322 3.3), and everywhere else (RFC 3339)."""

from __future__ import annotations

import time
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=4)
def mail_date(second: int) -> str:
    """`Sat, 21 Nov 2026 14:00:00 +0000`, whatever language the process has."""
    moment = time.gmtime(second)
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    return f"{day}, {moment.tm_mday} {month} {moment.tm_year} {time.strftime('%H:%M:%S', moment)} +0000"


def utc(instant: float) -> str:
    """`2026-11-21T14:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))
