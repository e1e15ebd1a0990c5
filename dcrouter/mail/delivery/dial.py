"""A connection to one of the addresses of a next hop: in order, the next one where a connect fails.

A name is resolved anew for each connection (the resolver keeps answers for as long as they last), unless its addresses
were given with it, as those of a mail exchanger are.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, UserError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory

from dcrouter.errors import Unreachable
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.net.resolver import Resolver

MAX_ADDRESSES = 10
"""Tried for one connection, one after the other."""

LONGEST_PATH = 107
"""Octets, unix(7); beyond it Twisted's connect breaks and never ends."""


class Dialer:
    """`timeout`: seconds for each address. `addresses`: those to use instead of asking, or None."""

    def __init__(self, hop: NextHop, resolver: Resolver, reactor: Any, timeout: float) -> None:
        self.addresses: tuple[str, ...] | None = None
        self.known = 1  # how many addresses there were the last time
        self._hop = hop
        self._resolver = resolver
        self._reactor = reactor
        self._timeout = timeout
        self._first = 0

    def connect(self, factory: Factory[Any]) -> Deferred[tuple[Any, str]]:
        """(protocol, address); fails with Unreachable. May be cancelled."""
        return ensureDeferred(self._connect(factory))

    def turn(self) -> None:
        """The address that comes first was connected to, and is of no use: the next one is first from now on."""
        self._first += 1

    async def _connect(self, factory: Factory[Any]) -> tuple[Any, str]:
        hop = self._hop
        if hop.unix is not None:
            if len(os.fsencode(hop.unix)) > LONGEST_PATH:
                raise Unreachable("the path is too long for a unix socket")
            endpoint = UNIXClientEndpoint(self._reactor, str(hop.unix), timeout=self._timeout)
            try:
                return await endpoint.connect(factory), ""
            except (ConnectError, OSError) as error:
                raise Unreachable(_words(error)) from error
        assert hop.host is not None
        addresses = self.addresses or await self._resolver.addresses(hop.host)
        self.known = len(addresses)
        first = self._first % len(addresses)
        reasons: list[str] = []
        for address in (addresses[first:] + addresses[:first])[:MAX_ADDRESSES]:
            try:
                return await self._endpoint(address).connect(factory), address
            except (ConnectError, OSError) as error:
                reasons.append(f"{address}: {_words(error)}" if address != hop.host else _words(error))
        raise Unreachable(", ".join(reasons))

    def _endpoint(self, address: str) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        return kind(self._reactor, address, self._hop.port, timeout=self._timeout)


def _words(error: BaseException) -> str:
    """`Connection refused`, without Twisted's and Python's words around it."""
    if isinstance(error, UserError):
        return "connect timeout"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).rstrip(".").rpartition(": ")[2]
