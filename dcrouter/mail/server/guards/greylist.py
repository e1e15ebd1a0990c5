"""email.greylist: an unknown client must come again for a recipient, after a while, as mail servers do. RFC 6647.

1. The first attempt of (client's network, sender, recipient) is noted; it gets 451 4.7.1 until `delay` is over.
2. One that comes again within RETRY passes, and makes the network known: from then on it is not held up any more,
   until it has not been seen for KNOWN.

Networks are a /24, with IPv6 a /64: large senders try again from another address (RFC 6647 4.2, 5). All is kept in a
ledger, so a restart holds nobody up again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b

from dcrouter.config.guards import Greylist
from dcrouter.config.patterns import split
from dcrouter.mail.ledger import Ledger, Row, Table
from dcrouter.match.addresses import network_key

RETRY = 2 * 86400.0
"""Seconds after the first attempt in which one must come again: RFC 6647 5 wants a day at least."""
KNOWN = 35 * 86400.0
"""Seconds: newsletters come once a month (RFC 6647 5 wants a week at least)."""
_FRESH = 86400.0
"""Seconds after which a network that is seen again is noted anew."""

V6 = 64


class Greylisting:
    """`now`: UTC epoch seconds."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now
        self._delay: float | None = None
        self._pending: Table | None = None
        self._known: Table | None = None

    def reload(self, config: Greylist | None) -> None:
        """Another delay from now on, or none; what is known stays."""
        self._delay = config.delay if config is not None else None
        if config is not None and self._pending is None:
            self._pending = self._ledger.table("greylist")
            self._known = self._ledger.table("known clients")

    def __bool__(self) -> bool:
        return self._delay is not None

    def wait(self, client: str, sender: str, recipient: str) -> int:
        """Seconds until this recipient may be asked for again, 0: it may pass. The attempt is noted."""
        if self._delay is None or self._pending is None or self._known is None:
            return 0
        now = self._now()
        network = network_key(client, V6)
        key = _digest(network)
        known = self._known.get(key)
        if known is not None:
            if now - known.value > _FRESH:
                self._known.put(key, Row(now, now + KNOWN))
            return 0
        attempt = _digest(network, *split(sender), *split(recipient))
        first = self._pending.get(attempt)
        if first is None:
            first = Row(now, now + max(RETRY, self._delay * 2))
            self._pending.put(attempt, first)
        left = min(first.value, now) + self._delay - now  # the clock may have been set back
        if left > 0:
            return math.ceil(left)
        self._pending.forget(attempt)
        self._known.put(key, Row(now, now + KNOWN))
        return 0


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).digest()
