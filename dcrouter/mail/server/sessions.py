"""All SMTP sessions of this process: how they begin, how their time runs out, how they end.

A connection arrives as a descriptor with its facts, and becomes ours.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dcrouter.config.actions import MailKind
from dcrouter.config.mail import Email
from dcrouter.config.security import MinRate
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.authentication.checks import Authentication
from dcrouter.mail.envelope import Client
from dcrouter.mail.message import Ids, Message
from dcrouter.mail.queue.notices import Ended
from dcrouter.mail.server.account import Account
from dcrouter.mail.server.admission import Admission
from dcrouter.mail.server.login import Login
from dcrouter.mail.server.memory import Memory
from dcrouter.mail.server.protocol import MailProtocol
from dcrouter.mail.server.slots import Slots, room_for_sessions
from dcrouter.mail.server.spool import Spool
from dcrouter.mail.shaping.zones import Zones
from dcrouter.match.addresses import Networks
from dcrouter.net.adopt import adopt
from dcrouter.net.floor import REASON, Pace
from dcrouter.net.living import Living, had_gone
from dcrouter.tls.chooser import Chooser
from dcrouter.wire.smtp.events import Limits
from dcrouter.wire.smtp.parameters import Offers

_KINDS: dict[str, MailKind] = {"submission": "submission", "smtps": "smtps"}


class Sessions(Living[MailProtocol]):
    """`keep` makes a message durable; `tell` writes what its sender is told of recipients that it turned out not to be
    for, None: nobody is told. `closed`, where given, hears of each session that has ended.
    """

    _log = Logger()

    def __init__(
        self,
        email: Email,
        chooser: Chooser,
        admission: Admission,
        login: Login,
        authentication: Authentication,
        *,
        reactor: Any,
        ids: Ids,
        spool: Spool,
        keep: Callable[[Message], Deferred[None]],
        tell: Callable[[Message, Sequence[Ended], bytes], Message | None],
        closed: Callable[[SessionClosed], None] | None,
        memory: Memory,
    ) -> None:
        super().__init__(reactor, closed)
        self.timeouts = email.timeouts
        self.hostname = email.hostname
        self.chooser = chooser
        self.admission = admission
        self.login = login
        self.authentication = authentication
        self.ids = ids
        self.spool = spool
        self.keep = keep
        self.tell = tell
        self.draining = False
        self.slots = Slots(email, room_for_sessions(memory.total, apart=email.home is not None))
        self._memory = memory
        self.zones = Zones(email.zones)
        self._email = email
        self._trusted = Networks(email.trusted)
        self._introducers = Networks(email.xclient_from)
        self._limits: dict[tuple[MailKind, bool, tuple[str, ...], bool], Limits] = {}

    def reload(self, email: Email, chooser: Chooser) -> None:
        """Sessions go on: their next command meets what is new, what they were offered at EHLO stays."""
        self.timeouts = email.timeouts
        self.chooser = chooser
        self.zones = Zones(email.zones)
        self._email = email
        self._trusted = Networks(email.trusted)
        self._introducers = Networks(email.xclient_from)
        self.slots.reload(email)
        self.authentication.reload(email)
        self._limits.clear()

    @property
    def behind_edges(self) -> bool:
        """Whether clients reach us through edges that are services of their own (`email.remote`)."""
        return bool(self._email.edges)

    def take(self, fd: int, facts: ConnectionFacts, least: MinRate | None = None) -> None:
        """Takes an accepted socket over. A client that has gone is a session that has ended. `least`: it must move."""
        accepted = socket.socket(fileno=fd)
        try:
            adopt(self.clock, accepted, lambda: self.begin(facts, least))
        except OSError as error:
            accepted.close()
            if not had_gone(error):
                self._log.error("{session}: not taken: {reason}", session=facts.session, reason=str(error))
            account = Account(facts)
            account.ended("client", f"gone before the greeting: {error.strerror}")
            self.report(account.close(0.0))

    def client(self, facts: ConnectionFacts) -> Client:
        """Who is at the other end of a new connection."""
        address = facts.peer[0]
        trusted = bool(self._email.trusted) and self._trusted.covers(address)
        return Client(address=address, kind=_KINDS.get(facts.kind or "", "smtp"), trusted=trusted)

    def limits(self, client: Client, peer: str) -> Limits:
        """What this client is offered and asked for; `peer`: the address of who speaks for it, or its own."""
        offered = self.login.offered()
        xclient = bool(self._email.xclient_from) and self._introducers.covers(peer)
        key = (client.kind, client.trusted, offered, xclient)
        found = self._limits.get(key)
        if found is None:
            found = self._limits[key] = _limits(self._email, client, offered, xclient)
        return found

    def banned(self, client: Client) -> bool:
        """Whether it is turned away where clients log in; mail from servers does not suffer from it."""
        return not client.trusted and self.login.banned(client.address)

    def admit(self, session: MailProtocol) -> bool:
        """Whether there is a slot for it, and memory."""
        if self._memory.short:
            self.slots.turned_away += 1
            return False
        return self.slots.enter(session)

    def begin(self, facts: ConnectionFacts, least: MinRate | None = None) -> MailProtocol:
        """A session for a transport that is being made."""
        session = MailProtocol(self, facts)
        self.enter(session, least)
        return session

    def gone(self, session: MailProtocol, event: SessionClosed) -> None:
        """A session's connection has ended."""
        self.slots.leave(session)
        self.leave(session, event)

    def cut(self, one: MailProtocol) -> None:
        one.account.ended("router", "ended by the operator")
        one.abort()

    def shown(self, one: MailProtocol, now: float) -> dict[str, Any]:
        return one.account.shown(now)

    def drain(self, timeout: float) -> Deferred[None]:
        """No new transactions; fires when all sessions have ended, which they have after `timeout` seconds.

        0: whenever they end, of themselves or by `email.timeouts`.
        """
        self.draining = True
        for session in list(self._living):
            session.drain()
        done = self.empty()
        if done.called or not timeout:
            return done
        cut = self.clock.callLater(timeout, self.abort)
        return done.addBoth(lambda _: cut.cancel() if cut.active() else None)

    def abort(self) -> None:
        """Cuts every connection."""
        for session in list(self._living):
            session.abort()

    def look(self, now: float) -> None:
        late = [one for one in self._living if one.deadline is not None and one.deadline <= now]
        for session in late:
            session.expire()
        for session in [one for one, pace in self._paces.items() if _too_slow(one, pace, now)]:
            session.expire(REASON)


def _too_slow(session: MailProtocol, pace: Pace, now: float) -> bool:
    """A period in which the client waits for us does not count."""
    moved = session.account.bytes_in + session.account.bytes_out
    if session.deadline is None:
        pace.begin(now, moved)
        return False
    return now >= pace.ends and pace.too_slow(now, moved)


MAX_HOLD = 30 * 86_400
"""Seconds that a message may be held before it is sent (RFC 4865)."""


def _offers(kind: MailKind, *, may_relay: bool) -> Offers:
    """DSN only to who may relay: others learn nothing from us of what becomes of mail. To hold mail, and to send it
    before others', is for those who submit it (RFC 4865 2, RFC 6710 3).
    """
    submits = may_relay and kind != "smtp"
    return Offers(dsn=may_relay, hold=MAX_HOLD if submits else 0, priority=submits, requiretls=True)


def _limits(email: Email, client: Client, offered: tuple[str, ...], xclient: bool) -> Limits:
    kind = client.kind
    auth_required = kind in email.auth.required and not client.trusted
    return Limits(
        hostname=email.hostname,
        banner=email.banner,
        max_size=email.max_message_size,
        max_recipients=email.max_recipients,
        starttls=kind != "smtps",
        tls_required=email.require_tls == "always" or email.require_tls == kind,
        auth=offered,
        auth_required=auth_required,
        offers=_offers(kind, may_relay=client.trusted or auth_required),
        offers_to_users=_offers(kind, may_relay=True),
        strict=not client.trusted,
        xclient=xclient,
    )
