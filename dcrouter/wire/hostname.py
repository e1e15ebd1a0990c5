"""Host names as peers write them: in SNI, in Host, in a request's target.

`host_name(raw)` gives the one form that routes are matched against, or raises ValueError.

RFC 1123 section 2.1, and RFC 1035 section 2.3.4 for lengths. Underscores, and hyphens anywhere in a label, are let
through: such names are in use, and no parser downstream trips over them. IDNs come as A-labels (RFC 5890) and stay so.
"""

from __future__ import annotations

import re

MAX_NAME = 253
"""Octets of a name as text without the final dot (RFC 1035 section 2.3.4: 255 on the wire)."""

_NAME = re.compile(rb"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def host_name(raw: bytes) -> str:
    """`raw` in lower case, without a final dot; ValueError where it is no host name (an IPv4 literal passes as one)."""
    if _NAME.fullmatch(raw) is None:
        raise ValueError("not a host name")
    name = raw.decode("ascii").lower().removesuffix(".")
    if len(name) > MAX_NAME:
        raise ValueError("a host name is too long")
    return name
