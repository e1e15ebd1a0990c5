"""One client's SMTP session: the server machine on a Twisted transport.

It feeds the machine, answers what the machine asks (by `Admission`, `Login` and `Transaction`), and writes its replies,
all that have gathered at once. Who the client is comes with the connection, as facts. Deadlines are kept by
`Sessions`, which looks at `deadline` now and then; so a command costs no timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import TlsError, WireError
from dcrouter.events import EndedBy
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.outlet import Outlet
from dcrouter.mail.server import trace
from dcrouter.mail.server.account import Account
from dcrouter.mail.server.admission import Admitted
from dcrouter.mail.server.intake import PIECE
from dcrouter.mail.server.login import BANNED, Verdict
from dcrouter.mail.server.refusals import log_refusal
from dcrouter.mail.server.submission import refused_sender
from dcrouter.mail.server.tls import ACCESS_DENIED, NO_TLS, TLS_READY, Handshake, negotiated
from dcrouter.mail.server.transaction import Transaction
from dcrouter.mail.server.users import User
from dcrouter.wire.clienthello import ALERT_INTERNAL_ERROR
from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.server import Server

if TYPE_CHECKING:
    from dcrouter.mail.server.sessions import Sessions

CLOSE_WITHIN = 5.0
"""Seconds for the last reply, and for TLS to say goodbye; then the connection is cut."""

_DRAINING = b"421 4.3.2 This server is closing"


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class MailProtocol(Protocol):
    """`deadline`: when the client must have done what is awaited, on the reactor's clock; None while we are the slow
    one.
    """

    transport: Any
    _log = Logger()

    def __init__(self, sessions: Sessions, facts: ConnectionFacts) -> None:
        self.facts = facts
        self.deadline: float | None = None
        self.awaited = "greeting"
        self.account = Account(facts)
        self._sessions = sessions
        self._client = sessions.client(facts)
        self._user: User | None = None
        self._machine = Server(sessions.limits(self._client))
        self._machine.draining = sessions.draining
        self._handshake: Handshake | None = None
        self._tls: str | None = None
        self._began = sessions.clock.seconds()
        self._tls_began = self._began
        self._connected = self._paused = self._unread = self._running = self._securing = False
        self._outlet: Outlet | None = None
        self._transaction: Transaction | None = None

    # ------------------------------------------------------------------ the connection

    def connectionMade(self) -> None:
        self._connected = True
        self.transport.setTcpNoDelay(True)
        self.transport.bufferSize = PIECE  # that many octets are read at once, as they are written
        self.transport.registerProducer(self, True)
        self._outlet = Outlet(self.transport)
        self.deadline = self._began + self._sessions.timeouts.greeting
        if self._client.kind != "smtp" and self._sessions.banned(self._client):
            self._turn_away()
        elif self.facts.kind == "smtps":
            self._begin_tls()
        else:
            self._greet()

    def dataReceived(self, data: bytes) -> None:
        if self.account.ending is not None:
            return
        if self._handshake is not None:
            self._receive_hello(self._handshake, data)
            return
        self.account.bytes_in += len(data)
        self._machine.receive(data)
        if self._machine.waiting:
            self._pause()
        else:
            self._run()

    def readConnectionLost(self) -> None:
        """The client has ended its side. What it waits for it still gets: Exim sends its last QUIT with a FIN."""
        if self._machine.waiting and not self._securing:
            self._paused = True  # the reactor reads no more; it meets the end again behind the answer
        else:
            self._end("client", "connection closed")

    def writeConnectionLost(self) -> None:
        """Never: we end both sides at once."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connected = False
        self._abandon()
        clean = reason.check(ConnectionDone) is not None
        self.account.ended("client", "connection closed" if clean else reason.getErrorMessage())
        self._sessions.gone(self, self.account.close(self._sessions.clock.seconds() - self._began))

    def expire(self, reason: str = "") -> None:
        """The deadline has passed, or patience is over for another `reason`."""
        self.deadline = None
        reason = reason or f"{self.awaited} timeout"
        if self.account.ending is not None or self._securing:
            self.account.ended("router", reason)
            self.abort()
            return
        self._machine.close(b"421 4.4.2 Timeout")
        self._end("router", reason)

    def drain(self) -> None:
        """No further transaction; a session without one ends now."""
        self._machine.draining = True
        if self._securing:
            self.account.ended("router", "closing")
            self.abort()
        elif self._machine.idle and not self._machine.waiting and self.account.ending is None:
            self._machine.close(_DRAINING)
            self._end("router", "closing")

    def abort(self) -> None:
        """Cuts the connection now."""
        if self._connected:
            self.transport.abortConnection()

    # ------------------------------------------------------------------ TLS

    def _begin_tls(self) -> None:
        self._handshake = Handshake(self._sessions.chooser)
        self._securing = True
        self._tls_began = self._sessions.clock.seconds()

    def _receive_hello(self, handshake: Handshake, data: bytes) -> None:
        try:
            hello = handshake.receive(data, self.transport)
        except WireError as error:
            self._refuse_tls(error.reply or b"", str(error), "client")
        except TlsError as error:
            self._log.error("{session}: {reason}", session=self.facts.session, reason=str(error))
            self._refuse_tls(ALERT_INTERNAL_ERROR, str(error), "router")
        else:
            if hello is not None:
                self.facts.sni = hello.sni
                self._handshake = None

    def _refuse_tls(self, alert: bytes, reason: str, ended_by: EndedBy) -> None:
        self.account.ended(ended_by, reason)
        self._write(alert)
        self._lose()

    def handshakeCompleted(self) -> None:
        now = self._sessions.clock.seconds()
        self.account.tls_seconds = now - self._tls_began
        self.facts.tls_version, self._tls = negotiated(self.transport)
        self._securing = False
        self._outlet = Outlet(self.transport)
        self._machine.tls_started()
        if self.facts.kind == "smtps":
            self._greet()

    # ------------------------------------------------------------------ the session

    def _turn_away(self) -> None:
        if self.facts.kind == "smtps":
            self._refuse_tls(ACCESS_DENIED, "banned", "router")
        else:
            self._machine.close(BANNED)
            self._end("router", "banned")

    def _greet(self) -> None:
        if self._sessions.draining:
            self._machine.close(_DRAINING)
            self._end("router", "closing")
        else:
            self._write(self._machine.greeting())

    def _run(self) -> None:
        """Does what the machine has to do now, and writes its replies."""
        machine = self._machine
        self._running = True
        try:
            while (event := machine.next_event()) is not None:
                _DUTIES[type(event)](self, event)
        finally:
            self._running = False
        output = machine.take_output()
        self._write(output)
        if machine.closed:
            words = machine.last_words
            self._end("client" if words.startswith("221") else "router", "quit" if words.startswith("221") else words)
            return
        if machine.waiting:
            return
        if self._transaction is not None and self._transaction.backlogged:
            self._pause()
        self._expect(bool(output))

    def _expect(self, answered: bool) -> None:
        """When the client's next move is due; the greeting's deadline is not moved by anything but EHLO."""
        timeouts = self._sessions.timeouts
        if self._machine.in_data:
            self.awaited = "data"
            assert self._transaction is not None
            self.deadline = self._transaction.due(self._sessions.clock.seconds(), timeouts.data)
        elif answered and (self._machine.helo or self.awaited != "greeting"):
            if self.awaited == "greeting":
                self._sessions.admission.met(self._client)
            self.awaited = "command"
            self.deadline = self._sessions.clock.seconds() + timeouts.command

    def _auth(self, event: events.Auth) -> None:
        self.deadline = None
        checked = self._sessions.login.check(event.credentials, self._client, self.facts.session)
        self._answer_later(checked.addCallback(self._logged_in))

    def _logged_in(self, verdict: Verdict) -> bytes:
        if verdict.user is not None:
            self._user = verdict.user
            self._client = evolve(self._client, account=verdict.user.name)
        return verdict.reply

    def _mail(self, event: events.Mail) -> None:
        sender = event.sender
        transaction = Transaction(self._sessions, self.facts.session, self._client, self._user, sender)
        transaction.helo = self._machine.helo
        transaction.tally = self._sessions.admission.tally(self.facts.session, sender)
        self._transaction = transaction
        refusal = refused_sender(self._user, sender.address) if self._user is not None else None
        if refusal is not None:
            admitted = Admitted(refusal, why="the account may not send as it")
        else:
            admitted = self._sessions.admission.sender(self._client, sender, transaction.tally)
        if admitted.why:
            log_refusal(self.facts, f"sender {sender.address}", admitted)
        self._machine.answer(admitted.reply)

    def _recipient(self, event: events.Recipient) -> None:
        assert self._transaction is not None
        transaction = self._transaction
        admitted = self._sessions.admission.recipient(
            self._client, transaction.sender, event.address, transaction.taken, transaction.tally
        )
        if isinstance(admitted, Deferred):
            self.deadline = None
            self._answer_later(admitted.addCallback(self._admitted, transaction, event.address))
        else:
            self._machine.answer(self._admitted(admitted, transaction, event.address))

    def _admitted(self, admitted: Admitted, transaction: Transaction, address: str) -> bytes:
        if admitted.rule is not None:
            transaction.admit(admitted.address, admitted.rule)
        else:
            log_refusal(self.facts, address, admitted)
        return admitted.reply

    def _data_start(self, event: events.DataStart) -> None:
        assert self._transaction is not None
        self._transaction.begin(self._received, self._resume)

    def _received(self, name: str, only: str | None) -> bytes:
        return trace.received(
            self.facts,
            helo=self._machine.helo,
            esmtp=self._machine.esmtp,
            tls=self._tls,
            authenticated=self._user is not None,
            hostname=self._sessions.hostname,
            name=name,
            only=only,
        )

    def _data(self, event: events.Data) -> None:
        assert self._transaction is not None
        self._transaction.add(event.octets)

    def _end_of_data(self, event: events.EndOfData) -> None:
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        if event.flaw is not None:
            transaction.abandon()
            self._machine.answer(event.flaw + b"\r\n")
            return
        answer = transaction.end(event.octets, event.dotless)
        if isinstance(answer, bytes):
            self._machine.answer(answer)
        else:
            self.deadline = None
            self._answer_later(answer)

    def _answer_later(self, answer: Deferred[bytes]) -> None:
        answer.addCallback(self._answer)
        answer.addErrback(lambda failure: self._log.failure("{session}", failure, session=self.facts.session))

    def _answer(self, reply: bytes) -> None:
        """The answer that came later, or at once: the session goes on where it stood."""
        if not self._connected or self._machine.closed:
            return
        self._machine.answer(reply)
        if self._running:
            return
        if self._sessions.draining and not self._machine.closed:
            self._machine.close(_DRAINING)
        self._resume()
        self._run()

    def _start_tls(self, event: events.StartTls) -> None:
        try:
            self._sessions.chooser.mail_context(None)
        except TlsError as error:
            self._log.error("{session}: {reason}", session=self.facts.session, reason=str(error))
            self._machine.answer(NO_TLS)
            return
        self._machine.answer(TLS_READY)
        self._begin_tls()
        self.awaited = "greeting"
        self.deadline = self._sessions.clock.seconds() + self._sessions.timeouts.greeting

    def _abandon(self, event: events.Reset | None = None) -> None:
        if self._transaction is not None:
            self._transaction.abandon()
            self._transaction = None

    # ------------------------------------------------------------------ the transport

    def _write(self, data: bytes) -> None:
        if data and self._connected and self._outlet is not None:
            self.account.bytes_out += len(data)
            self._outlet.write(data)

    def pauseProducing(self) -> None:
        """Replies pile up: a client that does not read them is not read either."""
        self._unread = True
        self._pause()

    def resumeProducing(self) -> None:
        """The replies have left."""
        self._unread = False
        if not (self._machine.waiting or (self._transaction is not None and self._transaction.backlogged)):
            self._resume()

    def stopProducing(self) -> None:
        """The connection ends; connectionLost says so."""

    def _pause(self) -> None:
        if not self._paused and self._connected:
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if self._paused and self._connected and not self._unread:
            self._paused = False
            self.transport.resumeProducing()

    def _end(self, ended_by: EndedBy, reason: str) -> None:
        """What is left to say is said; then the connection is closed."""
        if self.account.ending is None:
            self.account.ended(ended_by, reason)
            self._write(self._machine.take_output())
            self._lose()

    def _lose(self) -> None:
        self._abandon()
        self.deadline = self._sessions.clock.seconds() + CLOSE_WITHIN
        if self._connected:
            self.transport.unregisterProducer()  # or it would wait for us to end
            self.transport.loseConnection()


_DUTIES: dict[type, Callable[[MailProtocol, Any], None]] = {
    events.Auth: MailProtocol._auth,
    events.Mail: MailProtocol._mail,
    events.Recipient: MailProtocol._recipient,
    events.DataStart: MailProtocol._data_start,
    events.Data: MailProtocol._data,
    events.EndOfData: MailProtocol._end_of_data,
    events.StartTls: MailProtocol._start_tls,
    events.Reset: MailProtocol._abandon,
}
