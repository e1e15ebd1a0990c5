"""Octets before everything else, such as a PROXY header (wire/proxyheader): nobody answers them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from dcrouter.net.endpoints.exchange import Exchange, connect_through

WITHIN = 30.0
"""Seconds; it takes none, for nothing is waited for."""


@implementer(IStreamClientEndpoint)
class Opening:
    """`octets` are the first thing that what `inner` leads to hears."""

    def __init__(self, inner: IStreamClientEndpoint, octets: bytes, clock: IReactorTime) -> None:
        self._inner = inner
        self._octets = octets
        self._clock = clock

    def connect(self, factory: Any) -> Deferred[Any]:
        return connect_through(self._inner, _Said(self._octets), factory, self._clock, WITHIN)


class _Said(Exchange):
    def __init__(self, octets: bytes) -> None:
        super().__init__()
        self._octets = octets

    def begin(self) -> None:
        self.transport.write(self._octets)
        self.open(self.transport)
