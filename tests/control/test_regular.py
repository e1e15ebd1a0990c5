from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.control.regular import Regularly


class RegularlyTests(SynchronousTestCase):
    def test_one_that_fails_is_not_the_last(self) -> None:
        """It is logged, and the next comes in its time; after `stop` none does."""
        seen = []
        clock = Clock()

        def look() -> None:
            seen.append(clock.seconds())
            if len(seen) < 3:
                raise ValueError("a surprise")

        regularly = Regularly("files", look, clock)
        regularly.start(10.0)
        clock.pump([5.0] * 6)
        self.assertEqual(seen, [10.0, 20.0, 30.0])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        for _ in range(2):
            regularly.stop()
        clock.advance(100.0)
        self.assertEqual((len(seen), regularly.running), (3, False))

    def test_the_first_may_come_at_once(self) -> None:
        """And any of them out of turn."""
        seen: list[int] = []
        regularly = Regularly("files", lambda: seen.append(1), Clock())
        regularly.start(10.0, now=True)
        regularly.act()
        self.assertEqual(len(seen), 2)
        regularly.stop()
