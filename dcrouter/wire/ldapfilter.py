"""A filter of LDAP as text, with `{user}` where the name of a client goes. RFC 4515.

`parse(text)` gives a tree of the filter, or ValueError. The name is put into the tree, not into the text: whatever it
holds is a value to compare with and never a part of the filter, so nothing of it has to be escaped.
"""

from __future__ import annotations

import re

from attrs import frozen

USER = "{user}"
DEEPEST = 20

_TYPE = r"[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+"
_ITEM = re.compile(rf"((?:{_TYPE})(?:;[A-Za-z0-9-]+)*)(=|~=|>=|<=)([^()]*)")
_EXTENSIBLE = re.compile(rf"((?:{_TYPE})(?:;[A-Za-z0-9-]+)*)?(:dn)?(?::({_TYPE}))?:=([^()*]*)")
_PIECE = re.compile(r"\\([0-9A-Fa-f]{2})|(\{user\})|([^\\\0*])")

Value = tuple[bytes | None, ...]
"""Octets one behind the other; None stands for the name."""


@frozen
class Group:
    """`operator`: & or | of several, ! of one."""

    operator: str
    members: tuple[Filter, ...]


@frozen
class Compare:
    """`operator`: = ~= >= <=."""

    attribute: str
    operator: str
    value: Value


@frozen
class Present:
    attribute: str


@frozen
class Substrings:
    """`pieces`: what stands before, between and behind the stars; an empty one stands for nothing."""

    attribute: str
    pieces: tuple[Value, ...]


@frozen
class Extensible:
    """RFC 4511 4.5.1.7.7."""

    attribute: str | None
    rule: str | None
    with_dn: bool
    value: Value


Filter = Group | Compare | Present | Substrings | Extensible


def parse(text: str) -> Filter:
    """The tree; ValueError, with what is wrong and where."""
    found, rest = _filter(text, text.strip(), 0)
    if rest.strip():
        raise ValueError(f"something stands behind the end of the filter: {rest.strip()[:40]!r}")
    return found


def names_user(node: Filter) -> bool:
    """Whether the name of the client is looked at anywhere."""
    if isinstance(node, Group):
        return any(map(names_user, node.members))
    if isinstance(node, Substrings):
        return any(None in piece for piece in node.pieces)
    return not isinstance(node, Present) and None in node.value


def filled(value: Value, name: bytes) -> bytes:
    """The octets of a value for the client of this name."""
    return b"".join(name if piece is None else piece for piece in value)


def _filter(whole: str, text: str, depth: int) -> tuple[Filter, str]:
    if not text.startswith("("):
        raise ValueError(f"a filter stands in parentheses, such as (mail={USER})")
    if depth > DEEPEST:
        raise ValueError("the filter is nested too deeply")
    inner = text[1:].lstrip()
    operator = inner[:1]
    if operator in ("&", "|", "!"):
        members: list[Filter] = []
        rest = inner[1:].lstrip()
        while rest.startswith("("):
            member, rest = _filter(whole, rest, depth + 1)
            members.append(member)
            rest = rest.lstrip()
        if not members or (operator == "!" and len(members) != 1):
            raise ValueError(f"({operator} ...) has {'one filter' if operator == '!' else 'filters'} inside")
        found: Filter = Group(operator, tuple(members))
    else:
        item, _, _ = inner.partition(")")
        found, rest = _item(item), inner[len(item) :]
    if not rest.startswith(")"):
        raise ValueError("a parenthesis of the filter is not closed")
    return found, rest[1:]


def _item(text: str) -> Filter:
    plain = _ITEM.fullmatch(text)
    if plain is None:
        extended = _EXTENSIBLE.fullmatch(text)
        if extended is None or (extended[1] is None and extended[3] is None):
            raise ValueError(f"{text[:60]!r} is not an attribute, a comparison and a value, such as mail={USER}")
        return Extensible(extended[1], extended[3], extended[2] is not None, _value(extended[4]))
    attribute, operator, value = plain.groups()
    if operator == "=" and value == "*":
        return Present(attribute)
    if "*" in value:
        if operator != "=":
            raise ValueError(f"{text[:60]!r}: a star is for = only (write \\2a for the character)")
        return Substrings(attribute, tuple(_value(piece) if piece else () for piece in value.split("*")))
    return Compare(attribute, operator, _value(value))


def _value(text: str) -> Value:
    pieces: list[bytes | None] = []
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise ValueError(f"{text[at : at + 10]!r}: a backslash stands before two hexadecimal digits")
        at = found.end()
        octets = None if found[2] else bytes.fromhex(found[1]) if found[1] else found[3].encode()
        if octets is not None and pieces and (before := pieces[-1]) is not None:
            octets = before + octets
            pieces.pop()
        pieces.append(octets)
    return tuple(pieces)
