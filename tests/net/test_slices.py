from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.slices import SLICE, Steps, finished, in_slices, released


class Turns:
    """A reactor that runs what was asked for at each `turn`, and what is asked for meanwhile at the next."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.calls: list[IDelayedCall] = []

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall:
        call = self.clock.callLater(delay + 1.0, callable, *args)
        self.calls.append(call)
        return call

    def turn(self) -> None:
        self.calls.clear()
        self.clock.advance(1.0)


class SliceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.done: list[int] = []
        self.now = 0.0
        self.turns = Turns()

    def time(self) -> float:
        return self.now

    def work(self, steps: int, each: float = 0.0) -> Steps[str]:
        for number in range(steps):
            self.done.append(number)
            self.now += each
            yield
        return "result"

    def test_at_once(self) -> None:
        """Where nothing waits."""
        self.assertEqual(finished(self.work(5)), "result")
        self.assertEqual(len(self.done), 5)

    def test_a_slice_is_short_and_others_have_their_turn(self) -> None:
        """Nothing is done at once; then as many steps as fit, and no more before the reactor comes by again."""
        asked = in_slices(self.turns, self.work(10, SLICE / 2), self.time)
        self.assertEqual(self.done, [])
        self.turns.turn()
        self.assertEqual(len(self.done), 2)
        self.assertNoResult(asked)
        for _ in range(6):
            self.turns.turn()
        self.assertEqual(self.successResultOf(asked), "result")

    def test_what_breaks_is_told(self) -> None:
        """By the Deferred, and nothing goes on."""

        def broken() -> Steps[None]:
            yield
            raise ValueError("no")

        asked = in_slices(self.turns, broken(), self.time)
        self.turns.turn()
        self.failureResultOf(asked, ValueError)
        self.assertEqual(self.turns.calls, [])

    def test_a_cancelled_one_goes_no_further(self) -> None:
        """And is closed."""
        asked = in_slices(self.turns, self.work(100, SLICE), self.time)
        self.turns.turn()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.turns.turn()
        self.assertEqual(len(self.done), 1)

    def test_things_are_released_one_by_one(self) -> None:
        """So that the end of many takes no longer at a time than the end of one."""
        things: list[Any] = [object(), object()]
        steps = released(things)
        next(steps)
        self.assertEqual(len(things), 1)
        finished(steps)
        self.assertEqual(things, [])
