"""Through a proxy, by SOCKS 5 or HTTP CONNECT: it connects to the target, whose name it resolves itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import ProxyRefusal, WireError
from dcrouter.net.endpoints.exchange import Exchange, connect_through
from dcrouter.wire.tunnel import Handshake


class Stalled(ProxyRefusal):
    """The proxy has taken the question for the target, and no answer came: either may be to blame."""

    def __init__(self) -> None:
        super().__init__("the proxy has not reached it in time", final=False)


@implementer(IStreamClientEndpoint)
class Tunnel:
    """`inner` leads to the proxy; `handshake` makes what is said to it. `timeout`: for all of that, in seconds.

    Fails as `inner`, with ProxyRefusal (of which Stalled is one), WireError, or TimedOut.
    """

    def __init__(
        self, inner: IStreamClientEndpoint, handshake: Callable[[], Handshake], clock: IReactorTime, timeout: float
    ) -> None:
        self._inner = inner
        self._handshake = handshake
        self._clock = clock
        self._timeout = timeout

    def connect(self, factory: Any) -> Deferred[Any]:
        return connect_through(self._inner, _Consent(self._handshake()), factory, self._clock, self._timeout)


def willing(inner: IStreamClientEndpoint, handshake: Handshake, clock: IReactorTime, timeout: float) -> Deferred[None]:
    """Fires when a proxy has shown that it works; fails as Tunnel does where it does not. SOCKS: it takes our login;
    the target is not named. CONNECT: any answer about the target of `handshake`.
    """
    exchange = _Consent(handshake, asks=not handshake.asked)

    def answered(failure: Failure) -> None:
        failure.trap(ProxyRefusal)
        if failure.check(Stalled):
            failure.raiseException()

    return connect_through(inner, exchange, None, clock, timeout).addErrback(answered)


class _Consent(Exchange):
    """`asks`: only whether the target could be named is of interest."""

    def __init__(self, handshake: Handshake, *, asks: bool = False) -> None:
        super().__init__()
        self._handshake = handshake
        self._asks = asks

    def begin(self) -> None:
        self.transport.write(self._handshake.opening)

    def dataReceived(self, data: bytes) -> None:
        """In bites that cannot go beyond the proxy's last word."""
        handshake, at = self._handshake, 0
        try:
            while at < len(data):
                bite = data[at : at + handshake.wants]
                at += len(bite)
                words = handshake.feed(bite)
                if self._asks and handshake.asked:
                    self.done()
                    return
                if words is None and self._factory is None:
                    self.done()
                    return
                if words is None:
                    self.open(self.transport, data[at:])
                    return
                if words:
                    self.transport.write(words)
        except WireError as error:
            self.fail(error)

    def late(self) -> Exception:
        return Stalled() if self._handshake.asked else super().late()
