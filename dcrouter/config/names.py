"""Names of hosts as the operator writes them: exact names, domain patterns, targets, and the names of routes.

A domain pattern is an exact name, `*.example.com` (exactly one label before it) or `**.example.com` (one or more);
neither matches `example.com` itself. All come out in the one form that SNI and Host are compared with: lower case,
without a final dot, IDNs as A-labels (RFC 5890, mapped by UTS 46). `re:...` is a regular expression that the whole of
such a name must match, whatever the case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

import idna

from dcrouter.config.regex import expression
from dcrouter.config.units import shown
from dcrouter.wire.hostname import MAX_NAME, host_name

NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
"""Of routes and rules: they appear in logs, file names and metrics, so they are short and need no quoting."""

REGEX = "re:"
"""What a pattern begins with that is a regular expression."""

_NAME = re.compile(NAME_PATTERN)


def name(text: str) -> str:
    """The name of a route or a rule."""
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not a name: up to 64 letters, digits, '.', '_' and '-'")
    return text


def hostname(text: str) -> str:
    """A DNS name, in the form that it is compared in; ValueError for addresses too."""
    if is_address(text):
        raise ValueError(f"{shown(text)} is an address, not a host name")
    return _normal(text)


def target_host(text: str) -> str:
    """Where to connect: a DNS name or an address, without a port."""
    if text.startswith("["):
        raise ValueError(f"{shown(text)} is not a host: IPv6 addresses go without brackets here")
    if is_address(text):
        return str(ip_address(text))
    if ":" in text and "/" not in text:
        raise ValueError(f"{shown(text)} is not a host: the port has its own key")
    return _normal(text)


def server_name(text: str) -> str:
    """What a target's certificate must be for: a DNS name or an address."""
    return str(ip_address(text)) if is_address(text) else _normal(text)


def domain_pattern(text: str) -> str:
    """A pattern of `match.domains`, normalised."""
    if text.startswith(REGEX):
        if not text.isascii():
            raise ValueError(f"{shown(text)} matches nothing: names are compared as A-labels (xn--...)")
        name_expression(text)
        return text
    for wildcard in ("**.", "*."):
        if text.startswith(wildcard):
            return wildcard + _normal(text.removeprefix(wildcard), text)
    if text in ("*", "**"):
        raise ValueError(f"{shown(text)} is not a domain: leave `domains` out to match every name, and none")
    return _normal(text)


def name_expression(pattern: str) -> re.Pattern[str]:
    """A `re:` pattern of `match.domains`, for `fullmatch` with a name; ValueError where it is none."""
    return expression(pattern, MAX_NAME, ignore_case=True)


def wildcards(name: str) -> Iterator[str]:
    """The domain patterns with a wildcard that match `name`, the longest first; none for an address literal."""
    if name.startswith("["):
        return
    _, dot, suffix = name.partition(".")
    if dot:
        yield f"*.{suffix}"
    while dot:
        yield f"**.{suffix}"
        _, dot, suffix = suffix.partition(".")


def normalise(text: str) -> str:
    """A name that came from a peer, already known to be one, in the form of the patterns."""
    return text.lower().removesuffix(".")


def _normal(text: str, whole: str | None = None) -> str:
    """`whole`: what the operator wrote, where `text` is only a part of it."""
    told = shown(text if whole is None else whole)
    if "*" in text:
        raise ValueError(f"{told} is not a host name: '*' stands only at the front, as *. or **.")
    encoded = text
    if not text.isascii():
        try:
            encoded = idna.encode(text, uts46=True, transitional=False).decode("ascii")
        except UnicodeError as error:
            raise ValueError(f"{told} is not a host name: {error}") from None
    try:
        normal = host_name(encoded.encode("ascii"))
    except ValueError:
        normal = ""
    # A name of digits alone is somebody's address with a slip in it: no top-level domain is a number.
    if normal and not (normal.rpartition(".")[2].isdigit() and not is_address(normal)):
        return normal
    reason = ""
    if "://" in text or "/" in text:
        reason = ": a name without scheme and path"
    elif ":" in text:
        reason = ": a name without port"
    raise ValueError(f"{told} is not a host name{reason}")


def is_address(text: str) -> bool:
    """Whether `text` is an IP address, without brackets."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def host_port(text: str) -> tuple[str, int | None]:
    """(host without brackets, port or None) of `host`, `host:port`, `[v6]:port` or a bare IPv6 address."""
    if is_address(text):
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_address(host):
            raise ValueError(f"{shown(text)} has no IPv6 address in its brackets")
    elif ":" in host or not host:
        raise ValueError(f"{shown(text)} is not a host and a port: IPv6 addresses go in brackets before a port")
    if not colon:
        return host, None
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"{shown(text)} has no port from 1 to 65535 behind its colon")
    return host, int(port)
