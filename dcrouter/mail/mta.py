"""The mail half as one object: what the mail process makes, feeds with connections, and asks about the queue."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults, succeed

from dcrouter.config.admin import Config
from dcrouter.config.mail import Email
from dcrouter.config.security import MinRate
from dcrouter.durable import lock, make_directory
from dcrouter.errors import StartError, StoreError
from dcrouter.events import DeliveryDone, LimitReached, MailReturned, SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.authentication.checks import Authentication
from dcrouter.mail.authentication.lookups import Lookups
from dcrouter.mail.delivery.attempt import Attempts
from dcrouter.mail.delivery.bounce import Notifications
from dcrouter.mail.delivery.exchange import Finder
from dcrouter.mail.delivery.exchangers import SMTP_PORT, Exchangers, OwnAddresses
from dcrouter.mail.delivery.patience import DOWN, Patience
from dcrouter.mail.delivery.policy.fetch import HTTPS_PORT
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.message import Ids, Message
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.queue.budget import Bodies, Budget
from dcrouter.mail.queue.operator import Operator
from dcrouter.mail.queue.queue import Queue
from dcrouter.mail.queue.room import Room, unopened
from dcrouter.mail.queue.store import Store
from dcrouter.mail.queue.stores.memory import MemoryStore
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from dcrouter.mail.server.admission import Admission
from dcrouter.mail.server.guards.guards import Guards
from dcrouter.mail.server.login import Login
from dcrouter.mail.server.memory import Memory
from dcrouter.mail.server.sessions import Sessions
from dcrouter.mail.server.spool import Spool
from dcrouter.mail.server.verify import asked_hops, in_turn
from dcrouter.mail.settime import SetTime
from dcrouter.mail.shaping.operator import VERBS, PauseOrders
from dcrouter.mail.shaping.shaping import Shaping
from dcrouter.mail.world import World
from dcrouter.net.channel import Channel
from dcrouter.net.resolver import Resolver
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.keysets import KeySets

DIRECTORY = "mail"
"""Under state_dir: the queue's database and its spool."""

LOCK = "lock"
"""In it: held by the process that has the queue."""

CLOSE_WITHIN = 10.0
"""Seconds for attempts to end and be settled at close; one that does not is made again after the next start."""


@frozen(kw_only=True, eq=False)
class Succession:
    """Another configuration, ready to be used."""

    config: Config
    email: Email
    rules: Rules
    ca_files: Mapping[str, bytes]


class Mta:
    """`on_closed`, where given, hears of each session that has ended, `on_done` of each recipient of each attempt,
    `on_event` of limits that were reached and have `alert`, and of mail that has come back.
    `config.email` must be there.

    Life: `start`, then `take` for each connection, then `drain` (optional), then `close`.
    """

    def __init__(
        self,
        config: Config,
        chooser: Chooser,
        reactor: Any,
        on_closed: Callable[[SessionClosed], None] | None = None,
        on_done: Callable[[DeliveryDone], None] | None = None,
        *,
        ca_files: Mapping[str, bytes] | None = None,
        patience: Patience | None = None,
        mx_port: int = SMTP_PORT,
        https_port: int = HTTPS_PORT,
        on_event: Callable[[LimitReached | MailReturned], None] | None = None,
    ) -> None:
        if config.email is None:
            raise StartError("there is no email in this configuration")
        self._email = config.email
        self._chooser = chooser
        self._reactor = reactor
        self._on_closed = on_closed
        self._rules = Rules(config.email)
        home = config.email.home or config.state_dir
        queue, directory = config.email.queue, home / DIRECTORY
        self._directory, self._lock = directory, -1
        self._store: Store
        if queue.store == "memory":
            self._store = MemoryStore(directory, reactor)
        else:
            self._store = SqliteStore(directory, reactor)
        self._mx_port = mx_port
        self._resolver = Resolver(config.resolver, reactor)
        self._ledger = Ledger(directory, reactor, time.time, self._in_thread)
        self._world = World(
            config.email,
            directory,
            self._resolver,
            self._ledger,
            reactor,
            time.time,
            self._in_thread,
            self._store.head,
            on_event,
            https_port,
        )
        self._room = Room(
            lambda: self._store.messages,
            queue.max_size,
            directory,
            queue.min_free_disk,
            reactor.seconds,
            lambda: self._spool.coming,
        )
        self._memory = Memory(reactor.seconds)
        budget = Budget()
        self._shaping = Shaping(
            directory, self._ledger, reactor, time.time, self._in_thread, lambda target: self._queue.wake(target)
        )
        limits = self._shaping.limits
        self._pause_orders = PauseOrders(
            self._shaping.pauses, time.time, limits.zone_names, limits.provider_names, self._shaping.sources.addresses
        )
        self._attempts = Attempts(
            self._rules,
            Bodies(self._store, budget),
            home,
            config.email,
            reactor,
            patience or Patience(down=_down(config.email)),
            shaping=self._shaping,
            resolver=self._resolver,
            exchangers=self._exchangers(config, config.email),
            ca_files=ca_files or {},
            recovered=lambda target: self._queue.wake(target),
            mx_port=mx_port,
            seen=self._world.seen,
            suppressed=self._world.suppression.why,
            marked=self._world.returns.marked,
            hear=lambda message, outcomes: self._queue.ended_for(message, outcomes),
        )
        self._set_time = SetTime(reactor, time.time)
        self._queue = Queue(
            self._store,
            self._attempts.attempt,
            queue.retry,
            reactor,
            self._set_time.now,
            room=self._room,
            budget=budget,
            on_done=on_done,
            ended=self._world.ended,
        )
        try_all = self._attempts.destinations.try_all
        self._operator = Operator(
            self._store,
            self._queue,
            time.time,
            try_all,
            lambda: self._email.rules,
            lambda: self._ids.last if self._ids is not None else 0,
        )
        self.key_sets = KeySets()
        self._login = Login(
            config.email.auth, reactor, key_sets=self.key_sets, state_dir=directory, ledger=self._ledger
        )
        self._guards = Guards(self._ledger, self._resolver, reactor, time.time, on_event)
        self._admission = Admission(
            config.email,
            self._rules,
            clock=reactor,
            in_thread=self._attempts.in_thread,
            ask=in_turn(self._attempts.verify, asked_hops),
            full=lambda size: self._queue.full or self._memory.short or not self._spool.has_room(size),
            guards=self._guards,
            suppressed=self._world.suppression.why,
            bare=self._world.returns.bare,
        )
        self._spool = Spool(self._store.spool, self._attempts.in_thread, self._room)
        self._set_time.told = (self._queue.moved.clock_set, self._shaping.pauses.clock_set)
        self.sessions: Sessions | None = None
        self._ids: Ids | None = None

    def start(self) -> None:
        """Opens the store, which blocks, and takes up what is queued. Raises StoreError."""
        try:
            make_directory(self._directory)
            self._lock = lock(self._directory / LOCK)
        except BlockingIOError:
            raise StoreError(f"{self._directory} is in use by another dcrouter, or one of its halves") from None
        except OSError as error:
            raise unopened(self._directory, f"the mail queue in {self._directory}: {error}") from error
        ids = self._ids = Ids.after(self._store.open())
        self._shaping.open()
        self._attempts.start()
        self._admission.open()
        self._login.open()
        self.sessions = Sessions(
            self._email,
            self._chooser,
            self._admission,
            self._login,
            Authentication(self._email, Lookups(self._resolver, self._reactor)),
            reactor=self._reactor,
            ids=ids,
            spool=self._spool,
            keep=self._keep,
            tell=lambda message, ended, head: self._notifications(ids).told(message, ended, head),
            closed=self._on_closed,
            memory=self._memory,
        )
        self._queue.start((rule.name for rule in self._email.rules), self._notifications(ids))
        self._world.start(self._email, self._rules, ids.next, self._queue.put)
        self._set_time.start()

    def succession(self, config: Config, ca_files: Mapping[str, bytes]) -> Succession:
        """What `reload` needs of another configuration; StartError where that has no mail."""
        if config.email is None:
            raise StartError("there is no email in this configuration")
        return Succession(config=config, email=config.email, rules=Rules(config.email), ca_files=ca_files)

    def reload(
        self, to: Succession, chooser: Chooser, on_done: Callable[[DeliveryDone | SessionClosed], None] | None
    ) -> None:
        """Another configuration from now on: sessions, deliveries under way, the queue and what was learnt of next hops
        and clients stay. What config/changes.py says needs a restart must be the same.
        """
        assert self.sessions is not None and self._ids is not None
        email, queue = to.email, to.email.queue
        self._email, self._rules = email, to.rules
        self._attempts.reload(email, to.rules, self._exchangers(to.config, email), to.ca_files, _down(email))
        self._admission.reload(email, to.rules)
        self._login.reload(email.auth)
        self.sessions.reload(email, chooser)
        self._room.reload(queue.max_size, queue.min_free_disk)
        self._queue.reload(queue.retry, (rule.name for rule in email.rules), self._notifications(self._ids), on_done)
        self._world.reload(email, to.rules, self._ids.next, self._queue.put)

    def _notifications(self, ids: Ids) -> Notifications:
        return Notifications(self._email, self._rules, ids.next, time.time, self._admission.expand)

    def _exchangers(self, config: Config, email: Email) -> Finder:
        own = OwnAddresses(email, config.listen, self._mx_port)
        exchangers = Exchangers(self._resolver, email.hostname, own)

        def obeyed(host: str, domain: str) -> tuple[bool, bool]:
            return self._attempts.destinations.limits.obeyed(host, domain)

        return self._world.secured(exchangers, obeyed)

    def _keep(self, message: Message) -> Deferred[None]:
        """A message has come; what comes back to us is looked at, too, once it is durable."""
        kept = self._queue.put(message)
        return kept.addCallback(lambda _: self._world.returns.kept(message)) if self._world.returns.expected else kept

    def _in_thread(self, call: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return self._attempts.in_thread(call, *args)

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """The authorities that rules name have changed."""
        self._attempts.destinations.believe(ca_files)

    def take(self, fd: int, facts: ConnectionFacts, least: MinRate | None = None) -> None:
        """An accepted socket, which is ours from now on. `facts.kind` says what it speaks; `least`: it must move."""
        assert self.sessions is not None
        self.sessions.take(fd, facts, least)

    def drain(self, timeout: float) -> Deferred[None]:
        """No new transaction begins, inwards or outwards; fires when those under way have ended, or after `timeout`."""
        self._queue.stop()
        if self.sessions is None:
            return succeed(None)
        idle = self._queue.when_idle()
        if timeout:
            idle.addTimeout(timeout, self._reactor, onTimeoutCancel=lambda result, _: None)
        return gatherResults([self.sessions.drain(timeout), idle]).addCallback(lambda _: None)

    def close(self) -> Deferred[None]:
        """Cuts what is left and closes the store; what is queued stays queued."""
        self._queue.leave()
        self._set_time.stop()
        if self.sessions is not None:
            self.sessions.draining = True
            self.sessions.abort()
        self._attempts.break_off()
        idle = self._queue.when_idle()
        idle.addTimeout(CLOSE_WITHIN, self._reactor, onTimeoutCancel=lambda result, _: None)

        def shut(_: None) -> None:
            self._login.close()
            self._world.stop()
            self._resolver.close()
            self._attempts.close()
            self._shaping.close()
            self._ledger.close()
            self._store.close()
            if self._lock != -1:
                os.close(self._lock)

        return idle.addCallback(shut)

    def status(self) -> dict[str, Any]:
        """Counters since the start, and `connections` and `queued` as of now."""
        sessions = self.sessions
        return {
            "sessions": sessions.begun if sessions is not None else 0,
            "connections": len(sessions) if sessions is not None else 0,
            "bytes_in": sessions.bytes_in if sessions is not None else 0,
            "bytes_out": sessions.bytes_out if sessions is not None else 0,
            "ends": sessions.ends if sessions is not None else {},
            "queued": self._store.messages,
            **(sessions.slots.status() if sessions is not None else {}),
            **self._login.status(),
            **self._admission.status(),
            **self._resolver.status(),
            **self._queue.counters,
            "rules": self._queue.by_rule,
            **self._attempts.status(),
            "bounces": self._queue.kinds,
            **self._world.returns.counters,
            "learnt_suppressed": self._world.suppression.learnt,
        }

    def queue_counts(self) -> Deferred[dict[str, Any]]:
        """Recipients that are `queued`, `deferred`, `held`, `failed`; `oldest`: seconds since the oldest came."""
        now = time.time()

        def aged(counts: dict[str, Any]) -> dict[str, Any]:
            oldest = counts["oldest"]
            return {**counts, "oldest": None if oldest is None else round(max(now - oldest, 0.0), 1)}

        return self._store.counts(now).addCallback(aged)

    def meet_handlers(self, channel: Channel | None) -> None:
        """The process that runs the operator's code is there, with it as it is now; or (None) gone."""
        self._attempts.egress.asking.meet(channel)

    def handlers_said(self, fields: dict[str, Any]) -> None:
        """An answer to a question of ours."""
        self._attempts.egress.asking.answered(fields)

    def bans(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What an operator asks of the bans, see server/bans.py."""
        return self._login.ask_bans(fields)

    def suppression(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What an operator asks of addresses to which nothing is sent, see bounces/suppression.py."""
        return self._world.suppression.answered(fields)

    def queue_ask(self, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """What an operator asks of the queue, see `Operator`, and of pauses, see `PauseOrders`."""
        if fields.get("do") in VERBS:
            return succeed(self._pause_orders.ask(fields))
        if fields.get("do") == "delivery":
            assert self.sessions is not None
            return self._attempts.explainer(self.sessions.zones).ask(fields)
        return self._operator.ask(fields)


def _down(email: Email) -> float:
    """Seconds for which a next hop that was found down is left alone: no longer than mail waits for its first retry."""
    return min(DOWN, email.queue.retry.base)
