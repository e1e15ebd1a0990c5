"""What was right a moment ago, so that a client with a connection for each message costs one check in that time.

No password and no token is kept: only a digest, with a key that is this process's and random.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 30.0
"""Seconds. A password in the table that is changed is changed at once, as its hash is part of what is remembered."""
MAX_REMEMBERED = 1000


class Remembered:
    """`clock`: seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = os.urandom(32)
        self._until: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def seal(self, *parts: str) -> bytes:
        """What these are remembered by."""
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            octets = part.encode("utf-8", "surrogatepass")
            digest.update(len(octets).to_bytes(8, "big") + octets)
        return digest.digest()

    def told(self, seal: bytes) -> str | None:
        """What was kept with it; None where nothing is remembered."""
        until, value = self._until.get(seal, (0.0, ""))
        return value if until > self._clock() else None

    def keep(self, seal: bytes, value: str = "", seconds: float = REMEMBERED) -> None:
        """From the first time on; what is right again while it is remembered is not remembered longer for it."""
        if self.told(seal) is not None:
            return
        self._until[seal] = self._clock() + seconds, value
        self._until.move_to_end(seal)
        if len(self._until) > MAX_REMEMBERED:
            self._until.popitem(last=False)
