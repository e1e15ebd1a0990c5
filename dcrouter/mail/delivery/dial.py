"""A connection to a next hop, the way that was decided for it.

Straight: to one of its addresses, in order, the next one where a connect fails. A name is resolved anew for each
connection (the resolver keeps answers for as long as they last), unless its addresses were given with it, as those of a
mail exchanger are. Through a proxy: see egress/passage.py.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectBindError, ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from dcrouter.errors import Unreachable
from dcrouter.mail.delivery.egress.passage import MAX_ADDRESSES, NoProxy, Passage, words_of
from dcrouter.mail.delivery.egress.proxies import LiveProxy
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.net.endpoints.described import Described
from dcrouter.net.endpoints.place import place
from dcrouter.net.resolver import Resolver

LONGEST_PATH = 107
"""Octets, unix(7); beyond it Twisted's connect breaks and never ends."""


class Unbound(Unreachable):
    """The address of ours that it is to come from cannot be bound."""


class Reached(NamedTuple):
    """`protocol`: what the factory built. `address`: of the next hop, or the name of it that a proxy was told.
    `through`: the proxy, `direct` where that was none of the rules' but no proxy worked, "" straight. `proxy`: what is
    to be told when the connection has ended.
    """

    protocol: Any
    address: str
    through: str = ""
    proxy: LiveProxy | None = None


class Dialer:
    """`timeout`: seconds for each address, and for each step with a proxy. `addresses`: those to use instead of asking,
    or None. `named`: a proxy is told the hop's name even so. `source`: the address of ours that it is connected from
    when that is done straight, "": the kernel's choice.
    """

    _log = Logger()

    def __init__(
        self, hop: NextHop, resolver: Resolver, reactor: Any, timeout: float, passage: Passage, source: str = ""
    ) -> None:
        self.addresses: tuple[str, ...] | None = None
        self.named = True
        self.known = 1  # how many addresses there were the last time
        self._hop = hop
        self._way = hop.way
        self._passage = passage
        self._resolver = resolver
        self._reactor = reactor
        self._timeout = timeout
        self._first = 0
        self._source = source or None

    @property
    def down(self) -> bool:
        """Whether it is known without trying that there is no way."""
        return self._way.on_failure == "defer" and self._passage.proxies.down(self._way)

    def connect(self, factory: Factory[Any]) -> Deferred[Reached]:
        """Fails with Unreachable. May be cancelled."""
        return ensureDeferred(self._connect(factory))

    def turn(self) -> None:
        """The address that comes first was connected to, and is of no use: the next one is first from now on."""
        self._first += 1

    async def _connect(self, factory: Factory[Any]) -> Reached:
        hop, way = self._hop, self._way
        if way.endpoint is not None:
            return Reached(await self._described(way.endpoint, factory), "", way.endpoint)
        if hop.unix is not None:
            if len(os.fsencode(hop.unix)) > LONGEST_PATH:
                raise Unreachable("the path is too long for a unix socket")
            endpoint = UNIXClientEndpoint(self._reactor, str(hop.unix), timeout=self._timeout)
            try:
                return Reached(await endpoint.connect(factory), "")
            except (ConnectError, OSError) as error:
                raise Unreachable(words_of(error)) from error
        if not way.proxies:
            return await self._straight(factory)
        return await self._through(factory)

    async def _through(self, factory: Factory[Any]) -> Reached:
        hop, way = self._hop, self._way
        assert hop.host is not None
        places = (hop.host,) if self.named or self.addresses is None else self.addresses
        self.known = len(places)
        try:
            protocol, place, live = await self._passage.connect(
                way, self._turned(places), hop.port, factory, self._timeout
            )
        except NoProxy as error:
            if way.on_failure == "defer":
                raise
            self._passage.proxies.fallbacks += 1
            self._log.warn("{target}: straight, for no proxy works: {reason}", target=hop.target, reason=str(error))
            reached = await self._straight(factory)
            return reached._replace(through="direct")
        return Reached(protocol, place, live.label, live)

    async def _straight(self, factory: Factory[Any]) -> Reached:
        hop = self._hop
        assert hop.host is not None
        addresses = self.addresses or await self._resolver.addresses(hop.host)
        self.known = len(addresses)
        counted = self._passage.proxies.straight
        reasons: list[str] = []
        for address in self._turned(addresses):
            began = self._reactor.seconds()
            counted.attempts += 1
            try:
                protocol = await self._endpoint(address).connect(factory)
            except ConnectBindError as error:
                counted.failed += 1
                raise Unbound(f"{self._source} cannot be bound: {_errno(error)}") from error
            except (ConnectError, OSError) as error:
                counted.failed += 1
                reasons.append(f"{address}: {words_of(error)}" if address != hop.host else words_of(error))
            else:
                counted.made(self._reactor.seconds() - began)
                return Reached(protocol, address)
        raise Unreachable(", ".join(reasons))

    async def _described(self, description: str, factory: Factory[Any]) -> Any:
        try:
            return await Described(description, self._reactor, self._timeout).connect(factory)
        except Exception as error:  # foreign code, perhaps
            told = "connect timeout" if isinstance(error, TimeoutError) else words_of(error)
            raise Unreachable(f"by {description}: {told}") from error

    def _turned(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        first = self._first % len(addresses)
        return (addresses[first:] + addresses[:first])[:MAX_ADDRESSES]

    def _endpoint(self, address: str) -> IStreamClientEndpoint:
        return place(self._reactor, address, self._hop.port, timeout=self._timeout, source=self._source)


def _errno(error: ConnectBindError) -> str:
    return os.strerror(error.osError) if isinstance(error.osError, int) else str(error)
