"""security.jwt: a signed token of an issuer, or 401 (RFC 6750; tls/tokens for what is checked).

A token that was good is remembered, by a digest, until it runs out or the keys change.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import jwt

from dcrouter.config.publickey import PublicKey, fits, public_key_of
from dcrouter.config.security import Jwt
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.tls.keysets import KeySets
from dcrouter.tls.tokens import LONGEST, claims_of

REMEMBERED = 4096


class TokenGate:
    def __init__(self, auth: Jwt, files: Mapping[str, bytes], key_sets: KeySets) -> None:
        self._auth = auth
        self._key_sets = key_sets
        self._file_key: PublicKey | None = None
        self._good: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._version = key_sets.version
        self.believe(files)

    def believe(self, files: Mapping[str, bytes]) -> None:
        """The public key as its file has it now."""
        if self._auth.public_key is not None:
            path = str(self._auth.public_key)
            self._file_key = public_key_of(files[path], path)
        self._good.clear()

    async def admit(self, exchange: Exchange) -> bool:
        said = exchange.head.values("authorization")
        scheme, _, token = (said[0] if len(said) == 1 else "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            await exchange.refuse(401, "no token", [("WWW-Authenticate", "Bearer")])
            return False
        url = self._auth.jwks_url
        if url is not None and self._key_sets.of(url) is None:
            await exchange.refuse(503, "the keys of the issuer are not known yet", [("Retry-After", "1")])
            return False
        try:
            exchange.user = self._user(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            why = f"the token is not good: {error}"[:200]
            await exchange.refuse(401, why, [("WWW-Authenticate", 'Bearer error="invalid_token"')])
            return False
        return True

    def _user(self, token: str) -> str:
        """Who has it; raises where it is not good."""
        if len(token) > LONGEST:  # before anything is made of it
            raise ValueError("too long")
        if self._version != self._key_sets.version:
            self._version = self._key_sets.version
            self._good.clear()
        digest = blake2b(token.encode("latin-1"), digest_size=32).digest()
        known = self._good.get(digest)
        if known is not None and known[0] > time.time():
            self._good.move_to_end(digest)
            return known[1]
        claims = claims_of(token, self._auth, self._keys)
        user = str(claims.get("sub", ""))
        self._good[digest] = float(claims["exp"]) + self._auth.leeway, user
        self._good.move_to_end(digest)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return user

    def _keys(self, algorithm: str, kid: object) -> Iterable[Any]:
        """Those that it may be signed with."""
        if algorithm.startswith("HS"):
            return [] if self._auth.secret is None else [str.__str__(self._auth.secret)]
        if self._file_key is not None:
            return [self._file_key] if fits(algorithm, self._file_key) else []
        url = self._auth.jwks_url
        if url is None:
            return []
        return self._key_sets.fitting(url, algorithm, kid)
