"""What one layer does with a fresh connection before the next one, or whom it is all for, may have it.

`connect_through` connects, gives the transport to an Exchange, and waits: for as long as `timeout` says, until it is
`open` (or `done`, where nobody wants it), or has failed. Then the transport is the factory's protocol's, with the
octets that came too early for it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from dcrouter.errors import TimedOut, WireError


class Exchange(Protocol):
    """`begin` is called when there is a transport; in the end `open` or `fail` must be."""

    transport: Any
    phase = "proxy"
    """Of a timeout."""

    closed = "the proxy has closed the connection"

    def __init__(self) -> None:
        self.result: Deferred[Any] = Deferred(lambda _: self._abort())
        self._factory: IProtocolFactory | None = None
        self._clock: IReactorTime | None = None
        self._timeout = 0.0
        self._timer: IDelayedCall | None = None
        self._over = False

    def serve(self, factory: IProtocolFactory, clock: IReactorTime, timeout: float) -> None:
        """Whom the connection is for; before there is one."""
        self._factory, self._clock, self._timeout = factory, clock, timeout

    def connectionMade(self) -> None:
        assert self._clock is not None
        self._timer = self._clock.callLater(self._timeout, lambda: self.fail(self.late()))
        self.begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.fail(self.lost(reason))

    def begin(self) -> None:
        """There is a transport."""
        raise NotImplementedError

    def late(self) -> Exception:
        """Why it is over when the time is."""
        return TimedOut(self.phase)

    def lost(self, reason: Failure) -> Exception:
        """Why it is over when the connection is."""
        return WireError(self.closed if reason.check(ConnectionClosed) else reason.getErrorMessage())

    def open(self, transport: Any, early: bytes = b"") -> None:
        """`transport` leads where it should; `early` came behind the exchange."""
        if self._over:
            return
        self._end()
        assert self._factory is not None
        protocol = self._factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
            self.result.errback(Failure(WireError("nobody wants the connection")))
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.result.callback(protocol)
        if early:
            transport.protocol.dataReceived(early)

    def done(self) -> None:
        """That was all that was wanted; the connection is closed."""
        if not self._over:
            self._abort()
            self.result.callback(None)

    def fail(self, error: Exception) -> None:
        """There is nothing to be had here."""
        if self._over:
            return
        self._end()
        self._abort()
        self.result.errback(Failure(error))

    def _end(self) -> None:
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _abort(self) -> None:
        self._end()
        if self.transport is not None:
            self.transport.abortConnection()


def connect_through(
    inner: IStreamClientEndpoint, exchange: Exchange, factory: Any, clock: IReactorTime, timeout: float
) -> Deferred[Any]:
    """What `factory` builds, on a connection of `inner` that `exchange` has opened; fails with what either says. May be
    cancelled.
    """
    exchange.serve(factory, clock, timeout)
    between = Factory.forProtocol(lambda: exchange)
    between.noisy = False
    connected: Deferred[Any] = inner.connect(between)
    return connected.addCallback(lambda _: exchange.result)
