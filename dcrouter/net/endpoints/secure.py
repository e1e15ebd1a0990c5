"""TLS on a connection, with whoever is at its other end: a proxy, or a target that speaks it from the first octet on.

Above it stands a Layer, a transport on which TLS can be started once more: STARTTLS with a next hop, inside TLS with
the proxy that leads there. Twisted's own transports know of one TLS only.
"""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import TlsError
from dcrouter.net.endpoints.exchange import Exchange, connect_through


class Session(Protocol):
    """Makes one TLS connection (IOpenSSLClientConnectionCreator) and judges it."""

    problem: str | None
    """What was wrong with the peer's certificates, once the handshake has failed for it."""

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection: ...

    def prove(self, connection: SSL.Connection) -> None:
        """After the handshake: TlsError where the peer is somebody else."""


@implementer(IStreamClientEndpoint)
class Secure:
    """`session`: gives one for each connection. `timeout`: for the handshake, in seconds.

    Fails as `inner`, with TlsError, WireError, or TimedOut.
    """

    def __init__(self, inner: IStreamClientEndpoint, session: Any, clock: IReactorTime, timeout: float) -> None:
        self._inner = inner
        self._session = session
        self._clock = clock
        self._timeout = timeout

    def connect(self, factory: Any) -> Deferred[Any]:
        return connect_through(self._inner, _Shaking(self._session()), factory, self._clock, self._timeout)


class _Shaking(Exchange):
    """On the plain transport, until TLS stands on it."""

    phase = "tls"
    closed = "closed within the TLS handshake"

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def begin(self) -> None:
        listener = _Listener(self)
        self.transport.protocol = tls = TLSMemoryBIOProtocol(_factory(self.session), listener)
        tls.makeConnection(self.transport)

    def lost(self, reason: Failure) -> Exception:
        if self.session.problem is not None:
            return TlsError(self.session.problem)
        if reason.check(SSL.Error) and reason.value is not None:
            words = reason.value.args[0] if reason.value.args else ()
            return TlsError(f"TLS: {', '.join(str(word[-1]) for word in words) or 'broken off'}")
        return super().lost(reason)


@implementer(IHandshakeListener)
class _Listener(TwistedProtocol):
    """What stands on TLS while its handshake is made."""

    transport: Any

    def __init__(self, shaking: _Shaking) -> None:
        self._shaking = shaking

    def handshakeCompleted(self) -> None:
        """It may still be somebody else's certificate."""
        shaking = self._shaking
        try:
            shaking.session.prove(self.transport.getHandle())
        except TlsError as error:
            shaking.fail(error)
            return
        layer = Layer(self.transport)
        self.transport.wrappedProtocol = layer
        shaking.open(layer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._shaking.connectionLost(reason)


class Layer:
    """A transport on the transport `below`, as whose protocol it stands.

    `protocol`: whom it serves; from `startTLS` on that is TLS, and serves the former. `TLS`: whether it is.
    """

    def __init__(self, below: Any) -> None:
        self.below = below
        self.protocol: Any = None
        self.TLS = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)

    @property
    def _out(self) -> Any:
        return self.protocol if self.TLS else self.below

    # For whom it serves.

    def startTLS(self, creator: IOpenSSLClientConnectionCreator, normal: bool = True) -> None:
        """As ITLSTransport, as a client."""
        tls = TLSMemoryBIOProtocol(_factory(creator), self.protocol, False)
        self.protocol = tls
        self.TLS = True
        tls.makeConnection(self.below)

    def getHandle(self) -> Any:
        return self._out.getHandle()

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def writeSequence(self, pieces: Any) -> None:
        self._out.writeSequence(pieces)

    def loseConnection(self) -> None:
        self._out.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._out.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._out.unregisterProducer()

    # As the protocol of the transport below.

    def dataReceived(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        self.protocol.connectionLost(reason)


def _factory(creator: Any) -> TLSMemoryBIOFactory:
    return TLSMemoryBIOFactory(creator, True, None)  # type: ignore[arg-type]  # it serves one protocol, made already
