"""What waits for a connection: in which order it gets one."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.gates import Gates
from dcrouter.mail.shaping.line import Line
from dcrouter.wire.smtp.parameters import Wishes
from dcrouter.wire.smtp.transaction import Transaction

INF = float("inf")


class Waiting:
    """With this priority, in a line."""

    def __init__(self, name: str, priority: int = 0) -> None:
        self.name = name
        self.transaction = Transaction("", [name], 1, False, wishes=Wishes(priority=priority))


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        gate = Gate("all", self.clock, self.clock.seconds, lambda name: None)
        gate.limit(INF, INF, INF, None)
        self.line = Line(Gates([gate]), self.clock.seconds)

    def add(self, *waiting: Any) -> None:
        for one in waiting:
            self.line.append(one)

    def left(self) -> list[str]:
        return [self.line.next().name for _ in range(len(self.line))]  # type: ignore[attr-defined]

    def test_priorities_come_first_and_each_in_order(self) -> None:
        """RFC 6710 4.1; when nobody with one is left, it is a plain line again."""
        self.add(Waiting("a"), Waiting("b", 3), Waiting("c", -2), Waiting("d"), Waiting("e", 3), Waiting("f", 9))
        self.assertEqual(self.left(), ["f", "b", "e", "a", "d", "c"])
        self.add(Waiting("a"), Waiting("b"))
        self.line.put_first(Waiting("c", -9))
        self.add(Waiting("d", 1))
        self.assertEqual(self.left(), ["d", "c", "a", "b"])

    def test_the_age_is_that_of_who_waits_longest(self) -> None:
        """Also where others were let past it; and those of the lowest priority are cut off first."""
        self.add(Waiting("a"), Waiting("b", -1))
        self.clock.advance(5.0)
        self.add(Waiting("c", 1))
        self.assertEqual(self.line.age, 5.0)
        self.assertEqual([one.name for one in self.line.cut(1)], ["a", "b"])  # type: ignore[attr-defined]
        self.assertEqual(self.line.age, 0.0)
