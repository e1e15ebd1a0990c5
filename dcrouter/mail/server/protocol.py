"""One client's SMTP session: the server machine on a Twisted transport.

It feeds the machine, and writes its replies, all that have gathered at once; what the machine asks for is done by
`Conversation`. Who the client is comes with the connection, as facts. Deadlines are kept by `Sessions`, which looks at
`deadline` now and then; so a command costs no timer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import TlsError, WireError
from dcrouter.events import EndedBy
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.outlet import Outlet
from dcrouter.mail.server.account import Account
from dcrouter.mail.server.bindings import channel_bindings
from dcrouter.mail.server.conversation import Conversation
from dcrouter.mail.server.early import EARLY, has_talked
from dcrouter.mail.server.intake import PIECE
from dcrouter.mail.server.login import BANNED
from dcrouter.mail.server.tls import ACCESS_DENIED, Handshake, acknowledge, negotiated
from dcrouter.wire.clienthello import ALERT_INTERNAL_ERROR
from dcrouter.wire.smtp import said

if TYPE_CHECKING:
    from dcrouter.mail.server.sessions import Sessions

NO_SLOT = "no free slot"
"""Why a session ends that makes room, or for which there is none."""

CLOSE_WITHIN = 5.0
"""Seconds for the last reply, and for TLS to say goodbye; then the connection is cut."""


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class MailProtocol(Conversation, Protocol):
    """`_early`: TLS is there, and what comes now was sent before the greeting could be read.

    `deadline`: when the client must have done what is awaited, on the reactor's clock; None while we are the slow
    one.
    """

    transport: Any

    def __init__(self, sessions: Sessions, facts: ConnectionFacts) -> None:
        super().__init__(sessions, facts)
        self.deadline: float | None = None
        self.awaited = "greeting"
        self.account = Account(facts)
        self._handshake: Handshake | None = None
        self._began = sessions.clock.seconds()
        self._tls_began = self._began
        self._connected = self._paused = self._unread = self._running = self._securing = False
        self._early = False
        self._outlet: Outlet | None = None

    # ------------------------------------------------------------------ the connection

    def connectionMade(self) -> None:
        self._connected = True
        self.transport.setTcpNoDelay(True)
        self.transport.bufferSize = PIECE  # that many octets are read at once, as they are written
        self.transport.registerProducer(self, True)
        self._outlet = Outlet(self.transport)
        self.deadline = self._began + self.sessions.timeouts.greeting
        if self.client.kind != "smtp" and self.sessions.banned(self.client):
            self._turn_away(BANNED, ACCESS_DENIED, "banned")
        elif not self.sessions.admit(self):
            self._turn_away(said.BUSY, b"", NO_SLOT)
        elif self.facts.kind == "smtps":
            self._begin_tls()
        elif self.machine.limits.strict and has_talked(self.transport):
            self._turn_away(EARLY, b"", "talked before the greeting")
        else:
            self._greet()

    def dataReceived(self, data: bytes) -> None:
        if self.account.ending is not None:
            return
        if self._handshake is not None:
            self._receive_hello(self._handshake, data)
            return
        self.account.bytes_in += len(data)
        if self._early:
            self._turn_away(EARLY, b"", "talked before the greeting")
            return
        self.machine.receive(data)
        if self.machine.waiting:
            self._pause()
        else:
            self._run()

    def readConnectionLost(self) -> None:
        """The client has ended its side. What it waits for it still gets: Exim sends its last QUIT with a FIN."""
        if self.machine.waiting and not self._securing:
            self._paused = True  # the reactor reads no more; it meets the end again behind the answer
            return
        if self.sessions.behind_edges and not self._securing and self.account.ending is None:
            self.machine.close(said.CLOSING)  # so ends an edge that stops the sessions of its clients
        self._end("client", "connection closed")

    def writeConnectionLost(self) -> None:
        """Never: we end both sides at once."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connected = False
        self.abandon()
        words = {ConnectionDone: "connection closed", ConnectionLost: "connection lost"}
        how = reason.check(*words)
        self.account.ended("client", words[how] if how is not None else reason.getErrorMessage())
        self.sessions.gone(self, self.account.close(self.sessions.clock.seconds() - self._began))

    def expire(self, reason: str = "") -> None:
        """The deadline has passed, or patience is over for another `reason`."""
        self.deadline = None
        reason = reason or f"{self.awaited} timeout"
        if self.account.ending is not None or self._securing:
            self.account.ended("router", reason)
            self.abort()
            return
        self.machine.close(b"421 4.4.2 Timeout")
        self._end("router", reason)

    def shed(self) -> None:
        """Somebody else needs its place."""
        if self.account.ending is None and not self._securing:
            self.machine.close(said.BUSY)
            self._end("router", NO_SLOT)
        else:
            self.account.ended("router", NO_SLOT)
            self.abort()

    @property
    def port(self) -> str | None:
        return self.facts.route

    def drain(self) -> None:
        """No further transaction; a session without one ends now."""
        self.machine.draining = True
        if self._securing:
            self.account.ended("router", "closing")
            self.abort()
        elif self.machine.idle and not self.machine.waiting and self.account.ending is None:
            self.machine.close(said.CLOSING)
            self._end("router", "closing")

    def abort(self) -> None:
        """Cuts the connection now."""
        if self._connected:
            self.transport.abortConnection()

    # ------------------------------------------------------------------ TLS

    def _begin_tls(self) -> None:
        self._handshake = Handshake(
            self.sessions.chooser, self.readConnectionLost if self.sessions.behind_edges else None
        )
        self._securing = True
        self._tls_began = self.sessions.clock.seconds()

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
        now = self.sessions.clock.seconds()
        self.account.tls_seconds = now - self._tls_began
        self.facts.tls_version, self.secured = negotiated(self.transport)
        self._securing = False
        self._outlet = Outlet(self.transport)
        self.machine.tls_started()
        if self.facts.kind == "smtps":
            self._early = self.machine.limits.strict
            if self._early:
                self.sessions.clock.callLater(0, self._wait_no_more)
            self._greet()
        else:
            acknowledge(self.transport)

    def _wait_no_more(self) -> None:
        self._early = False

    # ------------------------------------------------------------------ the session

    def _turn_away(self, words: bytes, alert: bytes, reason: str) -> None:
        """With `words` in clear, or an `alert` where TLS comes first."""
        if self.facts.kind == "smtps" and not self.machine.tls:
            self._refuse_tls(alert, reason, "router")
        else:
            self.machine.close(words)
            self._end("router", reason)

    def _greet(self) -> None:
        if self.sessions.draining:
            self._turn_away(said.CLOSING, b"", "closing")
        else:
            self._write(self.machine.greeting())

    def _run(self) -> None:
        """Does what the machine has to do now, and writes its replies."""
        machine = self.machine
        self._running = True
        try:
            self.converse()
        finally:
            self._running = False
        output = machine.take_output()
        self._write(output)
        if machine.closed:
            words = machine.last_words
            self._end("client" if words.startswith("221") else "router", "quit" if words.startswith("221") else words)
            return
        if machine.waiting:
            if not self._securing:
                self.deadline = None
            return
        if self.transaction is not None and self.transaction.backlogged:
            self._pause()
        self._expect(bool(output))

    def _expect(self, answered: bool) -> None:
        """When the client's next move is due; the greeting's deadline is not moved by anything but EHLO."""
        if self.awaited == "greeting":
            if not self.machine.helo:
                return
            self.sessions.admission.met(self.client)
            self.sessions.slots.spoke(self)
            self.awaited = "command"
        timeouts, now = self.sessions.timeouts, self.sessions.clock.seconds()
        in_data = self.machine.in_data
        if self.transaction is not None and self.transaction.begun:
            self.awaited = "data" if in_data else "command"
            self.deadline = self.transaction.floor.due(now, timeouts.data if in_data else timeouts.command)
        elif in_data:  # octets of BDAT that are of no use: they have that time altogether
            if self.awaited != "end of data":
                self.awaited = "end of data"
                self.deadline = now + timeouts.data
        elif answered:
            self.awaited = "command"
            self.deadline = now + timeouts.command

    def answered(self, reply: bytes) -> None:
        """The answer that came later, or at once: the session goes on where it stood."""
        if not self._connected or self.machine.closed:
            return
        self.machine.answer(reply)
        if self._running:
            return
        if self.sessions.draining and not self.machine.closed:
            self.machine.close(said.CLOSING)
        self._resume()
        self._run()

    def greeted(self) -> None:
        self.awaited = "greeting"
        self.deadline = self.sessions.clock.seconds() + self.sessions.timeouts.greeting

    def room(self) -> None:
        self._resume()

    def secure(self) -> None:
        self._begin_tls()
        self.awaited = "greeting"
        self.deadline = self.sessions.clock.seconds() + self.sessions.timeouts.greeting

    def bindings(self) -> Mapping[str, bytes]:
        return channel_bindings(self.transport)

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
        if not (self.machine.waiting or (self.transaction is not None and self.transaction.backlogged)):
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
            self._write(self.machine.take_output())
            self._lose()

    def _lose(self) -> None:
        self.abandon()
        self.deadline = self.sessions.clock.seconds() + CLOSE_WITHIN
        if self._connected:
            self.transport.unregisterProducer()  # or it would wait for us to end
            self.transport.loseConnection()
