"""The schedule on a clock that is turned by hand: woken by time, never by asking."""

from __future__ import annotations

import gc
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Retry
from dcrouter.events import DeliveryDone
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Outcome
from dcrouter.mail.message import Message
from dcrouter.mail.queue.queue import Queue
from dcrouter.mail.queue.schedule import PAGE
from dcrouter.mail.queue.store import FAILED, QUEUED, Cursor, Due
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from tests.mail.queue.made import entries, message
from tests.support.facts import until


class SlowStore(SqliteStore):
    """What it has read arrives once `gate`, where there is one, fires. `asked`: how often."""

    gate: Deferred[None] | None = None
    asked = 0

    def due(self, behind: Cursor, now: float, limit: int) -> Deferred[list[Due]]:
        self.asked += 1
        gate = self.gate
        page = super().due(behind, now, limit)
        return page if gate is None else page.addCallback(lambda rows: gate.addCallback(lambda _: rows))


class ScheduleTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = SlowStore(Path(self.mktemp()).absolute(), reactor)
        self.store.open()
        self.addCleanup(self.store.close)
        self.tries: list[tuple[int, float]] = []
        self.answers: list[Outcome] = []
        self.hanging: list[Deferred[list[Outcome]]] = []
        retry = Retry(base=100.0, max=400.0, max_age=1000.0, jitter=0.0)
        self.queue = Queue(self.store, self._attempt, retry, self.clock, self.clock.seconds)

    def _attempt(self, message: Message) -> Deferred[list[Outcome]]:
        self.tries.append((message.id, self.clock.seconds()))
        outcome: Deferred[list[Outcome]] = Deferred()
        if self.answers:
            outcome.callback([self.answers.pop(0)])
        else:
            self.hanging.append(outcome)
        return outcome

    async def _turn(self, seconds: float, tries: int) -> None:
        """Turns the clock and waits until there have been so many attempts."""
        self.clock.advance(seconds)
        await until(lambda: len(self.tries) == tries)
        await self.queue.when_idle()

    async def test_waits_double_and_end_with_the_age(self) -> None:
        """Attempts at 0, 100, 300, 700, 1000; then it has failed."""
        self.answers = [Later("451 later")] * 9
        self.queue.start([])
        await self.queue.put(message(1))
        await self._turn(0.0, 1)
        for wait, tries in ((100.0, 2), (200.0, 3), (400.0, 4), (300.0, 5)):
            await until(lambda: self.clock.getDelayedCalls())
            await self._turn(wait, tries)
        self.assertEqual([when for _, when in self.tries], [0.0, 100.0, 300.0, 700.0, 1000.0])
        (entry,) = await entries(self.store)
        self.assertEqual((entry.state, entry.attempts), (FAILED, 5))
        self.assertEqual(self.queue.counters["failed"], 1)

    async def test_what_is_under_way_is_not_started_again(self) -> None:
        """A walk passes over claims, also those whose row is due."""
        self.queue.start([])
        await self.queue.put(message(1))
        self.answers = [Later("451 later")]
        await self.queue.put(message(2))
        await until(lambda: self.clock.getDelayedCalls())
        self.answers = [Delivered("250 ok", "t")]
        self.clock.advance(100.0)
        await until(lambda: len(self.tries) == 3)
        self.assertEqual([number for number, _ in self.tries], [1, 2, 2])
        self.hanging[0].callback([Delivered("250 ok", "t")])
        await self.queue.when_idle()
        self.assertEqual(self.store.messages, 0)

    async def test_nothing_wakes_an_empty_queue(self) -> None:
        """No timer is set where nothing waits."""
        self.answers = [Delivered("250 ok", "t")]
        self.queue.start([])
        await self.queue.put(message(1))
        await self.queue.when_idle()
        await until(lambda: self.store.messages == 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_what_becomes_due_behind_a_walk_is_found_by_the_next(self) -> None:
        """A walk of two pages has passed the place of a message when an operator makes that due."""
        self.clock.advance(5.0)
        await self.store.put(message(1), 1000.0)
        for number in range(2, PAGE + 50):
            await self.store.put(message(number), 5.0)
        self.answers = [Delivered("250 ok", "t")] * 1000
        gate = self.store.gate = Deferred()
        self.queue.start([])
        await until(lambda: self.store.asked == 1)
        await self.queue.resume([(1, 0)], [QUEUED])
        self.store.gate = None
        gate.callback(None)
        await until(lambda: self.store.messages == 0)
        self.assertEqual(self.tries[-1][0], 1)

    async def test_one_that_cannot_be_started_keeps_nobody_else_waiting(self) -> None:
        """Whatever is wrong with it: the others of its page are tried, and so is what is due later."""

        def broken(_: DeliveryDone) -> None:
            raise ZeroDivisionError

        queue = Queue(self.store, self._attempt, Retry(), self.clock, self.clock.seconds, on_done=broken)
        self.addCleanup(queue.stop)
        for number, due in ((1, 0.0), (2, 0.0), (3, 100.0)):
            await self.store.put(message(number), due)
        await queue.give_up([(1, 0)], [QUEUED], "550 5.7.1 Given up")
        await until(lambda: self.clock.getDelayedCalls())
        self.clock.advance(100.0)
        await until(lambda: len(self.tries) == 2)
        self.assertEqual(self.tries, [(2, 0.0), (3, 100.0)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_one_whose_end_breaks_is_told_at_once(self) -> None:
        """By its name: it stays as it is until a restart, and others go on."""

        def broken(_: DeliveryDone) -> None:
            if len(self.tries) == 1:
                raise ZeroDivisionError

        queue = Queue(self.store, self._attempt, Retry(), self.clock, self.clock.seconds, on_done=broken)
        self.addCleanup(queue.stop)
        self.answers = [Delivered("250 ok", "t")] * 2
        queue.start([])
        gc.disable()
        self.addCleanup(gc.enable)
        with capturedLogs() as logs:
            await queue.put(message(1))
            await until(lambda: any("attempt broke" in str(one.get("log_format")) for one in logs))
            await queue.put(message(2))
            await until(lambda: len(self.tries) == 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_a_clock_that_is_set(self) -> None:
        """Forward: what is due by it then is tried within the hour, once. Back: it waits until its time is there again,
        and what comes meanwhile is tried at once; nothing is asked for again and again.
        """
        offset = 1e6
        retry = Retry(base=7200.0, max=7200.0, max_age=1e9, jitter=0.0)
        queue = self.queue = Queue(self.store, self._attempt, retry, self.clock, lambda: self.clock.seconds() + offset)
        self.addCleanup(queue.stop)
        self.answers = [*[Later("451 later")] * 2, *[Delivered("250 ok", "t")] * 2]
        queue.start([])
        await queue.put(message(1, received=offset))
        await self._turn(0.0, 1)
        await until(lambda: self.clock.getDelayedCalls())
        offset += 7000.0
        await self._turn(3600.0, 2)
        await until(lambda: self.clock.getDelayedCalls())
        offset -= 36000.0
        asked = self.store.asked
        await queue.put(message(2, received=offset))
        await until(lambda: len(self.tries) == 3)
        for _ in range(12):
            self.assertEqual(len(self.tries), 3)
            self.clock.advance(3600.0)
            await queue.when_idle()
            await until(lambda: self.clock.getDelayedCalls() or len(self.tries) == 4)
        await until(lambda: self.store.messages == 0)
        self.assertEqual([number for number, _ in self.tries], [1, 1, 2, 1])
        self.assertLess(self.store.asked - asked, 30)
