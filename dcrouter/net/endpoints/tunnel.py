"""Through a proxy, by SOCKS 5 or HTTP CONNECT: it connects to the target, whose name it resolves itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
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


class _Consent(Exchange):
    def __init__(self, handshake: Handshake) -> None:
        super().__init__()
        self._handshake = handshake

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
                if words is None:
                    self.open(self.transport, data[at:])
                    return
                if words:
                    self.transport.write(words)
        except WireError as error:
            self.fail(error)

    def late(self) -> Exception:
        return Stalled() if self._handshake.asked else super().late()
