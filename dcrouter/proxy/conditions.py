"""What a route asks of a connection beside its name, bound to a clock: known before the first byte, or by its hello."""

from __future__ import annotations

from collections.abc import Callable

from dcrouter.config.match import Match
from dcrouter.facts import ConnectionFacts
from dcrouter.match.addresses import Networks
from dcrouter.match.times import Times
from dcrouter.wire.clienthello import ClientHello

Clock = Callable[[], float]
"""UTC epoch seconds."""


class Conditions:
    """The address that a connection came to, who it is, and when: known before its first byte."""

    __slots__ = ("_clients", "_clock", "_listen", "_times")

    def __init__(self, match: Match, clock: Clock) -> None:
        listen = match.listen
        self._listen = None if listen is None else frozenset(str(address) for address in listen)
        if self._listen is not None and self._listen & {"0.0.0.0", "::"}:
            self._listen = None
        self._clients = None if match.client_ips is None else Networks(match.client_ips)
        self._times = None if match.time is None else Times(match.time)
        self._clock = clock

    def hold(self, facts: ConnectionFacts) -> bool:
        return (
            (self._listen is None or facts.local[0] in self._listen)
            and (self._clients is None or self._clients.covers(facts.peer[0]))
            and (self._times is None or self._times.hold(self._clock()))
        )


class HelloConditions(Conditions):
    """The same, and what the client's ClientHello offers: one of some protocols, and as its newest version one of
    some.
    """

    __slots__ = ("_alpn", "_early", "_versions")

    def __init__(self, match: Match, clock: Clock) -> None:
        super().__init__(match, clock)
        self._early = (match.listen, match.client_ips, match.time) != (None, None, None)
        self._alpn = None if match.alpn is None else frozenset(match.alpn)
        self._versions = None if match.tls_versions is None else frozenset(match.tls_versions)

    def hold(self, facts: ConnectionFacts) -> bool:
        hello = facts.hello
        return (
            hello is not None
            and (self._alpn is None or not self._alpn.isdisjoint(hello.alpn))
            and (self._versions is None or newest_version(hello) in self._versions)
            and (not self._early or super().hold(facts))
        )


_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_NEWEST = 0x0304
"""Above it are drafts, and what nobody has standardised yet."""


def newest_version(hello: ClientHello) -> str | None:
    """The word for the newest version that a client offers; None for those that have none here."""
    return _VERSIONS.get(max((version for version in hello.versions if version <= _NEWEST), default=0))
