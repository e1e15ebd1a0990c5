"""Whether a hash is of a password: slow on purpose, so it is done in threads, and remembered for a while.

Both libraries let go of the GIL while they hash. What is remembered is bounded, keyed by a digest that only this
process can make, and worth nothing once the user has another hash.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from hashlib import blake2b

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import HashingError, VerificationError

from dcrouter.net.engine import Task
from dcrouter.net.threads import Busy, Threads
from dcrouter.wire.sasl import prepare_password

RIGHT_FOR = 300.0
WRONG_FOR = 10.0
"""Seconds for which a right, or a wrong, password is not hashed again."""
REMEMBERED = 4096
"""Pairs of user and password, some 300 octets each; the one that was asked for the longest ago goes first."""
WAITING_EACH = 8
"""Hashes that one client may wait for at once: others come in between."""

_argon2 = PasswordHasher()


class Passwords:
    """Those that were tried lately. One for all routes: kept by proxy/state."""

    __slots__ = ("__weakref__", "_key", "_known", "_pending")

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()
        self._pending: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def check(self, task: Task, threads: Threads, client: str, user: str, password: str, hashed: str) -> bool:
        """Whether `hashed` is of `password`; Busy where too many are asked already, `client` among them."""
        digest = blake2b("\0".join((user, password, hashed)).encode("utf-8", "replace"), key=self._key, digest_size=32)
        key = digest.digest()
        known = self._known.get(key)
        if known is not None and known[0] > task.engine.now:
            self._known.move_to_end(key)
            return known[1]
        pending = self._pending.get(client, 0)
        if pending >= WAITING_EACH:
            raise Busy("too many passwords of one client wait")
        self._pending[client] = pending + 1
        try:
            right = await threads.call(task, matches, hashed, password)
        finally:
            left = self._pending[client] - 1
            if left:
                self._pending[client] = left
            else:
                del self._pending[client]
        self._known[key] = task.engine.now + (RIGHT_FOR if right else WRONG_FOR), right
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return right


def matches(hashed: str, password: str) -> bool:
    """In a thread. bcrypt looks at 72 octets of a password, as htpasswd does."""
    if "\0" in password:
        return False
    try:
        if hashed.startswith("$argon2"):
            return _argon2.verify(hashed, prepare_password(password))
        return bcrypt.checkpw(password.encode()[:72], hashed.encode())
    except (VerificationError, HashingError, ValueError):
        return False
