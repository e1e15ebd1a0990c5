"""The names for which ACME is to bring certificates: one for each, so that one that fails harms no other.

1. Names of routes that show what `auto` chooses, and email.hostname, as the configuration writes them. Never a regular
   expression, and never what a certificate of the operator's covers.
2. A wildcard only where dns-01 can prove it. `**.a.example` stands for `*.a.example`: no certificate is for more.
3. Where the authority is one of the public web, no name that those do not certify (config/checks/certified.py).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from dcrouter.config.acme import Acme
from dcrouter.config.checks.certified import is_public
from dcrouter.config.names import REGEX, is_address
from dcrouter.config.tls import CertificateChoice
from dcrouter.tls.names import as_certified, covers

LOCAL = "localhost"
"""Nobody but our own CA certifies it."""


def wanted_names(
    acme: Acme, said: Iterable[tuple[CertificateChoice, Sequence[str]]], covered: Container[str]
) -> tuple[str, ...]:
    """In the order of the file, each once. `said`: what is written for each route and for mail; `covered`: names
    of the operator's certificates.
    """
    found: dict[str, None] = {}
    for choice, names in said:
        for name in names if choice == "auto" else ():
            plain = as_certified(name)
            if not name.startswith(REGEX) and is_orderable(plain, acme) and not covers(covered, plain):
                found[plain] = None
    return tuple(found)


def is_orderable(name: str, acme: Acme) -> bool:
    """Whether the authority could certify a name, which may be a wildcard, and we could prove it."""
    if is_address(name) or (name.startswith("*") and "dns-01" not in acme.challenges):
        return False
    return is_public(name) if acme.is_public else name != LOCAL
