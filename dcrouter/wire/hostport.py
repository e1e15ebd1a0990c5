"""A host with its port as text, in logs, answers and URLs; IPv6 in brackets (RFC 3986 section 3.2.2)."""

from __future__ import annotations


def bracketed(host: str) -> str:
    """`[2001:db8::1]`; a name, or an IPv4 address, as it is."""
    return f"[{host}]" if ":" in host else host


def hostport(host: str, port: int | str) -> str:
    """`192.0.2.1:443`, `[2001:db8::1]:443`, `app.internal:preserve`."""
    return f"{bracketed(host)}:{port}"
