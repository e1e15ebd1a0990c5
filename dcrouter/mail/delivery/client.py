"""One connection to a next hop: the SMTP client machine on a Twisted transport, with a deadline for each phase.

It carries one `Sending` after the other; its `Destination` gives them and hears of each exactly once: `finished`, or
`broken` where the connection ended first. The content is fetched only when the server asks for it.

A connection that ends after the end of a message and before its reply leaves open whether the server has it: its sender
hears `unanswered`, and tries again later. That may become a second copy (RFC 1047); the other way a message is lost.
"""

from __future__ import annotations

from math import inf
from typing import Any
from typing import Protocol as Shape

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import TlsError, WireError
from dcrouter.mail.delivery.body import File, Pieces, Progress
from dcrouter.mail.delivery.outcome import Peer
from dcrouter.mail.delivery.patience import Patience
from dcrouter.mail.delivery.security import Session
from dcrouter.mail.delivery.sending import Sending, Trouble
from dcrouter.mail.floor import Floor
from dcrouter.mail.outlet import Outlet
from dcrouter.wire.smtp.client import (
    Answered,
    Client,
    Finished,
    Phase,
    Ready,
    SendBody,
    StartTls,
    Unusable,
)
from dcrouter.wire.smtp.data import Stuffer
from dcrouter.wire.smtp.opening import NO_TLS
from dcrouter.wire.tlsrpt import FailureType


class Owner(Shape):
    """Who made the connection."""

    def ready(self, connection: Connection) -> None:
        """It may carry a message now."""

    def tired(self, connection: Connection) -> None:
        """It has been idle for long enough, and is to `leave`."""

    def turned_away(self, connection: Connection, trouble: Trouble) -> None:
        """421 was all that it has said to the first message."""

    def broken(self, connection: Connection, sending: Sending | None, trouble: Trouble) -> None:
        """It is over; `sending`, if any, has not left."""

    def again(self, sending: Sending) -> None:
        """It has not left, and is the next."""

    def token(self) -> None:
        """What is the next may leave."""


@implementer(IHandshakeListener)
class Connection(Protocol):
    """`carried`: how many messages it has carried; `since`: when it was opened. `established`: it was ready once.
    `no_tls`: it ended because TLS could not be had. `ours`: the address that it comes from, where somebody asks;
    `told`: domains of recipients for whom it is counted already. `session`: its TLS, None: never; `implicit`: from the
    first octet on.
    """

    transport: Any

    def __init__(
        self,
        owner: Owner,
        client: Client,
        target: str,
        session: Session | None,
        clock: IReactorTime,
        patience: Patience,
        *,
        implicit: bool = False,
    ) -> None:
        self.carried = 0
        self.since = 0.0
        self.established = False
        self.no_tls = False
        self.ours = ""
        self.told: set[str] = set()
        self.peer = Peer(target)
        self._owner = owner
        self._client = client
        self._session = session
        self._implicit = implicit
        self._shaking = False
        self._clock = clock
        self._patience = patience
        self._sending: Sending | None = None
        self._deadline = 0.0
        self._latest = inf
        self._timer: IDelayedCall | None = None
        self._body: Pieces | File | None = None
        self._body_begun = False
        self._floor: Floor | None = None
        self._reason: str | None = None
        self._unusable: Unusable | None = None
        self._over = False

    @property
    def failure(self) -> FailureType | None:
        """How TLS has failed, as a report has it; None where it has not."""
        if self._session is not None and self._session.failure is not None:
            return self._session.failure
        if not self.peer.tls and (self.established or self._is_without_tls):
            return "starttls-not-supported"
        return "validation-failure" if self.no_tls else None

    @property
    def problem(self) -> str:
        """What was wrong with it, in words."""
        return self._reason or (self._session.problem if self._session is not None else None) or ""

    def local(self) -> str:
        """The address that it comes from; "" where something stands between, which is not to be told of."""
        if getattr(self.transport.getPeer(), "host", "") != self.peer.address:
            return ""
        return str(self.transport.getHost().host)

    @property
    def untouched(self) -> bool:
        """Whether the server has said nothing yet to what is being sent: it may have closed an idle connection."""
        return self.carried > 0 and not self._client.answered

    @property
    def said_421(self) -> bool:
        """Whether that was the server's reason for ending a session that was never ready."""
        reply = self._unusable.reply if self._unusable is not None else None
        return reply is not None and reply.code == 421

    def connectionMade(self) -> None:
        tcp = getattr(self.transport, "setTcpNoDelay", None)
        if tcp is not None and not getattr(self.transport, "path", None):
            tcp(True)
        self._outlet = Outlet(self.transport)
        if self._implicit:
            self._start_tls()
        self._expect()

    def opened(self, address: str, through: str) -> None:
        """It has been connected to this address, through that proxy."""
        self.peer = self.peer._replace(address=address, through=through)
        if not self._implicit and self.transport is not None:
            self.transport.protocol = self  # an endpoint's wrapper costs a call for each read

    def send(self, sending: Sending) -> None:
        """Begins a message; only after `ready`."""
        self._sending = sending
        self._body_begun = False
        self._await_all()
        finished = self._client.begin(sending.transaction)
        if finished is not None:
            self._clock.callLater(0, self._finished, finished)  # not now: a long queue of such would recurse
        else:
            self._flush()

    def leave(self, *, now: bool = False) -> None:
        """QUIT; the connection is closed when that is answered (RFC 5321 4.1.1.10), so that a server that counts
        connections has forgotten this one, or soon, whatever the server does. `now`: its answer is not waited for.
        """
        self._over = True
        self._client.quit()
        self._flush()
        if now:
            self._close()

    def _close(self) -> None:
        self.transport.loseConnection()

    def abort(self, reason: str) -> None:
        """Ends it at once."""
        self._reason = self._reason or reason
        self._floor = None
        if self._body is not None:
            self._body.stopProducing()  # what is still being read comes too late
        self.transport.abortConnection()

    @property
    def _is_without_tls(self) -> bool:
        return self._unusable is not None and self._unusable.status == NO_TLS

    # ------------------------------------------------------------------ what the server says

    def dataReceived(self, data: bytes) -> None:
        replies = self._client.replies
        try:
            events = self._client.receive(data)
        except WireError as error:
            self.abort(str(error))
            return
        for event in events:
            if isinstance(event, SendBody):
                if self._client.phase == "body":  # else it was refused in the same breath
                    self._send_body(chunk=event.chunk)
            elif isinstance(event, Finished):
                self._finished(event)
            elif isinstance(event, Ready):
                self.established = True
                self.peer = self.peer._replace(told=self._client.told)
                self._owner.ready(self)
            elif isinstance(event, StartTls):
                self._start_tls()
            elif isinstance(event, Unusable):
                self._unusable = event
                self.abort(event.reason)
        if events and isinstance(events[-1], Answered) and self._sending is not None:
            self._sending.answered(self._client.answers(), self.peer)
        if self._client.wrong is not None:
            self.abort(str(self._client.wrong))
            return
        if events or self._client.replies != replies:
            self._flush()  # and not before: a reply that only dribbles in moves no deadline
        if self._over and self._client.phase == "idle":
            self._close()
        elif self._sending is None and self.established and not (self._client.usable or self._over or self._reason):
            self._owner.tired(self)  # it said goodbye, or something that nobody asked for

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        phase = self._phase
        if self._reason is None:
            self._reason = self._why(reason)
        self._over = True
        if self._sending is not None and (parting := self._client.lost()) is not None:
            self._finished(parting)
        sending, self._sending = self._sending, None
        if sending is not None and phase == "final":
            sending.unanswered(self._client.answers(), f"{self._reason} (waiting for {phase})", self.peer)
            sending = None
        elif sending is not None:
            sending.refused(self._client.answers(), self.peer)
        self._owner.broken(self, sending, self._trouble(phase))

    def _why(self, reason: Failure) -> str:
        if self._shaking and self._session is not None and self._session.problem is not None:
            return self._session.problem
        if reason.check(ConnectionDone, ConnectionLost):
            return "connection closed" if reason.check(ConnectionDone) else "connection lost"
        if reason.check(SSL.Error):
            errors = reason.value.args[0] if reason.value is not None and reason.value.args else ()
            return f"TLS: {', '.join(str(error[-1]) for error in errors) or 'broken off'}"
        return reason.getErrorMessage()

    def _trouble(self, phase: Phase) -> Trouble:
        target, reason = self.peer.target, self._reason or ""
        unusable = self._unusable
        if unusable is not None:
            self.no_tls = self._is_without_tls
            gone = unusable.reply.text if unusable.reply is not None and unusable.reply.code == 521 else ""
            said = unusable.reply.text if unusable.reply is not None else ""
            return Trouble(target, reason, unusable.status, gone, said)
        self.no_tls = phase in ("tls", "starttls")
        if self.no_tls:
            return Trouble(target, f"{reason} (in {phase})", "4.7.5")
        return Trouble(target, f"{reason} (waiting for {phase})")

    # ------------------------------------------------------------------ TLS

    def _start_tls(self) -> None:
        assert self._session is not None
        self._shaking = True
        self.transport.startTLS(self._session)

    def handshakeCompleted(self) -> None:
        """All goes through TLS from now on, if the peer is whom we want."""
        assert self._session is not None
        try:
            tls = self._session.check(self.transport)
        except TlsError as error:
            self.abort(str(error))
            return
        self._shaking = False
        self.peer = self.peer._replace(tls=tls)
        self._outlet = Outlet(self.transport)
        if not self._implicit:
            self._client.secured()
        self._flush()

    @property
    def _phase(self) -> Phase:
        return "tls" if self._shaking else self._client.phase

    def _finished(self, event: Finished) -> None:
        sending, self._sending = self._sending, None
        self._latest = inf
        if sending is None:
            return
        self.carried += 1
        away = not event.usable and all(reply.code == 421 for reply in event.replies)
        parting = event.replies[0].text if away else ""
        if parting and self.carried == 1:
            self._owner.turned_away(self, Trouble(self.peer.target, parting, "4.4.2"))
        if parting and self.carried > 1 and not self._body_begun and sending.parted(parting):
            self._owner.again(sending)
            self._owner.token()
        else:
            sending.finished(event.replies, self.peer)
        if self._over:
            return
        if self._body is not None:
            self.abort("answered within the message")
        elif self._client.usable:
            self._owner.ready(self)
        else:
            self.leave()

    # ------------------------------------------------------------------ the message

    def _send_body(self, *, chunk: bool) -> None:
        assert self._sending is not None
        self._body_begun = True
        content = self._sending.content
        if chunk:
            self._outlet.write(self._client.take_output())
        if content.octets is not None:
            if chunk:
                self._outlet.write(content.octets)
            elif content.dotless:
                self._outlet.write(content.octets + b".\r\n")
            else:
                stuffer = Stuffer()
                self._outlet.write(stuffer.send(content.octets) + stuffer.end())
            self._client.body_sent()
            self._await_all()
            return
        plain = self._outlet.through_transport()
        file = content.file() if (content.dotless or chunk) and plain is not None else None
        self._floor = Floor(self._clock.seconds())
        progress = Progress(self._body_moved, self._body_sent, self._unreadable)
        if file is not None and plain is not None:
            self._body = File(file, plain, self.transport, progress, chunk=chunk)
        else:
            self._body = Pieces(content.pieces(), self.transport, progress, chunk=chunk)
        self.transport.registerProducer(self._body, self._body.streaming)
        self._body.begin()

    def _body_moved(self, octets: int) -> None:
        assert self._floor is not None
        self._floor.moved += octets
        self._expect()

    def _body_sent(self) -> None:
        self._body = self._floor = None
        self._client.body_sent()
        self._await_all()
        self.transport.unregisterProducer()
        self._flush()

    def _unreadable(self, reason: str) -> None:
        """Half a message is out: only a broken connection keeps the server from taking it for a whole one."""
        self.abort(f"the message cannot be read: {reason}")

    # ------------------------------------------------------------------ time

    def _flush(self) -> None:
        output = self._client.take_output()
        if output:
            self._outlet.write(output)
        self._expect()

    def _await_all(self) -> None:
        """The replies that come next have so long, however many they are."""
        self._latest = self._clock.seconds() + self._patience.whole

    def _expect(self) -> None:
        """Moves the deadline; the timer behind it is set again only when it fires."""
        now = self._clock.seconds()
        wait = self._patience.replies["tls" if self._shaking else self._client.phase]
        self._deadline = min(now + wait, self._latest) if self._floor is None else self._floor.due(now, wait)
        if self._timer is None:
            self._timer = self._clock.callLater(self._deadline - now, self._tick)
        elif self._timer.getTime() > self._deadline:
            self._timer.reset(self._deadline - now)

    def _tick(self) -> None:
        self._timer = None
        left = self._deadline - self._clock.seconds()
        if left > 0.001:
            self._timer = self._clock.callLater(left, self._tick)
        elif self._phase == "idle":
            self._owner.tired(self)
        else:
            self.abort(f"timeout in {self._phase}")
