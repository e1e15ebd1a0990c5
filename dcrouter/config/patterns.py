"""Patterns of mail recipients and senders, as the operator writes them, and how they are compared.

    alice@example.com    *@example.com    *@*.example.com (one label)    *@**.example.com (one or more)
    user+*@example.com (any detail, RFC 5233; not user@)    user@*    *@*    *    re:...
    <> (senders only: that of bounces, an empty address)

Local parts and domains are compared without case, domains as A-labels. `re:` must match the whole address,
`local@domain`. Addresses are at most 320 characters (RFC 5321 sections 4.5.3.1.1 and 4.5.3.1.2: 64 + 1 + 255), and a
regular expression whose backtracking could explode on one of them is refused (config/regex.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated

from attrs import frozen

from dcrouter.config import names
from dcrouter.config.forms import Form
from dcrouter.config.regex import MANY_CHOICES, expression, literal_domain
from dcrouter.config.units import shown

LONGEST_ADDRESS = 320
ANY = "*"
NULL_SENDER = "<>"
DETAIL = "+*"
"""At the end of a local part: with whatever detail."""

_LOCAL = re.compile(r"[^\s@*\"\\<>()\[\],;:\x00-\x1f\x7f]{1,64}")
_LITERAL = re.compile(r"\[[0-9A-Fa-f:.]+\]|\[IPv6:[0-9A-Fa-f:.]+\]", re.IGNORECASE)


@frozen
class RecipientPattern:
    """One pattern. `local`: lower case, or `*`, or with `+*` at its end. `domain`: a domain pattern, or `*`. `regex`:
    instead of both.

    Both empty: the sender of bounces.
    """

    local: str
    domain: str
    regex: re.Pattern[str] | None = None


def parse(text: str) -> RecipientPattern:
    """The pattern, or ValueError."""
    if text.startswith("re:"):
        return RecipientPattern("", "", _regex(text))
    if text == ANY:
        return RecipientPattern(ANY, ANY)
    if text == NULL_SENDER:
        return RecipientPattern("", "")
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError(f"{shown(text)} is not a recipient: a domain is written as *@example.com")
    return RecipientPattern(_local(local, text), ANY if domain == ANY else _domain(domain, text))


def split(address: str) -> tuple[str, str]:
    """An address as it is compared: (local part, domain), both in lower case; without `@`, all is the local part."""
    local, at, domain = address.rpartition("@")
    return (local.lower(), _normal_domain(domain)) if at else (address.lower(), "")


def whole(local: str, domain: str) -> str:
    """The inverse of `split`: what regular expressions see."""
    return f"{local}@{domain}" if domain else local


def reaches_any_domain(pattern: RecipientPattern) -> bool:
    """Whether an address of any domain can match: mail rules that strangers match must not forward such."""
    if pattern.regex is not None:
        return not literal_domain(pattern.regex.pattern)
    return pattern.domain == ANY


def matches(pattern: RecipientPattern, address: str) -> bool:
    """Whether one address matches; for many patterns, match/recipients.py is faster."""
    local, domain = split(address)
    if pattern.regex is not None:
        return len(address) <= LONGEST_ADDRESS and pattern.regex.fullmatch(whole(local, domain)) is not None
    return pattern.local in (ANY, local, *detailed(local)) and pattern.domain in (
        ANY,
        domain,
        *names.wildcards(domain),
    )


def covering(pattern: RecipientPattern) -> Iterator[RecipientPattern]:
    """The patterns that match every address that `pattern` matches, as far as that can be told by looking."""
    if pattern.regex is not None:
        yield RecipientPattern("", "", pattern.regex)
    elif not pattern.local:
        yield pattern
    else:
        locals_ = [pattern.local] if pattern.local == ANY else [*_wider_locals(pattern.local), ANY]
        for domain in _wider(pattern.domain):
            for local in locals_:
                yield RecipientPattern(local, domain)
    if pattern != RecipientPattern(ANY, ANY):
        yield RecipientPattern(ANY, ANY)


def detailed(local: str, most: int = -1) -> Iterator[str]:
    """`a+b+c` -> `a+*`, `a+b+*`, the first `most` of them: local parts of patterns that mean it, beside itself."""
    at = local.find("+", 1)
    while at >= 0 and most:
        yield local[:at] + DETAIL
        at = local.find("+", at + 1)
        most -= 1


def _wider_locals(local: str) -> Iterator[str]:
    """Local parts that match all that `local` matches, itself first."""
    yield local
    yield from (one for one in detailed(local) if one != local)


def _wider(domain: str) -> Iterator[str]:
    """Domain patterns that match all that `domain` matches, itself first."""
    yield domain
    if domain.startswith("*."):
        yield f"*{domain}"
    if domain != ANY:
        plain = domain.lstrip("*.")
        yield from (one for one in names.wildcards(plain) if domain == plain or one.startswith("**."))
        yield ANY


def mail_address(text: str) -> str:
    """One address, with its domain in the form that it is compared in."""
    local, at, domain = text.rpartition("@")
    if not at or not domain or "*" in domain:
        raise ValueError(f"{shown(text)} is not a mail address such as admin@example.com")
    if local == ANY:
        raise ValueError(f"{shown(text)} is a pattern, not a mail address")
    return f"{_local(local, text, keep=True)}@{_domain(domain, text)}"


def recipient(text: str) -> str:
    """A pattern of recipients, in the form that it is compared in."""
    if text == NULL_SENDER:
        raise ValueError(f"{shown(text)} is the sender of bounces, and nobody's address")
    pattern = parse(text)
    return text if pattern.regex is not None else f"{pattern.local}@{pattern.domain}"


def _sender(text: str) -> str:
    return text if text == NULL_SENDER else recipient(text)


def _regex(text: str) -> re.Pattern[str]:
    return expression(text, LONGEST_ADDRESS, ignore_case=True, choices=MANY_CHOICES)


def _local(local: str, text: str, *, keep: bool = False) -> str:
    if local == ANY:
        return ANY
    plain = local.removesuffix(DETAIL) if not keep else local
    if "*" in plain:
        raise ValueError(
            f"{shown(text)}: '*' stands for a whole local part, or behind '+' for any detail, not for a piece of it"
        )
    if _LOCAL.fullmatch(plain) is None:
        raise ValueError(f"{shown(text)} is not a mail address such as admin@example.com")
    return local if keep else local.lower()


def _domain(domain: str, text: str) -> str:
    if domain.startswith("["):
        if _LITERAL.fullmatch(domain) is None:
            raise ValueError(f"{shown(text)} is not a mail address such as admin@example.com")
        return domain.lower()
    try:
        return _domain_pattern(domain)
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}") from None


@lru_cache(maxsize=4096)
def _domain_pattern(domain: str) -> str:
    """Remembered, because thousands of addresses have the same few domains."""
    return names.domain_pattern(domain)


def _normal_domain(domain: str) -> str:
    if not domain.isascii():
        try:
            return names.hostname(domain)
        except ValueError:
            return domain.lower()
    return names.normalise(domain)


def parse_all(patterns: Iterable[str]) -> tuple[RecipientPattern, ...]:
    """Patterns that the configuration has already checked."""
    return tuple(map(parse, patterns))


Recipient = Annotated[
    str,
    Form(
        name="recipient",
        words="a recipient: `alice@example.com` `*@example.com` `*@*.example.com` `user+*@example.com` `user@*` `*` "
        "`re:...`",
        read=recipient,
        schema={"type": "string", "minLength": 1},
    ),
]
Sender = Annotated[
    str,
    Form(
        name="sender",
        words="a sender: a pattern as of recipients; `<>` (bounces); `*` (everyone, and `<>`)",
        read=_sender,
        schema={"type": "string", "minLength": 1},
    ),
]
MailAddress = Annotated[
    str,
    Form(
        name="mail_address",
        words="a mail address",
        read=mail_address,
        schema={"type": "string", "minLength": 3},
    ),
]
