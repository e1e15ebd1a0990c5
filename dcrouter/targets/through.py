"""Targets behind a proxy: SOCKS 5, or HTTP CONNECT in clear or by TLS with the proxy.

The proxy is told the target as it is written: names are not resolved here, so that the proxy's view of them counts and
nobody else hears of them. The proxy's own name is resolved as a target's. What it refuses is an OSError with its words.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import cache

from dcrouter.config.targets import UpstreamTls
from dcrouter.config.through import Proxy
from dcrouter.errors import TlsError, WireError, reason_of
from dcrouter.net.engine import WAIT
from dcrouter.net.stream import Plain, Stream, send_all
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.target import Candidate, NoAddressYet, places
from dcrouter.targets.tls import TargetTls
from dcrouter.wire.tunnel import Handshake, handshake


class Through:
    """The way through one proxy."""

    def __init__(self, proxy: Proxy, addresses: Addresses) -> None:
        self._proxy = proxy
        self._addresses = addresses
        self._tls = _verified() if proxy.scheme == "https" else None

    def places(self) -> list[Candidate]:
        """Where the proxy is; OSError where its name is not resolved (yet)."""
        found = places(self._addresses.of(self._proxy.host), self._proxy.port, self._proxy.host)
        if not found:
            raise NoAddressYet(f"through {self._proxy}: ")
        return found

    async def lead(self, plain: Plain, host: str, port: int) -> Stream:
        """The way from a fresh connection with the proxy to `host`:`port`."""
        proxy = self._proxy
        try:
            stream: Stream = plain
            if self._tls is not None:
                stream = await self._tls.secure(plain, proxy.host)
            await _agree(stream, handshake(proxy.scheme, host, port, proxy.user, proxy.password))
        except (OSError, TlsError, WireError, ValueError) as error:
            raise self._error(reason_of(error)) from error
        return stream

    def unreached(self, error: OSError) -> OSError:
        """A connection that has failed was one to the proxy."""
        return self._error(reason_of(error))

    def _error(self, words: str) -> OSError:
        return OSError(errno.EHOSTUNREACH, f"through {self._proxy}: {words}")


async def _agree(stream: Stream, talk: Handshake) -> None:
    await send_all(stream, talk.opening)
    while True:
        data = stream.recv(talk.wants)
        if data is None:
            await WAIT
            continue
        if not data:
            raise WireError("the proxy has closed the connection")
        words = talk.feed(data)
        if words is None:
            return
        await send_all(stream, words)


@cache
def _verified() -> TargetTls:
    """Of sessions with proxies, which prove their name to the system's authorities: one, for those are many."""
    return TargetTls(UpstreamTls())


def of_family(candidates: Sequence[Candidate], family: int) -> list[Candidate]:
    """Those that can be reached from an address of `family`; OSError where there are none."""
    found = [one for one in candidates if one.family == family]
    if not found:
        raise OSError(errno.EAFNOSUPPORT, "it has no address of the family of `source`")
    return found
