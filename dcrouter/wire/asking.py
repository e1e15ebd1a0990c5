"""How a sans-io machine asks DNS: it yields a `Question` and is sent what was `Found`, or Unreachable is thrown in.

Such a machine is a generator; `Asking[T]` is one that returns a T. Whoever drives it knows where answers come from.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
Kind = Literal["A", "AAAA", "MX", "TXT", "PTR"]

MAX_NAME = 253
MAX_LABEL = 63
"""Octets, RFC 1035 2.3.4."""


class Question(NamedTuple):
    """`name`: as text, without final dot; any characters."""

    name: str
    kind: Kind


class Found(NamedTuple):
    """`values`: addresses, host names (of MX, by preference), or the joined strings of TXT, an octet a character.

    `exists` False: there is no such name at all (NXDOMAIN).
    """

    values: tuple[str, ...] = ()
    exists: bool = True


Asking = Generator[Question, Found, T]


def is_askable(name: str) -> bool:
    """Whether DNS can be asked for a name: labels of 1 to 63 octets, 253 together."""
    name = name.removesuffix(".")
    return 0 < len(name) <= MAX_NAME and name.isascii() and all(0 < len(one) <= MAX_LABEL for one in name.split("."))
