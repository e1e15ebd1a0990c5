"""All SMTP sessions of this process: how they begin, how their time runs out, how they end.

A connection arrives as a descriptor with its facts, and becomes ours. One look at all deadlines per TICK costs less
than a timer per command; it stops when there is no session.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from dcrouter.config.mail import Email
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.message import Ids, Message
from dcrouter.mail.server.account import Account
from dcrouter.mail.server.admission import Admission
from dcrouter.mail.server.intake import InThread
from dcrouter.mail.server.protocol import MailProtocol
from dcrouter.tls.chooser import Chooser
from dcrouter.wire.smtp.events import Limits

TICK = 0.25
"""Seconds: how late a timeout may be noticed."""


class Sessions:
    """`keep` makes a message durable; `closed`, where given, hears of each session that has ended."""

    _log = Logger()

    def __init__(
        self,
        email: Email,
        chooser: Chooser,
        admission: Admission,
        *,
        reactor: Any,
        ids: Ids,
        spool: Path,
        in_thread: InThread,
        keep: Callable[[Message], Deferred[None]],
        closed: Callable[[SessionClosed], None] | None,
    ) -> None:
        self.limits = {kind: _limits(email, kind) for kind in ("smtp", "submission", "smtps")}
        self.timeouts = email.timeouts
        self.hostname = email.hostname
        self.chooser = chooser
        self.admission = admission
        self.clock = reactor
        self.ids = ids
        self.spool = spool
        self.in_thread = in_thread
        self.keep = keep
        self.draining = False
        self.begun = 0
        self._closed = closed
        self._sessions: set[MailProtocol] = set()
        self._tick: IDelayedCall | None = None
        self._empty: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def take(self, fd: int, facts: ConnectionFacts) -> None:
        """Takes an accepted socket over, and closes `fd` (the transport has one of its own). A client that has gone is
        a session that has ended."""
        with socket.socket(fileno=fd) as accepted:
            accepted.setblocking(False)
            factory = _Adopting(self, facts)
            try:
                self.clock.adoptStreamConnection(accepted.fileno(), accepted.family, factory)
            except OSError as error:
                if error.errno not in (errno.ENOTCONN, errno.ECONNRESET, errno.EINVAL):
                    self._log.error("{session}: not taken: {reason}", session=facts.session, reason=str(error))
                if self._closed is not None:
                    account = Account(facts)
                    account.ended("client", f"gone before the greeting: {error.strerror}")
                    self._closed(account.close(0.0))

    def begin(self, facts: ConnectionFacts) -> MailProtocol:
        """A session for a transport that is being made."""
        session = MailProtocol(self, facts)
        self._sessions.add(session)
        self.begun += 1
        if self._tick is None:
            self._tick = self.clock.callLater(TICK, self._look)
        return session

    def gone(self, session: MailProtocol, event: SessionClosed) -> None:
        """A session's connection has ended."""
        self._sessions.discard(session)
        if self._closed is not None:
            self._closed(event)
        if not self._sessions:
            if self._tick is not None:
                self._tick.cancel()
                self._tick = None
            waiting, self._empty = self._empty, []
            for waiter in waiting:
                waiter.callback(None)

    def drain(self, timeout: float) -> Deferred[None]:
        """No new transactions; fires when all sessions have ended, which they have after `timeout` seconds.

        0: whenever they end, of themselves or by `email.timeouts`.
        """
        self.draining = True
        done: Deferred[None] = Deferred()
        for session in list(self._sessions):
            session.drain()
        if not self._sessions:
            done.callback(None)
            return done
        self._empty.append(done)
        if not timeout:
            return done
        cut = self.clock.callLater(timeout, self.abort)
        return done.addBoth(lambda _: cut.cancel() if cut.active() else None)

    def abort(self) -> None:
        """Cuts every connection."""
        for session in list(self._sessions):
            session.abort()

    def _look(self) -> None:
        self._tick = self.clock.callLater(TICK, self._look)
        now = self.clock.seconds()
        late = [one for one in self._sessions if one.deadline is not None and one.deadline <= now]
        for session in late:
            session.expire()


class _Adopting(Factory):
    noisy = False

    def __init__(self, sessions: Sessions, facts: ConnectionFacts) -> None:
        self._sessions = sessions
        self._facts = facts

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._sessions.begin(self._facts)


def _limits(email: Email, kind: str) -> Limits:
    return Limits(
        hostname=email.hostname,
        banner=email.banner,
        max_size=email.max_message_size,
        max_recipients=email.max_recipients,
        starttls=kind != "smtps",
        auth_required=kind != "smtp",
    )
