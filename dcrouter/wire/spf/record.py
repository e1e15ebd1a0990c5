"""An SPF record as a value: its mechanisms in order, `redirect` and `exp`. RFC 7208 4.5, 4.6.1, 5, 6, 12.

`parse` raises WireError for any syntax error anywhere in the record: that is "permerror" before anything is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal

from attrs import frozen

from dcrouter.errors import WireError

Qualifier = Literal["pass", "fail", "softfail", "neutral"]
MechanismName = Literal["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"]

VERSION = "v=spf1"

_QUALIFIERS: dict[str, Qualifier] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"([+\-?~]?)([A-Za-z0-9]+)(.*)", re.DOTALL)
_MACRO = r"%\{[slodiphcrtvSLODIPHCRTV][0-9]*[rR]?[-.+,/_=]*\}|%%|%_|%-"
_MACRO_STRING = re.compile(rf"(?:{_MACRO}|[!-$&-~])*")
_MACRO_WORDS = re.compile(rf"(?:{_MACRO}|[ -$&-~])*")
_EXPLAINING = re.compile(r"%\{[crtCRT]")
_ZERO_DIGITS = re.compile(r"%\{[A-Za-z]0+[^0-9]")
_LAST_MACRO = re.compile(r"%\{[^{}]*\}\Z")
_LABEL = re.compile(r"[A-Za-z0-9-]+")
_CIDR = re.compile(r"(?P<rest>.*?)(?:/(?P<four>[0-9]+))?(?://(?P<six>[0-9]+))?\Z", re.DOTALL)


@frozen
class Mechanism:
    """`domain`: the domain-spec, unexpanded, None where it has none; of ip4 and ip6 the address. `four`, `six`: prefix
    lengths.
    """

    name: MechanismName
    qualifier: Qualifier
    domain: str | None = None
    four: int = 32
    six: int = 128


@frozen
class Record:
    """`redirect` and `explanation`: domain-specs, unexpanded."""

    mechanisms: tuple[Mechanism, ...]
    redirect: str | None = None
    explanation: str | None = None


def is_record(text: str) -> bool:
    """Whether a TXT record is one of SPF (RFC 7208 4.5)."""
    return text.lower() == VERSION or text[: len(VERSION) + 1].lower() == VERSION + " "


def parse(text: str) -> Record:
    """The meaning of a record that `is_record`. Raises WireError."""
    if not text.isascii():
        raise WireError("a record beyond ASCII")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in filter(None, text[len(VERSION) :].split(" ")):
        modifier = _MODIFIER.fullmatch(term)
        if modifier is None:
            mechanisms.append(_mechanism(term))
            continue
        name, value = modifier[1].lower(), modifier[2]
        if name in ("redirect", "exp"):
            if name in modifiers:
                raise WireError(f"{name} twice")
            modifiers[name] = _domain_spec(value)
        else:
            check_macros(value)
    return Record(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


def check_macros(text: str, *, explaining: bool = False) -> None:
    """Raises WireError unless `text` is a macro-string; `explaining`: one with blanks, and the macros of exp."""
    whole = _MACRO_WORDS if explaining else _MACRO_STRING
    if whole.fullmatch(text) is None or _ZERO_DIGITS.search(text) is not None:
        raise WireError(f"{text!r} is no macro-string")
    if not explaining and _EXPLAINING.search(text) is not None:
        raise WireError("a macro that only explanations have")


def _mechanism(term: str) -> Mechanism:
    found = _DIRECTIVE.fullmatch(term)
    if found is None:
        raise WireError(f"{term!r} is no term")
    qualifier, name, rest = _QUALIFIERS[found[1] or "+"], found[2].lower(), found[3]
    if name == "all":
        if rest:
            raise WireError("all takes nothing")
        return Mechanism("all", qualifier)
    if name in ("include", "exists"):
        return Mechanism("include" if name == "include" else "exists", qualifier, _domain_spec(_behind_colon(rest)))
    if name == "ptr":
        return Mechanism("ptr", qualifier, _domain_spec(_behind_colon(rest)) if rest else None)
    if name in ("a", "mx"):
        domain, four, six = _cidr(rest)
        return Mechanism(
            "a" if name == "a" else "mx",
            qualifier,
            _domain_spec(_behind_colon(domain)) if domain else None,
            32 if four is None else four,
            128 if six is None else six,
        )
    if name in ("ip4", "ip6"):
        return _network(name, qualifier, _behind_colon(rest))
    raise WireError(f"unknown mechanism {name}")


def _network(name: str, qualifier: Qualifier, rest: str) -> Mechanism:
    address, slash, length = rest.partition("/")
    try:
        if name == "ip4":
            return Mechanism("ip4", qualifier, str(IPv4Address(address)), four=_length(length, 32) if slash else 32)
        return Mechanism("ip6", qualifier, str(IPv6Address(address)), six=_length(length, 128) if slash else 128)
    except AddressValueError as error:
        raise WireError(f"{name}: {error}") from error


def _cidr(rest: str) -> tuple[str, int | None, int | None]:
    """(what comes before, ip4 length, ip6 length); slashes inside of a macro are none of it."""
    found = _CIDR.fullmatch(rest)
    assert found is not None
    four, six = found["four"], found["six"]
    return (
        found["rest"],
        _length(four, 32) if four is not None else None,
        _length(six, 128) if six is not None else None,
    )


def _length(text: str, most: int) -> int:
    if not text.isdigit() or (text[0] == "0" and text != "0") or len(text) > 3 or int(text) > most:
        raise WireError(f"{text!r} is no prefix length")
    return int(text)


def _behind_colon(rest: str) -> str:
    if not rest.startswith(":") or len(rest) == 1:
        raise WireError("a domain or an address is missing")
    return rest[1:]


def _domain_spec(text: str) -> str:
    """A macro-string that ends in a macro or in a top-level label."""
    check_macros(text)
    if _LAST_MACRO.search(text) is None and not _is_top_level(text.removesuffix(".").rpartition(".")):
        raise WireError(f"{text!r} is no domain")
    return text


def _is_top_level(parts: tuple[str, str, str]) -> bool:
    """Whether what is behind the last dot is a toplabel: letters and hyphens within, not digits alone."""
    _, dot, label = parts
    return (
        bool(dot) and _LABEL.fullmatch(label) is not None and not label.isdigit() and "-" not in (label[0], label[-1])
    )


def records_among(texts: Iterable[str]) -> list[str]:
    """Those of the TXT records that are SPF's."""
    return [text for text in texts if is_record(text)]
