"""An endpoint by Twisted's description of it (clientFromString), of whatever kind: `tcp:192.0.2.1:25`, or a plug-in's.

On what is no socket of ours, such as TLS, stands a Layer, so that STARTTLS works inside of it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.net.endpoints.exchange import Exchange, connect_through
from dcrouter.net.endpoints.secure import Layer


@implementer(IStreamClientEndpoint)
class Described:
    """`timeout`: seconds for all of it. Fails with whatever the endpoint says, or TimeoutError."""

    def __init__(self, description: str, reactor: Any, timeout: float) -> None:
        """ValueError, or whatever a plug-in raises, where it cannot be read."""
        self._inner: IStreamClientEndpoint = clientFromString(reactor, description)
        self._reactor = reactor
        self._timeout = timeout

    def connect(self, factory: Any) -> Deferred[Any]:
        connecting = connect_through(self._inner, _Onto(), factory, self._reactor, self._timeout)
        return connecting.addTimeout(self._timeout, self._reactor)


class _Onto(Exchange):
    """Nothing is said; the transport gets a Layer where it needs one."""

    def __init__(self) -> None:
        super().__init__()
        self._layer: Layer | None = None

    def begin(self) -> None:
        if isinstance(self.transport, FileDescriptor):
            self.open(self.transport)
        else:
            self._layer = Layer(self.transport)
            self.open(self._layer)

    def dataReceived(self, data: bytes) -> None:
        assert self._layer is not None
        self._layer.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._layer is None:
            super().connectionLost(reason)
        else:
            self._layer.connectionLost(reason)
