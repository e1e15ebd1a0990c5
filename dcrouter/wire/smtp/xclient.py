"""XCLIENT: a proxy in front of us, which we believe, says who its client is. Postfix, XCLIENT_README.

Contract: `parse` takes the command's argument, and gives what it told; WireError, with the reply, where it is
malformed. An attribute that is not named, `[UNAVAILABLE]` or `[TEMPUNAVAIL]` tells nothing; but a client whose address
is said to be unknown has the one that nobody has, so that it is not taken for the proxy, which may be trusted.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.mapped import unmapped
from dcrouter.wire.smtp.address import is_domain

KEYWORD = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
"""What EHLO announces to those who may use it."""

_NAMES = KEYWORD.split()[1:]
_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_NOBODY = "0.0.0.0"
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*")
_XCHAR = re.compile(r"\+([0-9A-Fa-f]{2})")
_PORT = re.compile(r"[0-9]{1,5}")
_HELO = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:-]{2,64}\]")


@frozen(kw_only=True)
class Introduced:
    """What is known of the client; None: nothing was told. `name`: that of its address in DNS; `esmtp`: it said EHLO;
    `helo`: with that, where it looks like a host. `login`: the account that it has logged in as. `to_address`,
    `to_port`: where it had connected to.
    """

    name: str | None = None
    address: str | None = None
    port: int | None = None
    esmtp: bool | None = None
    helo: str | None = None
    login: str | None = None
    to_address: str | None = None
    to_port: int | None = None


def parse(argument: str) -> Introduced:
    """`NAME=value ...`, values as xtext."""
    told: dict[str, str] = {}
    for word in argument.split():
        attribute, equals, value = word.partition("=")
        attribute = attribute.upper()
        if attribute not in _NAMES or not equals or attribute in told or _XTEXT.fullmatch(value) is None:
            raise _malformed(f"an attribute {attribute[:20]}")
        octets = _XCHAR.sub(lambda found: chr(int(found[1], 16)), value).encode("latin-1")
        told[attribute] = octets.decode("utf-8", "replace")
    if not told:
        raise _malformed("no attribute")
    known = {one: value for one, value in told.items() if value and value.upper() not in _UNKNOWN}
    protocol, helo, name = known.get("PROTO"), known.get("HELO"), known.get("NAME")
    if protocol is not None and protocol.upper() not in ("SMTP", "ESMTP"):
        raise _malformed("PROTO")
    if name is not None and not is_domain(name.removesuffix(".")):
        raise _malformed("NAME")
    login = known.get("LOGIN")
    if login is not None and not login.isprintable():
        raise _malformed("LOGIN")
    return Introduced(
        name=name,
        address=_NOBODY if "ADDR" in told and "ADDR" not in known else _address(known.get("ADDR")),
        port=_port(known.get("PORT")),
        esmtp=None if protocol is None else protocol.upper() == "ESMTP",
        helo=helo if helo is not None and _HELO.fullmatch(helo) else None,
        login=login,
        to_address=_address(known.get("DESTADDR")),
        to_port=_port(known.get("DESTPORT")),
    )


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return unmapped(str(ip_address(text[5:] if text[:5].upper() == "IPV6:" else text)))
    except ValueError:
        raise _malformed("an address") from None


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise _malformed("a port")
    return int(text)


def _malformed(what: str) -> WireError:
    return WireError(f"XCLIENT: {what}", b"501 5.5.4 Bad XCLIENT attribute")
