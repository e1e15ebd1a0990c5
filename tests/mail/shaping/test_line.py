"""What waits for a connection: in which order it gets one."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.delivery.destinations import Question
from dcrouter.mail.delivery.sending import Sending
from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.gates import Gates
from dcrouter.mail.shaping.line import Line
from dcrouter.wire.smtp.parameters import Wishes

INF = float("inf")


def waiting(name: str, priority: int = 0) -> Question:
    """With this priority, in a line."""
    question = Question(name)
    question.transaction = question.transaction._replace(wishes=Wishes(priority=priority))
    return question


def names(sendings: Iterable[Sending]) -> list[str]:
    return [sending.transaction.recipients[0] for sending in sendings]


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        gate = Gate("all", self.clock, self.clock.seconds, lambda name: None)
        gate.limit(INF, INF, INF, None)
        self.line = Line(Gates([gate]), self.clock.seconds)

    def add(self, *waiting: Question) -> None:
        for one in waiting:
            self.line.append(one)

    def left(self) -> list[str]:
        return names(self.line.next() for _ in range(len(self.line)))

    def test_priorities_come_first_and_each_in_order(self) -> None:
        """RFC 6710 4.1; when nobody with one is left, it is a plain line again."""
        self.add(waiting("a"), waiting("b", 3), waiting("c", -2), waiting("d"), waiting("e", 3), waiting("f", 9))
        self.assertEqual(self.left(), ["f", "b", "e", "a", "d", "c"])
        self.add(waiting("a"), waiting("b"))
        self.line.put_first(waiting("c", -9))
        self.add(waiting("d", 1))
        self.assertEqual(self.left(), ["d", "c", "a", "b"])

    def test_the_age_is_that_of_who_waits_longest(self) -> None:
        """Also where others were let past it; and those of the lowest priority are cut off first."""
        self.add(waiting("a"), waiting("b", -1))
        self.clock.advance(5.0)
        self.add(waiting("c", 1))
        self.assertEqual(self.line.age, 5.0)
        self.assertEqual(names(self.line.cut(1)), ["a", "b"])
        self.assertEqual(self.line.age, 0.0)
