"""A mail address as SMTP writes it: `<local@domain>` in, plain text out.

Contract: `parse_path` gives the address without brackets and source route. A quoted local part that needs no quotes
loses them, so that one mailbox has one spelling; a domain with U-labels becomes one of A-labels. Nothing is looked up
and nothing of ASCII is lower-cased. RFC 5321 4.1.2, 4.1.3, 4.5.3.1; RFC 6531 3.3, RFC 5891.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from dcrouter.errors import WireError

MAX_LOCAL = 64
MAX_DOMAIN = 255
"""Octets, RFC 5321 4.5.3.1.1 and 4.5.3.1.2."""

POSTMASTER = "postmaster"
"""What `<postmaster>` without a domain becomes, in any case of its letters (RFC 5321 4.1.1.3)."""

NEEDS_SMTPUTF8 = b"553 5.6.7 An address beyond ASCII needs SMTPUTF8"

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[A-Za-z0-9.:-]+\]"
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"'

_COMMON = re.compile(rf"<({_DOT_STRING})@({_DOMAIN})>")
_ANY = re.compile(
    rf"<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?(?P<local>{_DOT_STRING}|{_QUOTED})@(?P<domain>{_DOMAIN}|{_LITERAL})>"
)
_WIDE = r"\x80-\U0010ffff"
_WIDE_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_WIDE}-]+"
_WIDE_QUOTED = rf'"(?:[\x20\x21\x23-\x5b\x5d-\x7e{_WIDE}]|\\[\x20-\x7e])*"'
_WIDE_NAME = rf"[A-Za-z0-9_.{_WIDE}-]+"
_INTERNATIONAL = re.compile(
    rf"<(?:@{_WIDE_NAME}(?:,@{_WIDE_NAME})*:)?(?P<local>{_WIDE_ATOM}(?:\.{_WIDE_ATOM})*|{_WIDE_QUOTED})"
    rf"@(?P<domain>{_WIDE_NAME})>"
)
_IS_WIDE_DOT_STRING = re.compile(rf"{_WIDE_ATOM}(?:\.{_WIDE_ATOM})*")
_ESCAPED = re.compile(r"\\(.)")
_IS_DOMAIN = re.compile(_DOMAIN)
_POSTMASTER_PATH = re.compile(r"<postmaster>", re.IGNORECASE | re.ASCII)


def parse_path(text: str, *, null: bool = False, postmaster: bool = False, utf8: bool = False) -> tuple[str, str]:
    """The address at the beginning of `text`, and what follows its `>`.

    `null` lets `<>` through (it gives ""), `postmaster` lets `<postmaster>` through (it gives POSTMASTER), `utf8`
    addresses beyond ASCII (RFC 6531); then the result may have a local part that is. Raises WireError, with the reply,
    for everything else that is not a path.
    """
    found = _COMMON.match(text)
    if found is not None:
        local, domain = found.groups()
    elif null and text.startswith("<>"):
        return "", text[2:]
    elif postmaster and (short := _POSTMASTER_PATH.match(text)):
        return POSTMASTER, text[short.end() :]
    else:
        found = _ANY.match(text)
        wide = found is None and not text.isascii()
        found = found or (_INTERNATIONAL.match(text) if wide else None)
        if found is None:
            raise WireError("not a path", b"501 5.1.3 Bad address syntax")
        local, domain = found["local"], found["domain"]
        if wide:
            if not utf8:
                raise WireError("an address beyond ASCII", NEEDS_SMTPUTF8)
            _check_local(local)
            domain = _a_labels(domain)
        elif domain[0] == "[":
            _check_literal(domain)
        if local[0] == '"':
            local = _plainest(local)
    if len(local.encode("utf-8")) > MAX_LOCAL or len(domain) > MAX_DOMAIN:
        raise WireError("an address that is too long", b"501 5.1.3 Address too long")
    return f"{local}@{domain}", text[found.end() :]


def split(address: str) -> tuple[str, str]:
    """(local part without its quotes, domain) of a parsed address; POSTMASTER has the domain ""."""
    local, at, domain = address.rpartition("@")
    if not at:
        return address, ""
    if local.startswith('"'):
        local = _ESCAPED.sub(r"\1", local[1:-1])
    return local, domain


def is_domain(text: str) -> bool:
    """Whether `text` could stand behind an `@` or EHLO as a name (not as an address literal)."""
    return len(text) <= MAX_DOMAIN and _IS_DOMAIN.fullmatch(text) is not None


def _plainest(quoted: str) -> str:
    """`quoted` without quotes where the same local part can be written so, else with only the escapes that it needs."""
    content = _ESCAPED.sub(r"\1", quoted[1:-1])
    if _IS_WIDE_DOT_STRING.fullmatch(content):
        return content
    escaped = content.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _check_local(local: str) -> None:
    """Raises WireError for what nobody types (controls, what was no UTF-8), and for marks of routing in disguise."""
    plain = unicodedata.normalize("NFKC", local)
    if "\ufffd" in local or not local.isprintable() or any(plain.count(mark) > local.count(mark) for mark in "@%!"):
        raise WireError("a local part of no letters", b"501 5.1.3 Bad address syntax")


@lru_cache(maxsize=1024)
def _a_labels(domain: str) -> str:
    try:
        encoded = domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # idna.IDNAError is one
        encoded = ""
    if not is_domain(encoded):
        raise WireError("no internationalized domain name", b"501 5.1.3 Bad domain name")
    return encoded


def _check_literal(domain: str) -> None:
    """Raises WireError unless `domain` is `[192.0.2.1]` or `[IPv6:2001:db8::1]`."""
    content = domain[1:-1]
    try:
        if content[:5].lower() == "ipv6:":
            IPv6Address(content[5:])
        else:
            IPv4Address(content)
    except AddressValueError as error:
        raise WireError(f"address literal: {error}", b"501 5.1.3 Bad address literal") from error
