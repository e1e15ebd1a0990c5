"""The domains in From: whose policy a message meets. RFC 9989 4.10.1, RFC 5322 3.6.2."""

from __future__ import annotations

import idna

from dcrouter.errors import WireError
from dcrouter.wire.dkim.canonical import Field
from dcrouter.wire.header import addresses

MAX_DOMAINS = 5
"""In one From; each has a policy of its own."""


def author_domains(fields: list[Field]) -> tuple[str, ...]:
    """In ASCII, lower case, each once. Raises WireError where different readers could see different authors."""
    found = [field.value for field in fields if field.name == b"from"]
    if len(found) != 1:
        raise WireError("no From" if not found else "several From fields")
    domains: dict[str, None] = {}
    for address in addresses(found[0]):
        domains[_ascii(address.rpartition("@")[2])] = None
    if not domains:
        raise WireError("From has no address")
    if len(domains) > MAX_DOMAINS:
        raise WireError("From has addresses of too many domains")
    return tuple(domains)


def _ascii(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise WireError(f"From: {error}") from error
