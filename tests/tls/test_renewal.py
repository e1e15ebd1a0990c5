"""When to renew, and when to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.tls import renewal
from dcrouter.tls.renewal import late, planned, soonest, wait, within

DAY = 86400.0
CHANCE = some.floats(0, 1)


class RenewalTests(SynchronousTestCase):
    def test_every_lifetime_leaves_time_for_failures(self) -> None:
        """90, 45 and 6 days: a third of it is left, and no two are due at the same moment."""
        for days in (90, 45, 6):
            moments = [planned(0.0, days * DAY, 0.67, chance / 10) for chance in range(11)]
            self.assertEqual(moments[0], days * DAY * 0.67)
            self.assertAlmostEqual(moments[-1], days * DAY * 0.67 * 0.95)
            self.assertEqual(sorted(moments, reverse=True), moments)

    @given(some.floats(0, 1e9), some.floats(1, 1e9), some.floats(0.01, 0.95), CHANCE)
    def test_it_is_within_the_lifetime(self, begin: float, lifetime: float, share: float, chance: float) -> None:
        """Whatever that is."""
        self.assertTrue(begin <= planned(begin, begin + lifetime, share, chance) <= begin + lifetime)

    def test_a_window_is_used_evenly(self) -> None:
        """From its start to its end."""
        self.assertEqual([within(10, 20, chance) for chance in (0, 0.5, 1)], [10, 15, 20])

    def test_a_new_one_is_kept_for_a_while(self) -> None:
        """An hour, or a tenth of what it has left."""
        self.assertEqual(soonest(0, 90 * DAY), 3600)
        self.assertEqual(soonest(0, 20), 2)
        self.assertEqual(soonest(100, 50), 100)

    def test_failures_wait_longer_each_time(self) -> None:
        """Five in the first hour and not more, one a day in the end, whoever counts."""
        instants, now = [], 0.0
        for failures in range(1, 12):
            instants.append(now)
            now += wait(failures, 0.5)
        self.assertEqual(sum(instant < 3600 for instant in instants), 5)
        self.assertEqual(wait(1000, 0.5), DAY)
        self.assertEqual((wait(1, 0.0), wait(1, 1.0)), (54.0, 66.0))

    def test_it_gets_late(self) -> None:
        """At half, and at nine tenths, of the time from planned renewal to expiry."""
        told = [late(100, 200, now) for now in (0, 100, 149, 150, 189, 190, 200, 1000)]
        self.assertEqual(told, [0, 0, 0, 1, 1, 2, 2, 2])
        self.assertEqual(late(200, 200, 200), 0)
        self.assertEqual(len(renewal.LATE), 2)
