"""One connection that a handler has: between its transport and the protocol of the operator's factory.

1. TLS first, where the route ends it: the protocol is asked for when the handshake is done.
2. From then on it stands in for the transport and counts what passes. Whatever the protocol raises ends the connection.
3. Half-close, producers and all else are the transport's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvides, implementer, providedBy

from dcrouter.events import EndedBy, SessionClosed, termination
from dcrouter.facts import ConnectionFacts, Endpoint
from dcrouter.interfaces import Facts
from dcrouter.net.stream import failure
from dcrouter.tls import clients

if TYPE_CHECKING:
    from dcrouter.handlers.sessions import HandlerRoute, Sessions


LAST_SECONDS = 2.0
"""For what is on its way to a client whose time is over."""
LONGEST_REASON = 200
"""Characters of what foreign code says of its own failure, in the access log."""


class Counted(tcp.Server):
    """A transport that knows how many bytes it has moved, and who is behind a proxy."""

    moved = 0
    facts: ConnectionFacts

    def _dataReceived(self, data: bytes | None) -> Any:
        self.moved += len(data or b"")
        return super()._dataReceived(data)

    def writeSomeData(self, data: bytes) -> Any:
        sent = super().writeSomeData(data)
        if isinstance(sent, int):
            self.moved += sent
        return sent

    def getPeer(self) -> IPv4Address | IPv6Address:
        return address(self.facts.peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        return address(self.facts.local)


def address(endpoint: Endpoint) -> IPv4Address | IPv6Address:
    """As Twisted has it."""
    host, port = endpoint
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(IOpenSSLServerConnectionCreator)
class Creator:
    """Of connections with one context."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@implementer(IHandshakeListener)
class Held(ProtocolWrapper):
    """`raw`: the transport under everything, once it is there. `deadline`: when it ends, by the clock; None: never.

    `phase`: `tls`, then `handler`.
    """

    transport: Any
    wrappedProtocol: Any

    def __init__(self, sessions: Sessions, facts: ConnectionFacts, route: HandlerRoute, *, secure: bool) -> None:
        self.wrappedProtocol = None
        self.sessions = sessions
        self.facts = facts
        self.route = route
        self.raw: Counted | None = None
        self.secure = secure
        self.phase = "tls" if secure else "handler"
        self.began = self.changed = sessions.clock.seconds()
        self.tls_seconds: float | None = None
        self.seen = 0
        self.expired: float | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.ending: tuple[EndedBy, str] | None = None

    def ended(self, ended_by: EndedBy, reason: str) -> None:
        """The first end that is told of is the one that counts."""
        if self.ending is None:
            self.ending = (ended_by, reason)

    def abort(self, ended_by: EndedBy, reason: str) -> None:
        """Cut it."""
        self.ended(ended_by, reason)
        if self.raw is not None:
            self.raw.abortConnection()  # type: ignore[no-untyped-call]

    def expire(self, reason: str, now: float) -> None:
        """End it in order, which has LAST_SECONDS; or cut it, where that was tried."""
        self.ended("router", reason)
        if self.expired is None:
            self.expired = now
            super().loseConnection()  # type: ignore[no-untyped-call]
        elif now - self.expired >= LAST_SECONDS:
            self.abort("router", reason)

    # As a protocol, whose transport is TLS or the socket's own.

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        if not self.secure:
            self._begin()

    def handshakeCompleted(self) -> None:
        """TLS speaks."""
        if self.wrappedProtocol is None:
            facts, connection = self.facts, self.transport.getHandle()
            name = connection.get_servername()
            facts.sni = facts.sni or (name.decode("latin-1").lower() if name else None)
            facts.alpn = connection.get_alpn_proto_negotiated().decode("latin-1") or None
            facts.tls_version = connection.get_protocol_version_name()
            if self.route.clients is not None:
                facts.client_certificate = clients.subject(connection)
            self.phase = "handler"
            now = self.sessions.clock.seconds()
            self.tls_seconds, self.changed = now - self.began, now
            self._begin()
        if self.wrappedProtocol is not None and IHandshakeListener.providedBy(self.wrappedProtocol):
            self._guarded(self.wrappedProtocol.handshakeCompleted)

    def _begin(self) -> None:
        factory = self.route.factory
        protocol = self._guarded(factory.buildProtocol, address(self.facts.peer))
        if protocol is None:
            self.ended("target", "refused by the factory")
            super().loseConnection()  # type: ignore[no-untyped-call]
            return
        self.wrappedProtocol = protocol
        if IHalfCloseableProtocol.providedBy(protocol):
            alsoProvides(self, IHalfCloseableProtocol)
        self._guarded(self._introduce, protocol)

    def _introduce(self, protocol: Any) -> None:
        if hasattr(protocol, "facts"):
            protocol.facts = Facts.of(self.facts.to_plain())
        protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self.wrappedProtocol is not None:
            self._guarded(self.wrappedProtocol.dataReceived, data)

    def readConnectionLost(self) -> None:
        self._guarded(self.wrappedProtocol.readConnectionLost)

    def writeConnectionLost(self) -> None:
        self._guarded(self.wrappedProtocol.writeConnectionLost)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        protocol, self.wrappedProtocol = self.wrappedProtocol, None
        self.ended("client", self._why(reason))
        if protocol is not None:
            self._guarded(lambda: protocol.connectionLost(reason))  # it may be anything, and have none
        self.sessions.gone(self)

    def _why(self, reason: Failure) -> str:
        if self.phase == "tls":
            connection = self.transport.getHandle() if self.route.clients is not None else None
            rejected = clients.rejected(connection) if connection is not None else None
            known = str(failure(reason.value)) if isinstance(reason.value, SSL.Error) else "closed"
            return f"TLS handshake: {rejected or known}"
        if reason.check(ConnectionLost):
            return "connection lost"
        return "closed" if reason.check(ConnectionDone) else reason.getErrorMessage()

    def _guarded(self, act: Any, *arguments: Any) -> Any:
        """What foreign code gives; None where it fails, and then the connection is over."""
        try:
            return act(*arguments)
        except BaseException as error:  # asyncio's CancelledError too, and SystemExit
            self.sessions.log.failure("{factory} has failed", factory=self.route.name)
            self.abort("target", f"the handler has failed: {type(error).__name__}: {error}"[:LONGEST_REASON])
            return None

    # As the transport of the protocol.

    def write(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self.transport.write(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.ended("target", "closed")
        super().loseConnection()  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        """The protocol wants it cut."""
        self.abort("target", "aborted")

    # What others see.

    def shown(self, now: float) -> dict[str, Any]:
        """What an operator sees of it, JSON-ready. `now`: UTC epoch seconds."""
        name = self.route.name
        return self.facts.shown(now, target=name, bytes_in=self.bytes_in, bytes_out=self.bytes_out, phase=self.phase)

    def event(self) -> SessionClosed:
        """The whole, at its end."""
        seconds = self.sessions.clock.seconds() - self.began
        ended_by, reason = self.ending or ("client", "closed")
        phases = {} if self.tls_seconds is None else {"tls": round(self.tls_seconds, 6)}
        phases[self.phase] = round(seconds - (self.tls_seconds or 0.0), 6)
        return SessionClosed(
            **self.facts.to_plain(),
            target=self.route.name,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            phases=phases,
            ended_by=ended_by,
            termination=termination(ended_by, self.phase, reason),
            reason=reason,
        )


class _Wrapped:
    """What TLSMemoryBIOFactory asks for a protocol."""

    noisy = False

    def __init__(self, held: Held) -> None:
        self._held = held

    def buildProtocol(self, addr: object) -> Held:
        return self._held


def secured(held: Held, context: SSL.Context, clock: Any) -> Any:
    """`held` behind TLS, as a protocol for the socket's transport."""
    return TLSMemoryBIOFactory(Creator(context), False, _Wrapped(held), clock).buildProtocol(None)  # type: ignore[arg-type]
