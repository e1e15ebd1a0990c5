"""The queue: what was accepted stays in it until every recipient has it, has been given up, or was dropped.

1. `put` keeps a message durably, then starts its first attempt from memory.
2. A claim (message, recipient) is memory: a crash un-claims, and the next start finds the recipient due.
3. The outcome of an attempt is settled durably; only then is the claim released.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.queue import Retry
from dcrouter.errors import StoreFull
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Held, Outcome
from dcrouter.mail.message import Message
from dcrouter.mail.queue.backoff import next_attempt
from dcrouter.mail.queue.schedule import Schedule
from dcrouter.mail.queue.stores.schema import FAILED, HELD, QUEUED
from dcrouter.mail.queue.stores.sqlite import Due, SqliteStore

MAX_MESSAGES = 1_000_000
"""Then 452 4.3.1: a queue that nobody empties must not eat the disk."""

MAX_CLAIMED = 4000
"""Recipients under way at once; more wait in the store."""

MEMORY = 64 * 1024 * 1024
"""Octets of messages that wait in memory for their first attempt; beyond that they are read again from the store."""

SETTLE_AGAIN = 5.0
"""Seconds after a settle that failed; its claim stays, so nobody gets the message twice meanwhile."""

Attempt = Callable[[Message], Deferred[list[Outcome]]]
"""Tries all recipients of a message, which share their rule; one outcome each, in order. Never fails."""


class Queue:
    """`attempt` is how mail leaves; `now` the wall clock (UTC epoch seconds), `clock` the timers."""

    _log = Logger()

    def __init__(
        self, store: SqliteStore, attempt: Attempt, retry: Retry, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self.counters = {"accepted": 0, "delivered": 0, "deferred": 0, "failed": 0}
        self._store = store
        self._attempt = attempt
        self._retry = retry
        self._clock = clock
        self._now = now
        self._claims: set[tuple[int, int]] = set()
        self._settled: set[tuple[int, int]] = set()
        self._memory = 0
        self._attempts = 0
        self._stopped = False
        self._leaving = False
        self._idle: list[Deferred[None]] = []
        self._schedule = Schedule(store, clock, now, self._start_due, self._has_room)

    def start(self, rules: Iterable[str]) -> None:
        """Takes up what an earlier run left; mail that was held for the lack of one of `rules` is due again."""
        self._store.release(rules, _rounded(self._now())).addBoth(lambda _: self._schedule.walk())

    def stop(self) -> None:
        """No further attempt begins."""
        self._stopped = True
        self._schedule.stop()

    def leave(self) -> None:
        """As `stop`; and who is deferred from now on is so because we go: it stays due, and no attempt is counted."""
        self.stop()
        self._leaving = True

    def when_idle(self) -> Deferred[None]:
        """Fires when no attempt and no settle is under way."""
        waiter: Deferred[None] = Deferred()
        if self._attempts:
            self._idle.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def put(self, message: Message) -> Deferred[None]:
        """Fires when the message is durable, which makes it ours; fails with StoreError, which leaves it the
        client's.
        """
        if self._store.messages >= MAX_MESSAGES:
            return fail(StoreFull(f"the queue holds {MAX_MESSAGES} messages"))
        keys = _keys(message)
        self._claims.update(keys)
        kept = self._store.put(message, _rounded(self._now()))
        return kept.addCallbacks(self._kept, self._lost, callbackArgs=(message, keys), errbackArgs=(keys,))

    # ------------------------------------------------------------------ attempts

    def _kept(self, _: None, message: Message, keys: list[tuple[int, int]]) -> None:
        """It is durable: whatever happens from here on, the client is told so."""
        self.counters["accepted"] += 1
        maybeDeferred(self._start_new, message, keys).addErrback(
            lambda failure: self._log.failure("message {message}: not started", failure, message=message.name)
        )

    def _start_new(self, message: Message, keys: list[tuple[int, int]]) -> None:
        if self._stopped or len(self._claims) > MAX_CLAIMED:
            self._claims.difference_update(keys)
            self._schedule.walk()
            return
        if self._memory + message.size > MEMORY:
            message = message.forgotten()
        recipients = message.envelope.recipients
        if len(recipients) == 1:
            self._begin(message, whole=True)
            return
        for rule in dict.fromkeys(one.rule for one in recipients):
            own = tuple(one for one in recipients if one.rule == rule)
            self._begin(_for(message, own), whole=len(own) == len(recipients))

    def _lost(self, failure: Failure, keys: list[tuple[int, int]]) -> Failure:
        self._claims.difference_update(keys)
        return failure

    def _start_due(self, page: Iterable[Due]) -> None:
        unclaimed = [
            due.message
            for due in page
            if (key := (due.at.message, due.at.number)) not in self._claims and key not in self._settled
        ]
        self._settled.clear()
        for _, group in groupby(unclaimed, key=lambda one: (one.id, one.envelope.recipients[0].rule)):
            parts = list(group)
            message = _for(parts[0], tuple(part.envelope.recipients[0] for part in parts))
            self._claims.update(_keys(message))
            self._begin(message, whole=False)

    def _has_room(self) -> bool:
        return len(self._claims) < MAX_CLAIMED and not self._stopped

    def _begin(self, message: Message, *, whole: bool) -> None:
        self._attempts += 1
        if message.octets is not None:
            self._memory += len(message.octets)
        outcomes = maybeDeferred(self._attempt, message).addErrback(self._broken, message)
        outcomes.addCallback(self._ended, message, whole)

    def _broken(self, failure: Failure, message: Message) -> list[Outcome]:
        """An attempt that ended in an error of ours: the message stays, and somebody is told."""
        self._log.failure("message {message}: the attempt broke", failure, message=message.name)
        return [Later("4.3.0 internal error")] * len(message.envelope.recipients)

    def _ended(self, outcomes: list[Outcome], message: Message, whole: bool) -> None:
        if message.octets is not None:
            self._memory -= len(message.octets)
            message = message.forgotten()
        now = self._now()
        gone: list[int] = []
        changed: list[tuple[int, int, int, float, str]] = []
        for recipient, outcome in zip(message.envelope.recipients, outcomes, strict=True):
            if self._leaving and isinstance(outcome, Later):
                continue
            self._report(message, recipient.address, outcome)
            if isinstance(outcome, Delivered):
                gone.append(recipient.number)
            else:
                changed.append((recipient.number, *self._next(message, recipient.attempts, outcome, now)))
        self.counters["delivered"] += len(gone)
        if gone or changed:
            self._settle(message, gone, changed, whole and len(gone) == len(outcomes))
        else:
            self._attempt_over()

    def _next(self, message: Message, attempts: int, outcome: Outcome, now: float) -> tuple[int, int, float, str]:
        """(state, attempts, due, reply) of a recipient that does not have the message yet."""
        if isinstance(outcome, Held):
            return HELD, attempts, 0.0, outcome.reply
        attempts += 1
        if isinstance(outcome, Later):
            due = next_attempt(self._retry, attempts=attempts, received=message.received, now=now, random=random.random)
            if due is not None:
                self.counters["deferred"] += 1
                return QUEUED, attempts, _rounded(due), outcome.reply
        self.counters["failed"] += 1
        return FAILED, attempts, 0.0, outcome.reply

    def _settle(
        self, message: Message, gone: list[int], changed: list[tuple[int, int, int, float, str]], whole: bool
    ) -> None:
        if whole:
            settled = maybeDeferred(self._store.finish, message)
        else:
            settled = maybeDeferred(self._store.settle, message, gone, changed)
        settled.addCallbacks(
            self._released,
            self._unsettled,
            callbackArgs=(message, changed),
            errbackArgs=(message, gone, changed, whole),
        )

    def _released(self, _: None, message: Message, changed: list[tuple[int, int, int, float, str]]) -> None:
        keys = _keys(message)
        self._claims.difference_update(keys)
        if self._schedule.reading:
            self._settled.update(keys)
        for _number, state, _attempts, due, _reply in changed:
            if state == QUEUED:
                self._schedule.wake_at(due)
        if self._schedule.waits_for_room and len(self._claims) < MAX_CLAIMED // 2:
            self._schedule.walk()
        self._attempt_over()

    def _attempt_over(self) -> None:
        self._attempts -= 1
        if not self._attempts:
            waiting, self._idle = self._idle, []
            for waiter in waiting:
                waiter.callback(None)

    def _unsettled(self, failure: Failure, message: Message, *settle: Any) -> None:
        self._log.error(
            "message {message}: its outcome could not be written, trying again: {reason}",
            message=message.name,
            session=message.envelope.session,
            reason=failure.getErrorMessage(),
        )
        if self._stopped:
            self._attempt_over()
        else:
            self._clock.callLater(SETTLE_AGAIN, self._settle, message, *settle)

    def _report(self, message: Message, address: str, outcome: Outcome) -> None:
        self._log.info(
            "message {message} to {recipient}: {outcome} ({reply})",
            message=message.name,
            session=message.envelope.session,
            recipient=address,
            outcome=type(outcome).__name__.lower(),
            reply=outcome.reply,
            target="" if isinstance(outcome, Held) else outcome.target,
        )


def _keys(message: Message) -> list[tuple[int, int]]:
    return [(message.id, one.number) for one in message.envelope.recipients]


def _for(message: Message, recipients: tuple[Any, ...]) -> Message:
    return evolve(message, envelope=evolve(message.envelope, recipients=recipients))


def _rounded(instant: float) -> float:
    """Milliseconds: what survives a walk through JSON unchanged, so that a cursor is exact."""
    return round(instant, 3)
