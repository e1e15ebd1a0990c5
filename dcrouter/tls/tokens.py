"""Signed tokens (JWT) of an issuer: what one claims, once it is known to be good. RFC 7519; RFC 8725 for the checks.

The algorithms are those of the configuration, never the token's choice, and each is checked with a key of its own kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jwt

LONGEST = 8192
"""Octets of a token."""


class Demands(Protocol):
    """What a token must be like: `issuer` None and an empty `audience` are not looked at; `leeway` in seconds."""

    @property
    def algorithms(self) -> tuple[str, ...]: ...
    @property
    def issuer(self) -> str | None: ...
    @property
    def audience(self) -> tuple[str, ...]: ...
    @property
    def leeway(self) -> float: ...


class NoKey(ValueError):
    """It is signed with a key that is not known."""


def claims_of(token: str, demands: Demands, keys: Callable[[str, object], Iterable[Any]]) -> dict[str, Any]:
    """What a good token claims, `exp` at least. `keys` gives those of an algorithm and a key's id, or None.

    ValueError, TypeError or jwt.PyJWTError where it is not good.
    """
    if len(token) > LONGEST:
        raise ValueError("too long")
    try:
        return _claims(token, demands, keys)
    except RecursionError:  # of its JSON, which is read before anything is known of who has sent it
        raise ValueError("nested too deeply") from None


def _claims(token: str, demands: Demands, keys: Callable[[str, object], Iterable[Any]]) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    algorithm = str(header.get("alg"))
    if algorithm not in demands.algorithms:
        raise ValueError(f"signed by {algorithm[:20]}")
    if "crit" in header:
        raise ValueError("it asks for extensions")
    problem: Exception = NoKey("signed with a key that the issuer does not have")
    for key in keys(algorithm, header.get("kid")):
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=demands.audience or None,
                issuer=demands.issuer,
                leeway=demands.leeway,
                options={
                    "require": ["exp"],
                    "verify_aud": bool(demands.audience),
                    "verify_iss": demands.issuer is not None,
                },
            )
        except jwt.InvalidSignatureError as error:
            problem = error
    raise problem
