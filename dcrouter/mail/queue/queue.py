"""The queue: what was accepted stays in it until every recipient has it, has been given up, or was dropped.

1. `put` keeps a message durably, then starts its first attempt from memory.
2. A claim (message, recipient) is memory: a crash un-claims, and the next start finds the recipient due.
3. The outcome of an attempt is settled durably, together with the notification of those who failed; only then is the
   claim released, and the notification's own first attempt begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.queue import Retry
from dcrouter.errors import StoreFull
from dcrouter.events import DeliveryDone
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Outcome
from dcrouter.mail.message import Message
from dcrouter.mail.queue.budget import Budget, key_of
from dcrouter.mail.queue.early import Early
from dcrouter.mail.queue.endings import Endings, failure, rounded
from dcrouter.mail.queue.expiry import Expiry
from dcrouter.mail.queue.inherited import Inherited
from dcrouter.mail.queue.moved import Moved
from dcrouter.mail.queue.newcomers import Newcomers
from dcrouter.mail.queue.notices import Notices
from dcrouter.mail.queue.parts import keys_of, part_for, without_deferred
from dcrouter.mail.queue.reports import OnEnd, Reports
from dcrouter.mail.queue.returned import Returned
from dcrouter.mail.queue.room import Room
from dcrouter.mail.queue.schedule import Schedule
from dcrouter.mail.queue.settlement import Settlement
from dcrouter.mail.queue.store import FAILED, HELD_BY_OPERATOR, QUEUED, Due, Key, Store
from dcrouter.mail.queue.sweep import sweep
from dcrouter.mail.queue.telling import Telling
from dcrouter.mail.queue.underway import UnderWay
from dcrouter.mail.queue.wakes import Wakes
from dcrouter.mail.queue.wishes import Wish, Wishes

MAX_CLAIMED = 4000
"""Recipients under way at once; more wait in the store."""

MAX_RETRIED = 2000
"""Of those, how many may have been read from the store: new mail finds room though much waits for what is down."""

SETTLE_AGAIN = 5.0
"""Seconds after a settle that failed; its claim stays, so nobody gets the message twice meanwhile."""

OnDone = Callable[[DeliveryDone], None] | None
Attempt = Callable[[Message], Deferred[list[Outcome]]]
"""Tries all recipients of a message, which share their rule; one outcome each, in order. Never fails."""


class Queue:
    """`attempt` is how mail leaves; `now` the wall clock (UTC epoch seconds), `clock` the timers.

    `on_done` and `ended` hear of each recipient and attempt that has ended.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        retry: Retry,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        room: Room | None = None,
        budget: Budget | None = None,
        on_done: OnDone = None,
        ended: OnEnd = None,
    ) -> None:
        self._reports = Reports(on_done, ended)
        self.counters, self.by_rule, self.kinds = self._reports.counters, self._reports.rules, self._reports.kinds
        self._store = store
        self._attempt = attempt
        self._clock = clock
        self._now = now
        self._room = room
        self._budget = budget or Budget()
        self._telling = Telling(store)
        self._endings = Endings(retry)
        self._claims: set[Key] = set()
        self._retried: set[Key] = set()
        self._settled: set[Key] = set()
        self._wishes = Wishes()
        self._returned = Returned()
        self._early = Early()
        self._newcomers = Newcomers(clock, self._start_new)
        self._under_way = UnderWay()
        self._stopped = False
        self._leaving = False
        self._schedule = Schedule(store, clock, now, self._start_due, self._has_room)
        self.moved = Moved(store, self._schedule.walk)
        self._wakes = Wakes(clock, self._advance)
        self._inherited = Inherited(store, now, self._resumed)
        self._expiry = Expiry(store, retry.max_age, clock, now)

    def start(self, rules: Iterable[str], notices: Notices | None = None) -> None:
        """Takes up what an earlier run left; mail that was held for the lack of one of `rules` is due again.

        `notices` None: nobody is told of failures and delays.
        """
        self._telling.notices = notices
        self._inherited.start()
        self._release_for(rules)
        sweep(self._store, lambda: self._stopped)
        self._expiry.start()

    def reload(self, retry: Retry, rules: Iterable[str], notices: Notices, on_done: OnDone) -> None:
        """For what ends from now on; mail that was held for the lack of one of `rules` is due again."""
        self._endings.retry, self._telling.notices, self._reports.on_done = retry, notices, on_done
        self._expiry.reload(retry.max_age)
        self._release_for(rules)

    def _release_for(self, rules: Iterable[str]) -> None:
        self._store.release(rules, rounded(self._now())).addBoth(lambda _: self._schedule.walk())

    def stop(self) -> None:
        """No further attempt begins."""
        self._stopped = True
        self._schedule.stop()
        self._wakes.stop()
        self._expiry.stop()

    def leave(self) -> None:
        """As `stop`; and who is deferred from now on is so because we go: it stays due, and no attempt is counted."""
        self.stop()
        self._leaving = True

    def when_idle(self) -> Deferred[None]:
        """Fires when no attempt and no settle is under way."""
        return self._under_way.when_none()

    @property
    def full(self) -> bool:
        """Whether nothing more is taken now (452 4.3.1). Cheap."""
        return self._room is not None and self._room.shortage is not None

    def put(self, message: Message) -> Deferred[None]:
        """Fires when the message is durable, which makes it ours; fails with StoreError, which leaves it the
        client's.
        """
        if self._room is not None and (shortage := self._room.shortage) is not None:
            return fail(StoreFull(shortage))
        if self._room is not None and not message.spooled and not self._room.grant(message.size, whole=True):
            return fail(StoreFull("other messages that arrive take the space that is left"))
        now, due = rounded(self._now()), rounded(message.envelope.terms.release)
        if due > now:
            return self._store.put(message, due).addCallback(self._kept_until, due)
        keys = keys_of(message)
        self._claims.update(keys)
        kept = self._store.put(message, now)
        return kept.addCallbacks(self._kept, self._lost, callbackArgs=(message, keys), errbackArgs=(keys,))

    def wake(self, target: str) -> None:
        """The next hop of this name (as in `Deferred.target`) is up: those that wait for it are due, paced."""
        if not self._stopped:
            self._wakes.wake(target)
            self._inherited.wake(target)

    # ------------------------------------------------------------------ what an operator wants

    def hold(self, keys: Sequence[Key], states: Sequence[int], state: int) -> Deferred[None]:
        """Those in one of `states` are in `state`; who is under way is so unless it is delivered or fails."""
        return self._wished(keys, "hold", self._store.change(keys, states, state, rounded(self._now())))

    def drop(self, keys: Sequence[Key]) -> Deferred[None]:
        """They leave, and nobody is told; who is under way may still be delivered."""
        return self._wished(keys, "drop", self._store.remove(keys))

    def resume(self, keys: Sequence[Key], states: Sequence[int]) -> Deferred[None]:
        """Those in one of `states` are due now. Who is under way stays so, and this changes nothing for it."""
        if HELD_BY_OPERATOR in states:
            self._wishes.release(keys)
        self._wakes.forget(keys)
        return self._store.change(keys, states, QUEUED, rounded(self._now())).addCallback(self._resumed)

    def reroute(self, keys: Sequence[Key], states: Sequence[int], rule: str) -> Deferred[None]:
        """They belong to `rule` from their next attempt on; those in one of `states` are due now."""
        return self._store.reroute(keys, rule).addCallback(lambda _: self.resume(keys, states))

    def give_up(self, keys: Sequence[Key], states: Sequence[int], reply: str) -> Deferred[None]:
        """They fail with `reply`, and their senders are told as of any failure; what is under way may be delivered."""
        self._returned.add(keys, reply)
        return self.resume(keys, states)

    def _wished(self, keys: Sequence[Key], wish: Wish, written: Deferred[None]) -> Deferred[None]:
        self._wishes.add(keys, wish)

        def done(result: Any) -> Any:
            self._wishes.written(keys, self._claims)
            if self._schedule.reading:
                self._settled.update(keys)
            self._wakes.forget(keys)
            return result

        return written.addBoth(done)

    def _advance(self, keys: Sequence[Key]) -> None:
        due = rounded(self._now())
        self._store.change(keys, [QUEUED], QUEUED, due, advance=True).addCallbacks(self._resumed, self._unadvanced)

    def _resumed(self, _: None) -> None:
        self._schedule.walk()

    def _unadvanced(self, failure: Failure) -> None:
        self._log.warn("mail was not woken and waits for its time: {reason}", reason=failure.getErrorMessage())

    # ------------------------------------------------------------------ attempts begin

    def _kept_until(self, _: None, due: float) -> None:
        self.counters["accepted"] += 1
        self._schedule.wake_at(due)

    def _kept(self, _: None, message: Message, keys: list[Key]) -> None:
        """It is durable: whatever happens from here on, the client is told so."""
        self.counters["accepted"] += 1
        self._newcomers.add(message, keys)

    def _start_new(self, message: Message, keys: list[Key]) -> None:
        if self._stopped or len(self._claims) > MAX_CLAIMED:
            self._claims.difference_update(keys)
            self._schedule.walk()
            return
        recipients = message.envelope.recipients
        if len(recipients) == 1:
            self._begin(message, whole=True)
            return
        for rule in dict.fromkeys(one.rule for one in recipients):
            own = tuple(one for one in recipients if one.rule == rule)
            self._begin(part_for(message, own), whole=len(own) == len(recipients))

    def _lost(self, failure: Failure, keys: list[Key]) -> Failure:
        self._claims.difference_update(keys)
        return failure

    def _start_due(self, page: Iterable[Due]) -> None:
        unclaimed = [
            due.message
            for due in page
            if not self.moved.busy
            and (key := (due.at.message, due.at.number)) not in self._claims
            and key not in self._settled
        ]
        self._settled.clear()
        for _, group in groupby(unclaimed, key=lambda one: (one.id, one.envelope.recipients[0].rule)):
            parts = list(group)
            message = part_for(parts[0], tuple(part.envelope.recipients[0] for part in parts))
            keys = keys_of(message)
            self._claims.update(keys)
            self._retried.update(keys)
            try:
                self._begin(message, whole=False)
            except Exception:
                self._log.failure("message {message}: not started", message=message.name)

    def _has_room(self) -> bool:
        return len(self._retried) < MAX_RETRIED and len(self._claims) < MAX_CLAIMED and not self._stopped

    def _begin(self, message: Message, *, whole: bool) -> None:
        self._under_way.begin()
        if self._returned:
            left, back = self._returned.split(message)
            if back is not None:
                if left is not None:
                    self._under_way.begin()
                self._ended(self._returned.outcomes(back), back, False, self.moved.total)
                if left is None:
                    return
                message, whole = left, False
        if message.octets is not None and not self._budget.take_now(key_of(message), len(message.octets)):
            message = message.forgotten()
        outcomes = maybeDeferred(self._attempt, message).addErrback(self._broken, message)
        outcomes.addCallback(self._ended, message, whole, self.moved.total).addErrback(self._broken, message)

    def _broken(self, failure: Failure, message: Message) -> list[Outcome]:
        """An attempt that ended in an error of ours: the message stays, and somebody is told."""
        self._log.failure("message {message}: the attempt broke", failure, message=message.name)
        return [Later("4.3.0 internal error")] * len(message.envelope.recipients)

    # ------------------------------------------------------------------ attempts end

    def ended_for(self, message: Message, outcomes: list[Outcome]) -> None:
        """Of an attempt that goes on for others: `message` for those who are through with it, one outcome each."""
        leaving = self._early.leaving(message, outcomes)
        if leaving is not None:
            self._under_way.begin()
            part, delivered = leaving
            self._returned.amended(part, delivered)  # they cannot go back any more
            self._reports.report(part, delivered, ["delivered"] * len(delivered), self._now())
            gone = [one.number for one in part.envelope.recipients]
            self._settle(Settlement(part.forgotten(), gone, [], {}, False))

    def _ended(self, outcomes: list[Outcome], message: Message, whole: bool, since: float) -> None:
        """`since`: by which clock the attempt began."""
        rest = self._early.rest(message, outcomes) if self._early else None
        if rest is not None:
            self._budget.free(key_of(message))
            (message, outcomes), whole = rest, False
            if not outcomes:
                self._under_way.over()
                return
        if self._leaving and any(isinstance(outcome, Later) for outcome in outcomes):
            self._budget.free(key_of(message))
            message, outcomes = without_deferred(message, outcomes)
            if not outcomes:
                self._under_way.over()
                return
            whole = False
        if self._returned:
            outcomes = self._returned.amended(message, outcomes)
        now = self._now()
        if whole and all(isinstance(outcome, Delivered) for outcome in outcomes) and not message.envelope.notifies:
            # What nearly all mail comes to, and therefore the shortest way.
            self._budget.free(key_of(message))
            self._reports.report(message, outcomes, ["delivered"] * len(outcomes), now)
            self._settle(Settlement(message.forgotten(), [], [], {}, True))
            return
        message = self.moved.followed(message, since)
        verdict = self._endings.verdict(message, outcomes, now, self._wishes, tells=self._telling.notices is not None)
        if verdict.told:
            head = self._telling.head(message)
            head.addCallback(lambda octets: self._tell(octets, message, outcomes, now))
            head.addErrback(lambda failure: self._log.failure("message {message}", failure, message=message.name))
            return
        self._reports.report(message, outcomes, verdict.words, now)
        self._budget.free(key_of(message))
        self._settle(Settlement(message.forgotten(), verdict.gone, verdict.changed, verdict.targets, False))

    def _tell(self, head: bytes, message: Message, outcomes: list[Outcome], now: float) -> None:
        """Has the notification written, and settles with it. Whose failure cannot be told of stays as failed."""
        # Anew: the operator may have spoken while the head was read.
        verdict = self._endings.verdict(message, outcomes, now, self._wishes, tells=True)
        self._reports.report(message, outcomes, verdict.words, now)
        self._budget.free(key_of(message))
        notice = self._telling.notice(message, verdict.told, head)
        for one, outcome, action in verdict.told:
            if action == "failed" and notice is not None:
                verdict.gone.append(one.number)
            elif action == "failed":
                verdict.changed.append(failure(message, one, outcome, now))
        notices = (notice,) if notice is not None else ()
        for notice in notices:
            self._claims.update(keys_of(notice))
        self._settle(Settlement(message.forgotten(), verdict.gone, verdict.changed, verdict.targets, False, notices))

    def _settle(self, what: Settlement) -> None:
        if what.whole:
            settled = maybeDeferred(self._store.finish, what.message)
        else:
            due = rounded(self._now())
            self._wishes.amend(what.message.id, what.gone, what.changed, due)
            settled = maybeDeferred(self._store.settle, what.message, what.gone, what.changed, what.notices, due)
        settled.addCallbacks(self._released, self._unsettled, callbackArgs=(what,), errbackArgs=(what,))

    def _released(self, _: None, what: Settlement) -> None:
        keys = keys_of(what.message)
        self._claims.difference_update(keys)
        if self._retried:
            self._retried.difference_update(keys)
        if len(self._wakes):
            self._wakes.forget(keys)
        if self._schedule.reading:
            self._settled.update(keys)
        self._wishes.ended(keys)
        for change in what.changed:
            if change.state == QUEUED:
                self._schedule.wake_at(change.due)
                if change.number in what.targets:
                    self._wakes.wait((what.message.id, change.number), what.targets[change.number])
            elif change.state == FAILED:
                self._expiry.expect()
        for notice in what.notices:
            self._reports.told(what.message, notice)
            self._newcomers.add(notice, keys_of(notice))
        if self._schedule.waits_for_room and len(self._retried) < MAX_RETRIED // 2:
            self._schedule.go_on()
        self._under_way.over()

    def _unsettled(self, failure: Failure, what: Settlement) -> None:
        self._log.error(
            "message {message}: its outcome could not be written, trying again: {reason}",
            message=what.message.name,
            session=what.message.envelope.session,
            reason=failure.getErrorMessage(),
        )
        if self._stopped:
            self._under_way.over()
        else:
            self._clock.callLater(SETTLE_AGAIN, self._settle, what)
