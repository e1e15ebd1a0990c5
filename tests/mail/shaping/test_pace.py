"""How often mail may leave: whatever the moments, no time of the rate's length has more than its count."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rates import Rate
from dcrouter.mail.shaping.pace import Pace


class PaceTests(SynchronousTestCase):
    @given(
        st.integers(1, 30),
        st.floats(0.5, 100.0),
        st.lists(st.floats(0.0, 20.0), max_size=150),
    )
    def test_no_window_has_more_than_the_count(self, count: int, seconds: float, gaps: list[float]) -> None:
        """Tried at any moments, let through whenever there is one free."""
        clock = Clock()
        pace = Pace(Rate(rate=(count, seconds)), clock.seconds)
        left: list[float] = []
        for gap in gaps:
            clock.advance(gap)
            if pace.free():
                pace.spend()
                left.append(clock.seconds())
        for at, last in enumerate(left[count:]):
            self.assertGreaterEqual(last - left[at], seconds * 0.999999)

    @given(st.integers(1, 5000), st.integers(0, 12_000))
    def test_what_it_foretells_comes_true(self, count: int, ahead: int) -> None:
        """Who is told to wait so long, behind so many, has a token then; for a great count within a thousandth."""
        clock = Clock()
        pace = Pace(Rate(rate=(count, 60.0)), clock.seconds)
        foretold = pace.wait(ahead)
        for _ in range(ahead):
            while not pace.free():
                clock.advance(pace.wait() + 1e-6)
            pace.spend()
        while not pace.free():
            clock.advance(pace.wait() + 1e-6)
        self.assertLessEqual(abs(clock.seconds() - foretold), 61.0 if count > 1000 else 0.1)

    def test_a_burst_spreads_what_the_count_allows(self) -> None:
        """Two at once, then one every six seconds, and never more than ten in a minute."""
        clock = Clock()
        pace = Pace(Rate(rate=(10, 60.0), burst=2), clock.seconds)
        left: list[float] = []
        for _ in range(600):
            while pace.free():
                pace.spend()
                left.append(clock.seconds())
            clock.advance(0.5)
        self.assertEqual(left[:2], [0.0, 0.0])
        self.assertTrue(all(5.9 <= b - a <= 7.0 or b > 59.0 for a, b in pairwise(left[1:])), left)
        self.assertTrue(all(b - a >= 60.0 for a, b in zip(left, left[10:], strict=False)), left)

    def test_another_rate_knows_what_has_left(self) -> None:
        """A reload opens nothing: of ten that have left, a new rate of ten in the same time has none free."""
        clock = Clock()
        pace = Pace(Rate(rate=(20, 60.0)), clock.seconds)
        for _ in range(10):
            pace.spend()
        clock.advance(30.0)
        fewer = pace.succeed(Rate(rate=(10, 60.0)))
        self.assertEqual((fewer.free(), fewer.wait()), (0, 30.0))
        more = pace.succeed(Rate(rate=(50_000, 60.0)))
        self.assertEqual(more.free(), 49_990)
        self.assertFalse(more.quiet)
        clock.advance(61.0)
        self.assertTrue(pace.quiet)
