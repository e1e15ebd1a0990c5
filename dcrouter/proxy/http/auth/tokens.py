"""security.jwt: a signed token of an issuer, or 401 (RFC 7519, RFC 6750; RFC 8725 for what is checked).

The algorithms are those of the configuration, never the token's choice, and each is checked with a key of its own kind.
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
from dcrouter.proxy.http.auth.keys import KeySets
from dcrouter.proxy.http.exchange import Exchange

LONGEST = 8192
"""Octets of a token."""
REMEMBERED = 4096
TRIED = 4
"""Keys that are tried for a token that does not say which one it is signed with."""


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
        if len(token) > LONGEST:
            raise ValueError("too long")
        if self._version != self._key_sets.version:
            self._version = self._key_sets.version
            self._good.clear()
        digest = blake2b(token.encode("latin-1"), digest_size=32).digest()
        known = self._good.get(digest)
        if known is not None and known[0] > time.time():
            self._good.move_to_end(digest)
            return known[1]
        claims = self._claims(token)
        user = str(claims.get("sub", ""))
        self._good[digest] = float(claims["exp"]) + self._auth.leeway, user
        self._good.move_to_end(digest)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return user

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        if algorithm not in self._auth.algorithms:
            raise ValueError(f"signed by {algorithm[:20]}")
        if "crit" in header:
            raise ValueError("it asks for extensions")
        problem: Exception = ValueError("signed with a key that the issuer does not have")
        for key in self._keys(algorithm, header.get("kid")):
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self._auth.audience or None,
                    issuer=self._auth.issuer,
                    leeway=self._auth.leeway,
                    options={
                        "require": ["exp"],
                        "verify_aud": bool(self._auth.audience),
                        "verify_iss": self._auth.issuer is not None,
                    },
                )
            except jwt.InvalidSignatureError as error:
                problem = error
        raise problem

    def _keys(self, algorithm: str, kid: object) -> Iterable[Any]:
        """Those that it may be signed with."""
        if algorithm.startswith("HS"):
            return [] if self._auth.secret is None else [str.__str__(self._auth.secret)]
        if self._file_key is not None:
            return [self._file_key] if fits(algorithm, self._file_key) else []
        url = self._auth.jwks_url
        if url is None:
            return []
        fitting = [
            one
            for one in self._key_sets.of(url) or ()
            if one.algorithm in (None, algorithm) and fits(algorithm, one.key) and (kid is None or one.id == kid)
        ]
        if not fitting:
            self._key_sets.wanted(url)
        return [one.key for one in fitting[:TRIED]]
