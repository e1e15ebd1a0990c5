"""security.basic_auth: a user of the file and its password, or 401 (RFC 7617).

Names that nobody has take as long as others: a hash of somebody's is tried for them.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections.abc import Mapping
from hashlib import blake2b

from dcrouter.config.htpasswd import users_of
from dcrouter.config.security import BasicAuth
from dcrouter.net.threads import Busy, Threads
from dcrouter.proxy.http.auth.passwords import Passwords
from dcrouter.proxy.http.exchange import Exchange

CHECKED_WITHIN = 15.0
"""Seconds for a password to be hashed, others before it included."""
LONGEST = 1024
"""Octets of name and password."""


class BasicGate:
    def __init__(self, auth: BasicAuth, files: Mapping[str, bytes], threads: Threads, passwords: Passwords) -> None:
        realm = auth.realm.replace("\\", "\\\\").replace('"', '\\"')
        self._challenge = [("WWW-Authenticate", f'Basic realm="{realm}", charset="UTF-8"')]
        self._path = str(auth.users_file)
        self._threads = threads
        self._passwords = passwords
        self._salt = os.urandom(16)
        self.believe(files)

    def believe(self, files: Mapping[str, bytes]) -> None:
        """The users as the file has them now."""
        self._users = users_of(files[self._path], self._path)
        self._hashes = list(self._users.values())

    async def admit(self, exchange: Exchange) -> bool:
        said = exchange.head.values("authorization")
        given = _credentials(said[0]) if len(said) == 1 else None
        if given is None or not self._hashes:
            await exchange.refuse(401, "no login" if not said else "a login that is none", self._challenge)
            return False
        user, password = given
        hashed = self._users.get(user)
        task = exchange.connection.session.task
        task.within(CHECKED_WITHIN, "login")
        try:
            right = await self._passwords.check(
                task, self._threads, exchange.client_ip, user, password, hashed or self._somebody(user)
            )
        except Busy as error:
            await exchange.refuse(503, str(error), [("Retry-After", "1")])
            return False
        if hashed is None or not right or self._users.get(user) != hashed:
            await exchange.refuse(401, "a wrong name or password", self._challenge)
            return False
        exchange.user = user
        return True

    def _somebody(self, user: str) -> str:
        """A hash for a name that nobody has: always the same."""
        digest = blake2b(user.encode("utf-8", "replace"), key=self._salt, digest_size=8).digest()
        return self._hashes[int.from_bytes(digest, "big") % len(self._hashes)]


def _credentials(text: str) -> tuple[str, str] | None:
    """(user, password) of an Authorization field; None for what is none."""
    scheme, _, encoded = text.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > LONGEST * 4 // 3:
        return None
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon and user else None
