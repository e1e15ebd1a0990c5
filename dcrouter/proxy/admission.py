"""Who may connect, how many at once, and how often: `security` of routes, of the defaults and of email.

Counters count the address behind a PROXY header, IPv6 by /64, and live beside the table (proxy/state.py), keyed by the
route's name, so that they survive a reload. A rate counts those who were let in: a client that goes on knocking while
it is refused is let in again as soon as the rate allows it.
"""

from __future__ import annotations

import time

from dcrouter.config.security import Security
from dcrouter.match.addresses import Networks, count_key
from dcrouter.net.limits import Buckets
from dcrouter.proxy.state import Present, Recent, State


class Admission:
    """One `security`, with who is present, and lately came. Every `enter` that gave None must be followed by one
    `leave` of the same Admission: a later one may count by other limits. `limited`: `enter` may refuse somebody.
    """

    def __init__(self, security: Security, present: Present, recent: Recent | None = None) -> None:
        """`recent`: of the one before, where the rate is limited; None: nobody came before."""
        self.present = present
        self._allow = None if security.allow is None else Networks(security.allow)
        self._block = Networks(security.block) if security.block else None
        self._max = security.max_connections
        self._max_per_ip = security.max_connections_per_ip
        self._recent = recent or Recent()
        self._rate: Buckets | None = None
        if security.connection_rate_per_ip is not None:
            self._rate = Buckets(security.connection_rate_per_ip, time.monotonic, memory=self._recent.memory)
        limits = (self._allow, self._block, self._max, self._max_per_ip, self._rate)
        self.limited = any(limit is not None for limit in limits)

    @classmethod
    def kept(cls, security: Security, state: State, *name: str) -> Admission:
        """That with the memory of the one of this name before it."""
        rated = security.connection_rate_per_ip is not None
        return cls(security, state.keep(Present, *name), state.keep(Recent, *name) if rated else None)

    def refusal(self, address: str) -> str | None:
        """Why a connection from `address` would not be let in now, or None."""
        if self._block is not None and self._block.covers(address):
            return "blocked"
        if self._allow is not None and not self._allow.covers(address):
            return "not allowed"
        present = self.present
        if self._max is not None and present.connections >= self._max:
            return "max_connections"
        if self._max_per_ip is not None or self._rate is not None:
            key = _key(address)
            if self._max_per_ip is not None and present.per_ip.get(key, 0) >= self._max_per_ip:
                return "max_connections_per_ip"
            if self._rate is not None and self._rate.wait(key):
                return "connection_rate_per_ip"
        return None

    def enter(self, address: str) -> str | None:
        """Count a connection from `address`; or say why it is not let in, and do not count it."""
        refused = self.refusal(address)
        if refused is None:
            if self._rate is not None:
                self._rate.take(_key(address))
            self.count(address)
        return refused

    def count(self, address: str) -> None:
        """Count a connection from `address` that was let in elsewhere."""
        if self._max_per_ip is not None:
            key = _key(address)
            self.present.per_ip[key] = self.present.per_ip.get(key, 0) + 1
        self.present.connections += 1

    def succeed(self, before: Admission, address: str) -> None:
        """A connection that `before`, the same one of another configuration, has let in counts here from now on."""
        if before._max_per_ip is None and self._max_per_ip is not None:
            key = _key(address)
            self.present.per_ip[key] = self.present.per_ip.get(key, 0) + 1
        elif before._max_per_ip is not None and self._max_per_ip is None:
            self._uncount(address)

    def forgive(self, address: str) -> None:
        """Somebody else does not let in a connection that was counted here: its part of the rate is given back."""
        if self._rate is not None:
            self._rate.give_back(_key(address))

    def leave(self, address: str) -> None:
        """Uncount it."""
        self.present.connections -= 1
        if self._max_per_ip is not None:
            self._uncount(address)

    def _uncount(self, address: str) -> None:
        per_ip, key = self.present.per_ip, _key(address)
        count = per_ip[key] - 1
        if count:
            per_ip[key] = count
        else:
            del per_ip[key]


def _key(address: str) -> str:
    """`count_key`, at once for IPv4, which the kernel and the parser of headers write in its one form."""
    return count_key(address) if ":" in address else address
