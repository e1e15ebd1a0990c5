"""A connection through one of a way's proxies: the next one where one does not work, or will not do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError, UserError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from dcrouter.config.through import Proxy
from dcrouter.errors import ProxyRefusal, TimedOut, TlsError, Unreachable, WireError, reason_of
from dcrouter.mail.delivery.egress.proxies import LiveProxy, Proxies
from dcrouter.mail.delivery.egress.way import Way
from dcrouter.mail.delivery.security import Contexts
from dcrouter.net.endpoints.place import place
from dcrouter.net.endpoints.secure import Secure
from dcrouter.net.endpoints.tunnel import Stalled, Tunnel, willing
from dcrouter.net.resolver import Resolver
from dcrouter.wire.tunnel import Handshake, handshake

MAX_ADDRESSES = 10
"""Of a next hop that are tried for one connection, one after the other."""

MAX_PROXIES = 5
"""Tried for one of these."""

LONGEST = 4
"""Times a step's seconds: after that nothing more is tried for a connection."""

PROXY_ADDRESSES = 3
"""Of one proxy."""

PROBED_FOR = 10.0
"""Seconds for each step of a probe."""

_ASIDE = ("127.0.0.1", 1)
"""The target of a probe by CONNECT, as the proxy sees it: nobody, but the answer tells that the proxy works."""


class NoProxy(Unreachable):
    """None of a way's proxies works."""


class Passage:
    """`proxies`: what is known of them, and hears how they do. `back` hears of one that works again."""

    def __init__(self, resolver: Resolver, contexts: Contexts, reactor: Any, back: Callable[[Proxy], None]) -> None:
        self.proxies = Proxies(reactor, self.probe, back)
        self._resolver = resolver
        self._contexts = contexts
        self._reactor = reactor

    async def connect(
        self, way: Way, hosts: Sequence[str], port: int, factory: Factory[Any], timeout: float
    ) -> tuple[Any, str, LiveProxy]:
        """(what `factory` built, which of `hosts` it leads to, through whom). NoProxy; or Unreachable: proxies work,
        and none of them has a connection with any of `hosts`.
        """
        reasons: list[str] = []
        until = self._reactor.seconds() + LONGEST * timeout
        for host in hosts:
            try:
                return await self._one(way, host, port, factory, timeout, until)
            except ProxyRefusal as error:
                reasons.append(str(error) if len(hosts) == 1 else f"{host}: {error}")
            if self._reactor.seconds() > until:
                break
        raise Unreachable("; ".join(reasons))

    async def _one(
        self, way: Way, host: str, port: int, factory: Factory[Any], timeout: float, until: float
    ) -> tuple[Any, str, LiveProxy]:
        proxies = self.proxies
        usable = proxies.order(way)[:MAX_PROXIES]
        if not usable:
            raise NoProxy(proxies.why_none(way))
        reasons: list[str] = []
        refused = False
        for live in usable:
            began = self._reactor.seconds()
            if began > until and reasons:
                break
            live.counted.attempts += 1
            try:
                tunnel = Tunnel(
                    await self._to(live.proxy, timeout), _said(live.proxy, host, port), self._reactor, timeout
                )
                protocol = await tunnel.connect(factory)
            except ProxyRefusal as error:
                reasons.append(f"through {live.label}: {error}")
                refused = True
                if isinstance(error, Stalled):
                    proxies.stalled(live, host, str(error))
                    continue
                proxies.refused(live)
                if error.final:
                    break
            except ValueError as error:
                raise Unreachable(str(error)) from error  # the proxy's protocol cannot say it
            except (ConnectError, OSError, Unreachable, TlsError, WireError, TimedOut) as error:
                reasons.append(f"through {live.label}: {words_of(error)}")
                proxies.failed(live, words_of(error))
            else:
                proxies.made(live, self._reactor.seconds() - began)
                return protocol, host, live
        if refused:
            raise ProxyRefusal(", ".join(reasons), final=True)
        raise NoProxy(", ".join(reasons))

    def probe(self, proxy: Proxy) -> Deferred[None]:
        """Fires when it works; fails with what is wrong."""
        return ensureDeferred(self._probe(proxy))

    async def _probe(self, proxy: Proxy) -> None:
        inner = await self._to(proxy, PROBED_FOR)
        try:
            await willing(inner, _said(proxy, *_ASIDE)(), self._reactor, PROBED_FOR)
        except (ConnectError, OSError) as error:
            raise Unreachable(words_of(error)) from error

    async def _to(self, proxy: Proxy, timeout: float) -> IStreamClientEndpoint:
        addresses = await self._resolver.addresses(proxy.host)
        inner: IStreamClientEndpoint = _First(
            [place(self._reactor, one, proxy.port, timeout=timeout) for one in addresses[:PROXY_ADDRESSES]]
        )
        if proxy.scheme == "https":
            inner = Secure(inner, lambda: self._contexts.verified(proxy.host), self._reactor, timeout)
        return inner


@implementer(IStreamClientEndpoint)
class _First:
    """The first of some endpoints that connects."""

    def __init__(self, endpoints: Sequence[IStreamClientEndpoint]) -> None:
        self._endpoints = endpoints

    def connect(self, factory: Any) -> Deferred[Any]:
        return ensureDeferred(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        for endpoint in self._endpoints[:-1]:
            try:
                return await endpoint.connect(factory)
            except (ConnectError, OSError):
                continue
        return await self._endpoints[-1].connect(factory)


def _said(proxy: Proxy, host: str, port: int) -> Any:
    def made() -> Handshake:
        return handshake(proxy.scheme, host, port, proxy.user, proxy.password)

    return made


def words_of(error: BaseException) -> str:
    """`Connection refused`, without Twisted's and Python's words around it."""
    if isinstance(error, UserError):
        return "connect timeout"
    if isinstance(error, ConnectError):
        return str(error).rstrip(".").rpartition(": ")[2]
    return reason_of(error)
