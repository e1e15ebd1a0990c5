"""Names that clients ask for and that nobody has a certificate for: told to the parent, which may order one.

The handshake at hand never waits for that. A name is told once in a while only, and so many at once, for whoever
connects can say any name.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from dcrouter.config.rates import Rate
from dcrouter.net.limits import Bucket

AGAIN = 60.0
"""Seconds for which a name is not told again."""
REMEMBERED = 1000
"""Names that were told last."""
PACE = Rate(rate=(10, 1.0), burst=100)
"""Names that are told in a time, at most: more than any parent would order."""


class Wishes:
    """`wanted`: whether the parent wants to hear of any; `tell` gets each name."""

    __slots__ = ("_bucket", "_clock", "_told", "tell", "wanted")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.wanted = False
        self.tell: Callable[[str], None] = lambda name: None
        self._clock = clock
        self._bucket = Bucket(PACE, clock)
        self._told: OrderedDict[str, float] = OrderedDict()

    def wish(self, name: str) -> None:
        """A client has asked for `name`, as a ClientHello has it."""
        now = self._clock()
        if now - self._told.get(name, float("-inf")) < AGAIN or not self._bucket.take():
            return
        self._told[name] = now
        self._told.move_to_end(name)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self.tell(name)
