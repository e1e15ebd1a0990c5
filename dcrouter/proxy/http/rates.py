"""security.request_rate: how often requests may come, by client or by what they say of themselves in a header.

What is kept is bounded (net/limits), whatever clients send: values of headers are kept as digests.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b

from dcrouter.config.security import RequestRate
from dcrouter.match.addresses import count_key
from dcrouter.net.limits import Buckets, Memory
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.state import State

KeyOf = Callable[[Exchange], Hashable]


class Counted:
    """Whose requests have come lately."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self) -> None:
        self.memory: Memory = OrderedDict()


class RateGate:
    """Limits of one route: a request passes where each of them has a token left, and then takes one of each."""

    def __init__(self, limits: Sequence[tuple[KeyOf, Counted, RequestRate]]) -> None:
        self._counted = [counted for _, counted, _ in limits]
        self._limits = [(key_of, Buckets(rate, time.monotonic, memory=kept.memory)) for key_of, kept, rate in limits]

    @classmethod
    def kept(cls, rates: Sequence[RequestRate], state: State, route: str) -> RateGate:
        """That with the memory of the one before it."""
        return cls(
            [(_key_of(rate.key), state.keep(Counted, route, rate.key, str(at)), rate) for at, rate in enumerate(rates)]
        )

    async def admit(self, exchange: Exchange) -> bool:
        asked = [(buckets, key_of(exchange)) for key_of, buckets in self._limits]
        wait = max(buckets.wait(key) for buckets, key in asked)
        if wait:
            await exchange.refuse(429, "request_rate", [("Retry-After", str(math.ceil(wait)))])
            return False
        for buckets, key in asked:
            buckets.take(key)
        return True


def _key_of(key: str) -> KeyOf:
    if key == "client_ip":
        return _client
    name = key.removeprefix("header:")

    def value(exchange: Exchange) -> Hashable:
        given = exchange.head.get(name)
        return _client(exchange) if given is None else blake2b(given.encode("latin-1"), digest_size=16).digest()

    return value


def _client(exchange: Exchange) -> str:
    return count_key(exchange.client_ip)
