"""When a route holds: days of the week and hours, by the clock of one time zone.

Hours from late to early (`from: 22:00`, `to: 06:00`) go past midnight, and belong to the day on which they begin.
"""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import field, frozen

from dcrouter.config.findings import meant
from dcrouter.config.forms import Form, key
from dcrouter.config.units import shown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
"""Minutes."""

_CLOCK = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")


def _days(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    for word in (first, last) if dash else (first,):
        if word not in DAYS:
            raise ValueError(f"{shown(text)} is not a day or days such as mon or mon-fri{meant(word, DAYS)}")
    return DAYS.index(first), DAYS.index(last if dash else first)


def _clock(text: str) -> int:
    found = _CLOCK.fullmatch(text)
    minutes = int(found[1]) * 60 + int(found[2]) if found is not None else DAY + 1
    if minutes > DAY:
        raise ValueError(f"{shown(text)} is not a time of the day such as 08:00")
    return minutes


def clock(minutes: int) -> str:
    """The inverse: `08:00`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{shown(text)} is not a time zone of this host, such as Europe/Berlin or UTC") from None
    return text


Days = Annotated[
    tuple[int, int],
    Form(
        name="days",
        words="a day or days: `mon` `mon-fri`",
        read=_days,
        schema={"type": "string", "pattern": "^({0})(-({0}))?$".format("|".join(DAYS))},
    ),
]
Clock = Annotated[
    int,
    Form(
        name="clock",
        words='a time of the day: `"08:00"`, up to `"24:00"`',
        read=_clock,
        schema={"type": "string", "pattern": "^([01][0-9]|2[0-4]):[0-5][0-9]$"},
    ),
]
Zone = Annotated[
    str,
    Form(name="zone", words="a time zone: `Europe/Berlin`", read=_zone, schema={"type": "string", "minLength": 1}),
]


@frozen(kw_only=True)
class TimeWindow:
    """Hours of some days of the week; those from late to early go past midnight, and are of the day they begin on."""

    days: tuple[Days, ...] | None = field(
        default=None,
        metadata=key("On which days.", scalar=True, nonempty="there would be no such day", default="every day"),
    )
    start: Clock = field(default=0, metadata=key("From then on.", name="from", default='`"00:00"`'))
    end: Clock = field(default=DAY, metadata=key("Until then.", name="to", default='`"24:00"`'))
    zone: Zone | None = field(default=None, metadata=key("Whose clock it is.", default="this host's"))

    def minutes(self) -> frozenset[tuple[int, int]]:
        """(first, behind the last) minutes of a week that begins with Monday, each within one day's 0 to 24."""
        found = set()
        for day in self.weekdays():
            end = self.end if self.end > self.start else DAY
            found.add((day * DAY + self.start, day * DAY + end))
            if self.end < self.start:
                after = (day + 1) % 7 * DAY
                found.add((after, after + self.end))
        return frozenset(found)

    def weekdays(self) -> frozenset[int]:
        """0 is Monday."""
        given = self.days if self.days is not None else ((0, 6),)
        return frozenset((first + step) % 7 for first, last in given for step in range((last - first) % 7 + 1))


def meet(one: TimeWindow | None, other: TimeWindow | None) -> bool:
    """Whether some moment is in both, as far as that can be told: clocks of two zones are not compared."""
    if one is None or other is None or one.zone != other.zone:
        return True
    return any(a < d and c < b for a, b in one.minutes() for c, d in other.minutes())
