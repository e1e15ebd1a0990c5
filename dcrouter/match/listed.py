"""Addresses by the million: whether one of them is meant, at about ten bytes each.

What is kept is the 64-bit hash that Python gives to a text, with its secret of this process: two addresses that share
one are met once in 2^64 / n questions, n being how many there are, and nobody can make them up. The hashes lie in
small sorted arrays, so that neither building nor asking ever keeps other threads waiting.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

from dcrouter.config.patterns import ANY, LONGEST_ADDRESS, split
from dcrouter.match.recipients import is_wild, keys_of

_SHARDS = 4096
"""At a million addresses a shard has 250: an array of 2 KB."""


class Listed:
    """A set of patterns such as `joe@example.com` and `*@example.com`; no expressions."""

    __slots__ = ("_everybody_of", "_shards", "_wild")

    def __init__(self, patterns: Iterable[str]) -> None:
        """`patterns`: in the form in which they are compared; one pass over them, which may be as slow as they are."""
        shards: dict[int, array[int]] = {}
        self._wild = False
        self._everybody_of = False
        for pattern in patterns:
            hashed = hash(pattern)
            shard = shards.get(hashed % _SHARDS)
            if shard is None:
                shard = shards[hashed % _SHARDS] = array("q")
            shard.append(hashed)
            if pattern.startswith("*@"):
                self._everybody_of = True
            if "@*" in pattern and is_wild(pattern.rpartition("@")[2]):
                self._wild = True
        self._shards = {number: array("q", sorted(set(shard))) for number, shard in shards.items()}

    def __len__(self) -> int:
        return sum(map(len, self._shards.values()))

    def __contains__(self, address: str) -> bool:
        """Whether a pattern matches. `user+detail@domain` is there also where only `user@domain` is: servers that know
        details give such mail to the user (RFC 5233).
        """
        if len(address) > LONGEST_ADDRESS:
            return False
        local, domain = split(address)
        if self._has(local, domain):
            return True
        user, plus, _ = local.partition("+")
        return bool(user and plus) and self._has(user, domain)

    def _has(self, local: str, domain: str) -> bool:
        if not (self._everybody_of or self._wild):
            return self._kept(f"{local}@{domain}")
        return any(
            self._kept(f"{one}@{place}") for one, place in keys_of(local, domain, wild=self._wild) if place != ANY
        )

    def _kept(self, pattern: str) -> bool:
        hashed = hash(pattern)
        shard = self._shards.get(hashed % _SHARDS)
        if shard is None:
            return False
        at = bisect_left(shard, hashed)
        return at < len(shard) and shard[at] == hashed
