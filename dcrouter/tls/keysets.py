"""Key sets of issuers (RFC 7517), as the parent has fetched them: edge and mail look up, and say what they lack."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import jwt
from attrs import frozen

from dcrouter.config.publickey import PublicKey, fits

MOST_KEYS = 64
"""Of one set."""
TRIED = 4
"""Keys that are tried for a token that does not say which one it is signed with."""


@frozen
class Key:
    """`algorithm`: the only one that it is for, None: any that it can do."""

    id: str | None
    algorithm: str | None
    key: PublicKey


class KeySets:
    """By URL. `wanted` is called with one in which a key was missed; `version` counts the updates."""

    __slots__ = ("__weakref__", "_sets", "version", "wanted")

    def __init__(self) -> None:
        self._sets: dict[str, tuple[Key, ...]] = {}
        self.version = 0
        self.wanted: Callable[[str], None] = lambda url: None

    def update(self, sets: Mapping[str, str]) -> None:
        """All of them, as JSON texts that the parent has looked at."""
        self._sets = {url: keys_of(text) for url, text in sets.items()}
        self.version += 1

    def of(self, url: str) -> tuple[Key, ...] | None:
        """None: not known yet."""
        return self._sets.get(url)

    def fitting(self, url: str, algorithm: str, kid: object) -> list[PublicKey]:
        """Those that a token may be signed with that names `kid`, or None; where there is none, the set is wanted."""
        found = [
            one.key
            for one in self._sets.get(url, ())
            if one.algorithm in (None, algorithm) and fits(algorithm, one.key) and (kid is None or one.id == kid)
        ]
        if not found:
            self.wanted(url)
        return found[:TRIED]


def keys_of(text: str) -> tuple[Key, ...]:
    """The public keys of a set that can check signatures; others are left out. ValueError where it is no set."""
    loaded = json.loads(text)
    given = loaded.get("keys") if isinstance(loaded, dict) else None
    if not isinstance(given, list):
        raise ValueError("not a set of keys")
    found = []
    for one in given[:MOST_KEYS]:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or "d" in one:
            continue
        try:
            key = jwt.PyJWK(one).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, PublicKey):
            found.append(Key(one.get("kid"), one.get("alg"), key))
    return tuple(found)
