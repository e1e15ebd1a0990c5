"""Names that clients ask for and that nobody has a certificate for: told to the parent, which may order one.

The handshake at hand never waits for that. A name is told once in a while only, and so many at once, for whoever
connects can say any name.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dcrouter.config.rates import Rate
from dcrouter.net.limits import Bucket, Buckets

AGAIN = Rate(rate=(1, 60.0))
"""How often a name is told."""
PACE = Rate(rate=(10, 1.0), burst=100)
"""Names that are told in a time, at most: more than any parent would order."""


class Wishes:
    """`wanted`: whether the parent wants to hear of any; `tell` gets each name."""

    __slots__ = ("_bucket", "_names", "tell", "wanted")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.wanted = False
        self.tell: Callable[[str], None] = lambda name: None
        self._bucket = Bucket(PACE, clock)
        self._names = Buckets(AGAIN, clock)

    def wish(self, name: str) -> None:
        """A client has asked for `name`, as a ClientHello has it."""
        if not self._names.wait(name) and self._bucket.take():
            self._names.take(name)
            self.tell(name)
