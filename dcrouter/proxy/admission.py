"""Who may connect, and how many at once: `security` of routes, of the defaults and of email.

Counters count the address behind a PROXY header, IPv6 by /64, and live beside the table (proxy/state.py), keyed by the
route's name, so that they survive a reload.
"""

from __future__ import annotations

from dcrouter.config.security import Security
from dcrouter.match.addresses import Networks, count_key
from dcrouter.proxy.state import Present


class Admission:
    """One `security`, with who is present. Every `enter` that gave None must be followed by one `leave` of the same
    Admission: a later one may count by other limits.
    """

    def __init__(self, security: Security, present: Present) -> None:
        self.present = present
        self.limited = security != Security()
        self._allow = None if security.allow is None else Networks(security.allow)
        self._block = Networks(security.block) if security.block else None
        self._max = security.max_connections
        self._max_per_ip = security.max_connections_per_ip

    def refuses(self, address: str) -> str | None:
        """Why `address` is not let in by allow and block, or None."""
        if self._block is not None and self._block.covers(address):
            return "blocked"
        if self._allow is not None and not self._allow.covers(address):
            return "not allowed"
        return None

    def enter(self, address: str) -> str | None:
        """Count a connection from `address`; or say why not, and do not count it."""
        if self._max is not None and self.present.connections >= self._max:
            return "max_connections"
        if self._max_per_ip is not None and self.present.per_ip.get(count_key(address), 0) >= self._max_per_ip:
            return "max_connections_per_ip"
        self.count(address)
        return None

    def count(self, address: str) -> None:
        """Count a connection from `address` that was let in elsewhere."""
        if self._max_per_ip is not None:
            key = count_key(address)
            self.present.per_ip[key] = self.present.per_ip.get(key, 0) + 1
        self.present.connections += 1

    def leave(self, address: str) -> None:
        """Uncount it."""
        self.present.connections -= 1
        if self._max_per_ip is not None:
            per_ip = self.present.per_ip
            key = count_key(address)
            count = per_ip[key] - 1
            if count:
                per_ip[key] = count
            else:
                del per_ip[key]
