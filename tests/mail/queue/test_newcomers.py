"""When the first attempts of messages begin that have just become durable."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.message import Message
from dcrouter.mail.queue.newcomers import Newcomers
from dcrouter.mail.queue.store import Key
from tests.mail.queue.made import message


class Busy:
    """A reactor that falls idle when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def when_idle(self, call: Callable[[], None], within: float) -> None:
        self.calls.append(call)

    def fall_idle(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class NewcomersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begun: list[int] = []

    def begin(self, one: Message, keys: list[Key]) -> None:
        if one.id == 2:
            raise ValueError("of this one")
        self.begun.append(one.id)

    def test_they_begin_when_all_else_that_is_ready_is_done(self) -> None:
        """Together and in order; who comes later waits for the next such moment."""
        reactor = Busy()
        newcomers = Newcomers(reactor, self.begin)
        newcomers.add(message(1), [(1, 0)])
        newcomers.add(message(3), [(3, 0)])
        self.assertEqual((self.begun, len(reactor.calls)), ([], 1))
        reactor.fall_idle()
        self.assertEqual(self.begun, [1, 3])
        newcomers.add(message(4), [(4, 0)])
        reactor.fall_idle()
        self.assertEqual(self.begun, [1, 3, 4])

    def test_one_that_cannot_begin_keeps_nobody(self) -> None:
        """An error of ours is logged, and the others begin."""
        reactor = Busy()
        newcomers = Newcomers(reactor, self.begin)
        for number in (1, 2, 3):
            newcomers.add(message(number), [(number, 0)])
        reactor.fall_idle()
        self.assertEqual(self.begun, [1, 3])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_without_a_reactor_that_can_tell_they_begin_at_once(self) -> None:
        """So does mail of whoever runs the queue on another reactor."""
        Newcomers(object(), self.begin).add(message(1), [(1, 0)])
        self.assertEqual(self.begun, [1])
