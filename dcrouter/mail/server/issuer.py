"""Whose token it is that a client brings: told by the token itself, or by its issuer. RFC 7519 and 8725; RFC 7662.

1. `jwks_url`: the token is signed, and the parent looks after the keys. One that nobody knows here is asked for, and
   waited for a little: it may be the first token that is signed with it.
2. `introspection_url`: the issuer is asked, within WITHIN seconds; what it affirms is remembered for a little while.

An issuer that does not answer is Unavailable: never a pass, and no failure of the client's either.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import jwt
from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dcrouter.config.directory import Introspection, OAuth2
from dcrouter.config.urls import told_url
from dcrouter.mail.server.claims import Unavailable, Wrong
from dcrouter.mail.server.remembered import REMEMBERED, Remembered
from dcrouter.net.fetch import Fetcher
from dcrouter.tls.keysets import KeySets
from dcrouter.tls.tokens import LONGEST, NoKey, claims_of

WITHIN = 5.0
"""Seconds for an issuer's answer."""
AT_ONCE = 50
"""Questions on their way; those beyond it are told to come again."""
KEY_WITHIN, LOOK_AGAIN = 2.0, 0.1
"""Seconds that a new key is waited for, looked at so often."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those of public keys: with a set of them, a token that is signed with a secret is signed by anybody."""
LEEWAY = 30.0
"""Seconds that clocks may be apart."""
LONGEST_NAME = 320
LARGEST = 64 * 1024
"""Octets of an issuer's answer."""


@frozen(kw_only=True)
class _Demands:
    issuer: str | None
    audience: tuple[str, ...]
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: float = LEEWAY


class Issuer:
    """`now`: UTC epoch seconds."""

    _log = Logger()

    def __init__(
        self, config: OAuth2, key_sets: KeySets, remembered: Remembered, reactor: Any, now: Callable[[], float]
    ) -> None:
        self.config = config
        self._key_sets = key_sets
        self._remembered = remembered
        self._reactor = reactor
        self._now = now
        self._demands = _Demands(issuer=config.issuer, audience=config.audience)
        self._fetcher = Fetcher(reactor, WITHIN)
        self._asking = 0
        self._waiting = 0
        self._down = False

    async def account(self, token: str) -> str:
        """The account's name. Raises Wrong, Unavailable."""
        if len(token) > LONGEST:
            raise Wrong("the token is too long")
        if self.config.introspection_url is not None:
            return await self._told(token, self.config.introspection_url)
        assert self.config.jwks_url is not None
        return self._name(await self._signed(token, self.config.jwks_url))

    # ------------------------------------------------------------------ signed tokens

    async def _signed(self, token: str, url: str) -> dict[str, Any]:
        if self._key_sets.of(url) is None:
            raise Unavailable("the keys of the issuer are not known yet")
        version = self._key_sets.version
        try:
            return self._claims(token, url)
        except NoKey as missing:
            if not await self._renewed(version):
                raise Wrong(str(missing)) from None
        try:
            return self._claims(token, url)
        except NoKey as missing:
            raise Wrong(str(missing)) from None

    def _claims(self, token: str, url: str) -> dict[str, Any]:
        try:
            return claims_of(token, self._demands, lambda algorithm, kid: self._key_sets.fitting(url, algorithm, kid))
        except NoKey:
            raise
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Wrong(f"the token is not good: {_plain(str(error))}") from None

    async def _renewed(self, version: int) -> bool:
        """Whether there are other keys within a little while: the set was asked for when one was missed."""
        if self._waiting >= AT_ONCE:
            return False
        self._waiting += 1
        try:
            for _ in range(round(KEY_WITHIN / LOOK_AGAIN)):
                await deferLater(self._reactor, LOOK_AGAIN)
                if self._key_sets.version != version:
                    return True
            return False
        finally:
            self._waiting -= 1

    # ------------------------------------------------------------------ tokens that the issuer is asked about

    async def _told(self, token: str, place: Introspection) -> str:
        seal = self._remembered.seal("token", place.url, repr(self._demands), self.config.user_claim, token)
        known = self._remembered.told(seal)
        if known is not None:
            return known
        claims = await self._ask(token, place)
        if claims.get("active") is not True:
            raise Wrong("the issuer says that the token is not active")
        expires = claims.get("exp")
        left = float(expires) - self._now() if isinstance(expires, int | float) else REMEMBERED
        if left <= 0:
            raise Wrong("the token has run out")
        if self._demands.issuer is not None and claims.get("iss") != self._demands.issuer:
            raise Wrong("the token is of another issuer")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._demands.audience and not any(one in audiences for one in self._demands.audience):
            raise Wrong("the token is for somebody else")
        name = self._name(claims)
        self._remembered.keep(seal, name, min(left, REMEMBERED))
        return name

    async def _ask(self, token: str, place: Introspection) -> dict[str, Any]:
        if self._asking >= AT_ONCE:
            raise Unavailable("too many questions to the issuer at once")
        headers = {}
        if place.client is not None:  # RFC 6749 2.3.1: form-encoded, then as Basic
            pair = f"{quote(place.client, safe='')}:{quote(str.__str__(place.secret), safe='')}"
            headers["authorization"] = "Basic " + b64encode(pair.encode()).decode("ascii")
        form = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        self._asking += 1
        try:
            asked = self._fetcher.post(place.url, form, headers, LARGEST)
            status, body = await asked.addTimeout(WITHIN, self._reactor)
        except Exception as error:
            late = isinstance(error, CancelledError | TimeoutError)
            raise self._unanswered("no answer in time" if late else _plain(str(error))) from None
        finally:
            self._asking -= 1
        try:
            claims = json.loads(body) if status == 200 else None
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise self._unanswered(f"it was answered with {status}, and nothing that could be read")
        if self._down:
            self._down = False
            self._log.info("the issuer answers again: {url}", url=told_url(place.url))
        return claims

    def _unanswered(self, reason: str) -> Unavailable:
        """Told once, until it answers again."""
        if not self._down:
            self._down = True
            assert self.config.introspection_url is not None
            self._log.error(
                "the issuer cannot be asked, no token is taken: {url}: {reason}",
                url=told_url(self.config.introspection_url.url),
                reason=reason,
            )
        return Unavailable("the issuer cannot be asked")

    # ------------------------------------------------------------------ both

    def _name(self, claims: dict[str, Any]) -> str:
        word = self.config.user_claim
        name = claims.get(word)
        if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise Wrong(f"the token names nobody as {word}")
        if word == "email" and claims.get("email_verified") in (False, "false"):
            raise Wrong("the issuer has not verified the address in the token")
        return name


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:200])
