"""Names as they stand in certificates, and which certificate is for which name (RFC 9525 section 6.3)."""

from __future__ import annotations

from collections.abc import Container
from ipaddress import ip_address

from cryptography import x509

from dcrouter.config.names import is_address


def as_certified(name: str) -> str:
    """Lower case; `**.example.com`, which no certificate knows, is `*.example.com` there."""
    return name.lower().replace("**.", "*.", 1)


def wildcard_of(name: str) -> str:
    """The wildcard that a certificate for `name` may have in its place: its first label as `*`."""
    return "*." + name.partition(".")[2]


def covers(names: Container[str], name: str) -> bool:
    """Whether a certificate for `names` is for `name`: as it stands, or by its wildcard."""
    return name in names or wildcard_of(name) in names


def general_name(name: str) -> x509.GeneralName:
    """A name or an address as a SubjectAltName has it; ValueError for a name beyond ASCII."""
    return x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name)
