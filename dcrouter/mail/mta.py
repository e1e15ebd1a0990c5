"""The mail half as one object: what the mail process makes, feeds with connections, and asks about the queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed

from dcrouter.config.admin import Config
from dcrouter.errors import StartError
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.delivery.attempt import Attempts
from dcrouter.mail.delivery.destination import Patience
from dcrouter.mail.message import Ids, parse_name
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.queue.queue import Queue
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from dcrouter.mail.server.admission import Admission
from dcrouter.mail.server.intake import Spool
from dcrouter.mail.server.login import Login
from dcrouter.mail.server.sessions import Sessions
from dcrouter.tls.chooser import Chooser

DIRECTORY = "mail"
"""Under state_dir: the queue's database and its spool."""

CLOSE_WITHIN = 10.0
"""Seconds for attempts to end and be settled at close; one that does not is made again after the next start."""


class Mta:
    """`on_closed`, where given, hears of each session that has ended. `config.email` must be there.

    Life: `start`, then `take` for each connection, then `drain` (optional), then `close`.
    """

    def __init__(
        self,
        config: Config,
        chooser: Chooser,
        reactor: Any,
        on_closed: Callable[[SessionClosed], None] | None = None,
        *,
        patience: Patience | None = None,
    ) -> None:
        if config.email is None:
            raise StartError("there is no email in this configuration")
        self._email = config.email
        self._chooser = chooser
        self._reactor = reactor
        self._on_closed = on_closed
        self._rules = Rules(config.email)
        self._store = SqliteStore(config.state_dir / DIRECTORY, reactor)
        self._attempts = Attempts(
            self._rules, self._store, config.state_dir, config.email.hostname, reactor, patience or Patience()
        )
        self._queue = Queue(self._store, self._attempts.attempt, config.email.queue.retry, reactor, time.time)
        self._login = Login(config.email.auth, reactor)
        self._sessions: Sessions | None = None

    def start(self) -> None:
        """Opens the store, which blocks, and takes up what is queued. Raises StoreError."""
        last = self._store.open()
        self._attempts.start()
        self._login.open()
        self._sessions = Sessions(
            self._email,
            self._chooser,
            Admission(self._rules),
            self._login,
            reactor=self._reactor,
            ids=Ids.after(last),
            spool=Spool(self._store.spool, self._attempts.in_thread),
            keep=self._queue.put,
            closed=self._on_closed,
        )
        self._queue.start(rule.name for rule in self._email.rules)

    def take(self, fd: int, facts: ConnectionFacts) -> None:
        """An accepted socket, which is ours from now on. `facts.kind` says what it speaks."""
        assert self._sessions is not None
        self._sessions.take(fd, facts)

    def drain(self, timeout: float) -> Deferred[None]:
        """No new transaction begins, inwards or outwards; fires when those under way have ended, or after `timeout`."""
        self._queue.stop()
        if self._sessions is None:
            return succeed(None)
        idle = self._queue.when_idle()
        if timeout:
            idle.addTimeout(timeout, self._reactor, onTimeoutCancel=lambda result, _: None)
        return gatherResults([self._sessions.drain(timeout), idle]).addCallback(lambda _: None)

    def close(self) -> Deferred[None]:
        """Cuts what is left and closes the store; what is queued stays queued."""
        self._queue.leave()
        if self._sessions is not None:
            self._sessions.draining = True
            self._sessions.abort()
        self._attempts.break_off()
        idle = self._queue.when_idle()
        idle.addTimeout(CLOSE_WITHIN, self._reactor, onTimeoutCancel=lambda result, _: None)

        def shut(_: None) -> None:
            self._login.close()
            self._attempts.close()
            self._store.close()

        return idle.addCallback(shut)

    def status(self) -> dict[str, int]:
        """Counters since the start, and `connections` and `queued` as of now."""
        sessions = self._sessions
        return {
            "sessions": sessions.begun if sessions is not None else 0,
            "connections": len(sessions) if sessions is not None else 0,
            "queued": self._store.messages,
            **self._login.status(),
            **self._queue.counters,
        }

    def queue_list(self, limit: int = 1000) -> Deferred[list[dict[str, Any]]]:
        """At most `limit` recipients that are queued, held or failed, oldest message first, with the last reply."""
        return self._store.listing(limit)

    def queue_drop(self, message_id: str) -> Deferred[bool]:
        """Removes a message, with all its recipients; False where there is none of this name."""
        number = parse_name(message_id)
        return self._store.drop(number) if number is not None else succeed(False)
