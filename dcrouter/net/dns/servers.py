"""The DNS servers that are asked: those of the configuration, else of /etc/resolv.conf, the living ones first.

A server that was silent or refused is asked after the others for a while, which doubles each time; when that is over,
one question tries it again. RFC 1536 asks for such patience.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from dcrouter.config.resolver import Resolver as ResolverConfig
from dcrouter.net.dns.files import ResolvConf, Watched, parse_resolv_conf
from dcrouter.wire.hostport import hostport

PORT = 53

MAX_SERVERS = 3
"""Asked for one question, as resolv.conf(5) has it: the fourth does not know what three did not."""

DEAD = 5.0
DEAD_AT_MOST = 120.0
"""Seconds for which a server without an answer is asked last."""


class Server:
    """`host`: an address, perhaps with a scope. `trusted`: its word about DNSSEC counts."""

    def __init__(self, host: str, port: int, trusted: bool) -> None:
        self.host = host
        self.port = port
        self.trusted = trusted
        self.dead_until = 0.0
        self._failures = 0

    def __str__(self) -> str:
        if self.port == PORT:
            return self.host
        return hostport(self.host, self.port)

    @property
    def doubted(self) -> bool:
        """Whether it had no answer the last time."""
        return self._failures > 0

    def answered(self) -> None:
        self._failures = 0
        self.dead_until = 0.0

    def failed(self, now: float) -> None:
        """It was silent, or is not there."""
        self.dead_until = now + min(DEAD * 2**self._failures, DEAD_AT_MOST)
        self._failures = min(self._failures + 1, 10)


class Servers:
    """`seconds`: a monotonic clock. `port`: of the servers of `resolv_conf`, which cannot say."""

    def __init__(
        self, config: ResolverConfig, seconds: Callable[[], float], resolv_conf: Path, port: int = PORT
    ) -> None:
        self._config = config
        self._seconds = seconds
        self._port = port
        self._file = Watched(resolv_conf, parse_resolv_conf, seconds) if config.servers is None else None
        self._known: dict[tuple[str, int], Server] = {}

    def order(self) -> list[Server]:
        """Whom to ask, in this order; at most MAX_SERVERS and at least one."""
        if self._file is not None:
            places = [(host, self._port) for host in self._file.get().servers]
        else:
            places = [(place.host, place.port or PORT) for place in self._config.servers or ()]
        self._known = {place: self._known.get(place) or self._made(*place) for place in places}
        now = self._seconds()
        servers = sorted(self._known.values(), key=lambda server: server.dead_until > now)
        for server in servers:
            if server.doubted and server.dead_until <= now:
                server.dead_until = now + DEAD  # this question tries it; the others do not wait for it meanwhile
        return servers[:MAX_SERVERS]

    def names_of(self, name: str) -> list[str]:
        """What a name of the configuration may be short for, in the order to try: resolv.conf's search and ndots."""
        conf = self._file.get() if self._file is not None else ResolvConf(())
        longer = [f"{name}.{domain}" for domain in conf.search]
        return [name, *longer] if name.count(".") >= conf.ndots else [*longer, name]

    def _made(self, host: str, port: int) -> Server:
        trust = self._config.trust_ad
        trusted = ip_address(host).is_loopback if trust == "auto" else trust == "true"
        return Server(host, port, trusted)
