"""The least that a connection must move."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.security import MinRate
from dcrouter.errors import DcrouterError, Refused
from dcrouter.net.engine import WAIT, Engine, Task
from dcrouter.net.floor import Floor, Pace
from tests.support.loop import HandTurned

LEAST = MinRate(bytes=100, over=30.0)


class PaceTests(SynchronousTestCase):
    def test_each_period_stands_for_itself(self) -> None:
        """What was moved in one does not help in the next; exactly enough is enough."""
        pace = Pace(LEAST, 1000.0, 5)
        self.assertEqual(pace.ends, 1030.0)
        self.assertFalse(pace.too_slow(1030.0, 105))
        self.assertFalse(pace.too_slow(1060.0, 1_000_000))
        self.assertEqual(pace.ends, 1090.0)
        self.assertTrue(pace.too_slow(1090.0, 1_000_099))


class FloorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        reactor: Any = HandTurned()
        self.reactor = reactor
        self.engine = Engine(reactor, lambda: self.now)
        self.engine.start()
        self.addCleanup(self.engine.stop)
        self.moved = 0
        self.ended: list[DcrouterError | None] = []

    def connection(self, lift: bool = False) -> Task:
        async def serve(task: Task) -> None:
            floor = Floor(task, LEAST, lambda: self.moved)
            if lift:
                floor.lift()
            try:
                while True:
                    await WAIT
            except Refused as error:
                self.ended.append(error)
            finally:
                floor.lift()

        return self.engine.spawn(serve)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            self.reactor.advance(0.1)

    def test_who_is_slower_is_ended_and_who_is_not_is_kept(self) -> None:
        """However long it takes: it is a floor, not a total time."""
        self.connection()
        for _ in range(20):
            self.moved += 100
            self.pass_time(30.2)
        self.assertEqual(self.ended, [])
        self.moved += 99
        self.pass_time(30.2)
        self.assertEqual([str(error) for error in self.ended], ["min_rate"])

    def test_silence_is_too_slow(self) -> None:
        """A client that says nothing holds a connection as well as one that dribbles."""
        self.connection()
        self.pass_time(29)
        self.assertEqual(self.ended, [])
        self.pass_time(2)
        self.assertEqual(len(self.ended), 1)

    def test_a_floor_that_is_lifted_holds_nobody_up(self) -> None:
        """And leaves nothing in the wheel."""
        task = self.connection(lift=True)
        self.pass_time(100)
        self.assertEqual(self.ended, [])
        self.assertIn(task, self.engine.tasks)
