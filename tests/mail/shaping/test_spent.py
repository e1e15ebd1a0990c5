"""What has left by a rate is known after a restart: never more leaves than it says, whatever became of the process."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rates import Rate
from dcrouter.mail.ledger import Table
from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.pace import Pace
from dcrouter.mail.shaping.spent import PARTS, SHORTEST, Record, Spent
from tests.mail.server.guards.made import START, made_ledger

INF = float("inf")


class RecordTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(
        st.integers(1, 2500),
        st.sampled_from((60.0, 3600.0, 86400.0)),
        st.lists(st.tuples(st.floats(0.0, 0.4), st.integers(0, 2000)), min_size=1, max_size=8),
    )
    def test_no_window_has_more_than_the_count_over_any_number_of_restarts(
        self, count: int, seconds: float, lives: list[tuple[float, int]]
    ) -> None:
        """As many as may leave at each start, after any times; and no time of the rate's length has more of them."""
        clock = Clock()
        table = Table("spent", lambda name, key, row: None, lambda: START + clock.seconds())
        left: list[float] = []
        for gap, most in lives:
            clock.advance(gap * seconds)
            record = Record(table, "zone a", seconds, lambda: START + clock.seconds())
            pace = Pace(Rate(rate=(count, seconds)), clock.seconds, record)
            for _ in range(min(most, int(pace.free()))):
                pace.spend()
                left.append(clock.seconds())
        for at, last in enumerate(left[count:]):
            self.assertGreaterEqual(last - left[at], seconds * 0.999)

    def test_what_has_left_makes_room_again_when_its_time_is_over(self) -> None:
        """At most a part of the rate's time later than without a restart."""
        clock = Clock()
        table = Table("spent", lambda name, key, row: None, lambda: START + clock.seconds())

        def begun() -> Pace:
            record = Record(table, "zone a", 3600.0, lambda: START + clock.seconds())
            return Pace(Rate(rate=(10, 3600.0)), clock.seconds, record)

        pace = begun()
        for _ in range(10):
            pace.spend()
            clock.advance(60.0)
        after = begun()
        self.assertEqual(after.free(), 0)
        self.assertLessEqual(abs(after.wait() - pace.wait()), 3600.0 / PARTS)
        self.assertLessEqual(abs(after.wait(9) - pace.wait(9)), 3600.0 / PARTS)
        clock.advance(3600.0)
        self.assertEqual(begun().free(), 10)

    def test_a_burst_is_not_there_again(self) -> None:
        """Two at once, then evenly; not two more because of a restart."""
        clock = Clock()
        table = Table("spent", lambda name, key, row: None, lambda: START + clock.seconds())
        rate = Rate(rate=(60, 3600.0), burst=2)
        for expected in (2, 0):
            pace = Pace(rate, clock.seconds, Record(table, "zone a", 3600.0, lambda: START + clock.seconds()))
            count = 0
            while pace.free():
                pace.spend()
                count += 1
            self.assertEqual(count, expected)
        self.assertLess(abs(pace.wait() - 60.0), 1.0)

    def test_a_lower_rate_after_the_restart_remembers_no_more_than_it_has(self) -> None:
        """A thousand have left, and ten may: the eleventh comes when the rate's time is over."""
        clock = Clock()
        table = Table("spent", lambda name, key, row: None, lambda: START + clock.seconds())
        before = Record(table, "zone a", 60.0, lambda: START + clock.seconds())
        for _ in range(1000):
            before.add()
        pace = Pace(Rate(rate=(10, 60.0)), clock.seconds, Record(table, "zone a", 60.0, lambda: START))
        self.assertEqual((pace.free(), pace.wait()), (0, 60.0))

    def test_a_clock_that_was_set_back_opens_nothing(self) -> None:
        """What left a moment later than now, by another clock, left now."""
        clock = Clock()
        now = [START + 30.0]
        table = Table("spent", lambda name, key, row: None, lambda: now[0])
        Record(table, "zone a", 3600.0, lambda: now[0]).add()
        now[0] -= 10.0
        self.assertEqual(list(Record(table, "zone a", 3600.0, lambda: now[0]).past()), [(0.0, 1)])
        self.assertEqual(clock.seconds(), 0.0)


class SpentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = Path(self.mktemp()) / "mail"

    def gate(self, name: str = "zone a") -> Gate:
        """As another run of the process makes it."""
        ledger = made_ledger(self.directory, self.clock)
        self.addCleanup(ledger.close)
        spent = Spent(ledger, lambda: START + self.clock.seconds())
        return Gate(name, self.clock, self.clock.seconds, lambda name: None, spent)

    def test_a_gate_knows_what_has_left_before_a_kill(self) -> None:
        """Of its own rate, and of what it is slowed down to; nothing is closed, and the ledger has had its second."""
        gate = self.gate()
        gate.limit(INF, INF, INF, Rate(rate=(5, 3600.0)))
        gate.slow_down(Rate(rate=(3, 60.0)))
        for _ in range(3):
            gate.spend()
        self.clock.advance(2.0)
        again = self.gate()
        again.limit(INF, INF, INF, Rate(rate=(5, 3600.0)))
        self.assertEqual(again.free(), 2)
        again.slow_down(Rate(rate=(3, 60.0)))
        self.assertEqual(again.free(), 0)
        other = self.gate("zone b")
        other.limit(INF, INF, INF, Rate(rate=(5, 3600.0)))
        self.assertEqual(other.free(), 5)

    def test_rates_of_moments_are_not_kept(self) -> None:
        """Nothing of them would be left; and who has no other pays nothing."""
        gate = self.gate()
        gate.limit(INF, INF, INF, Rate(rate=(5, SHORTEST / 2)))
        gate.spend()
        self.assertFalse(self.directory.exists())
