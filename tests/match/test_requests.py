"""Headers, methods and times."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.conditions import LONGEST_VALUE
from dcrouter.config.paths import readings
from dcrouter.config.times import DAY, TimeWindow, meet
from dcrouter.match.headers import Headers
from dcrouter.match.requests import RequestConditions
from dcrouter.match.times import Times
from dcrouter.wire.http1.head import RequestHead, parse_head

BERLIN = ZoneInfo("Europe/Berlin")
WINDOWS = st.builds(
    TimeWindow,
    days=st.none() | st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=2).map(tuple),
    start=st.integers(0, DAY - 1),
    end=st.integers(0, DAY),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
).filter(lambda window: window.start != window.end)


def head(text: str) -> RequestHead:
    found = parse_head(f"{text}\r\nHost: a\r\n\r\n".encode("latin-1"))
    assert found is not None
    return found


class RequestTests(SynchronousTestCase):
    def test_all_conditions_hold_together(self) -> None:
        """Path, method and headers."""
        conditions = RequestConditions(path=["/a", "/b"], methods=["GET"], headers={"X-V": "2"})
        for text, expected in (
            ("GET /a HTTP/1.1\r\nx-v: 2", True),
            ("GET /b HTTP/1.1\r\nX-V: 2", True),
            ("GET /c HTTP/1.1\r\nX-V: 2", False),
            ("HEAD /a HTTP/1.1\r\nX-V: 2", False),
            ("GET /a HTTP/1.1\r\nX-V: 3", False),
            ("GET /a HTTP/1.1", False),
        ):
            request = head(text)
            self.assertEqual(conditions.hold(request, readings(request.path)[0]), expected, text)

    def test_one_of_several_values_is_enough(self) -> None:
        """Each header on its own; exact ones with their case, expressions for the whole value."""
        for wanted, expected in (
            ({"a": "1"}, True),
            ({"a": "2"}, True),
            ({"a": "1, 2"}, False),
            ({"A": "re:[12]"}, True),
            ({"a": "re:[3-9]"}, False),
            ({"b": "Yes"}, True),
            ({"b": "yes"}, False),
            ({"b": "re:Y"}, False),
            ({"b": "re:(?i)yes"}, True),
            ({"a": "1", "b": "No"}, False),
            ({"c": "\u00e9"}, True),
            ({"d": ""}, True),
            ({"e": ""}, False),
        ):
            request = head("GET / HTTP/1.1\r\nA: 1\r\nB: Yes\r\na: 2\r\nc: \xc3\xa9\r\nd:")
            self.assertEqual(Headers(wanted).hold(request), expected, wanted)

    def test_expressions_are_not_asked_about_long_values(self) -> None:
        """Which the client could choose so that everybody waits."""
        wanted = Headers({"a": "re:x*"})
        self.assertTrue(wanted.hold(head("GET / HTTP/1.1\r\na: " + "x" * LONGEST_VALUE)))
        self.assertFalse(wanted.hold(head("GET / HTTP/1.1\r\na: " + "x" * (LONGEST_VALUE + 1))))


class TimesTests(SynchronousTestCase):
    @given(WINDOWS, st.integers(1_700_000_000, 1_800_000_000))
    def test_a_window_is_what_a_clock_on_the_wall_says(self, window: TimeWindow, now: int) -> None:
        """Its day is that on which its hours began; summer time is the zone's affair."""
        there = datetime.fromtimestamp(now, ZoneInfo(window.zone or "UTC"))
        minute = there.hour * 60 + there.minute
        if window.start < window.end:
            day, inside = there.weekday(), window.start <= minute < window.end
        elif minute >= window.start:
            day, inside = there.weekday(), True
        else:
            day, inside = (there.weekday() - 1) % 7, minute < window.end
        days = {one for first, last in window.days or ((0, 6),) for one in _from_to(first, last)}
        self.assertEqual(Times(window).hold(float(now)), inside and day in days)

    @given(WINDOWS, WINDOWS, st.integers(1_700_000_000, 1_700_000_000 + 7 * 86400))
    def test_windows_meet_where_a_moment_is_in_both(self, one: TimeWindow, other: TimeWindow, now: int) -> None:
        """None is missed."""
        if Times(one).hold(now) and Times(other).hold(now):
            self.assertTrue(meet(one, other))

    def test_the_answer_changes_with_the_minute(self) -> None:
        """And not before; without a zone it is this host's clock."""
        times = Times(TimeWindow(start=8 * 60, zone="Europe/Berlin"))
        eight = datetime(2026, 7, 1, 8, tzinfo=BERLIN).timestamp()
        self.assertEqual(
            [times.hold(eight + more) for more in (-60, -0.1, 0, 59, -1)], [False, False, True, True, False]
        )
        here = datetime.fromtimestamp(eight)
        local = TimeWindow(start=here.hour * 60, end=here.hour * 60 + 1)
        self.assertTrue(Times(local).hold(eight))
        self.assertFalse(Times(local).hold(eight + 61))


def _from_to(first: int, last: int) -> list[int]:
    found = [first]
    while found[-1] != last:
        found.append((found[-1] + 1) % 7)
    return found
