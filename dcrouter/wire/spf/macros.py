"""The macros of SPF records: `%{ir}.%{v}._spf.%{d2}` with the values of one check. RFC 7208 7."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

from dcrouter.wire.asking import MAX_NAME

_MACRO = re.compile(r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\}|([%_-]))")
_PLAIN = {"%": "%", "_": " ", "-": "%20"}

UNKNOWN = "unknown"
"""What `%{p}` is where no name is validated."""


def needs_name(text: str) -> bool:
    """Whether `%{p}` is in it, whose value costs DNS questions."""
    return "%{p" in text.lower()


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with its macros replaced. `values`: by lower-case letter."""

    def one(found: re.Match[str]) -> str:
        letter, digits, backwards, delimiters, plain = found.groups()
        if plain is not None:
            return _PLAIN[plain]
        value = values[letter.lower()]
        parts = re.split(f"[{re.escape(delimiters)}]", value) if delimiters else value.split(".")
        if backwards:
            parts.reverse()
        if digits:
            parts = parts[-int(digits[:4]) :]
        value = ".".join(parts)
        return quote(value, safe="-._~") if letter.isupper() else value

    return _MACRO.sub(one, text)


def expand_domain(text: str, values: Mapping[str, str]) -> str:
    """The same for a name: without final dot, and without as many labels on the left as it is too long."""
    name = expand(text, values).removesuffix(".")
    return name if len(name) <= MAX_NAME else name[-MAX_NAME - 1 :].partition(".")[2]


def values_of(
    address: IPv4Address | IPv6Address, domain: str, sender: str, helo: str, hostname: str, now: float | None = None
) -> dict[str, str]:
    """The letters of one check, all but `p`. `hostname`: ours."""
    local, _, origin = sender.rpartition("@")
    six = isinstance(address, IPv6Address)
    dotted = ".".join(address.exploded.replace(":", "").upper()) if isinstance(address, IPv6Address) else str(address)
    return {
        "s": sender,
        "l": local,
        "o": origin,
        "d": domain,
        "i": dotted,
        "h": helo,
        "v": "ip6" if six else "in-addr",
        "c": str(address),
        "r": hostname,
        "t": str(int(time.time() if now is None else now)),
        "p": UNKNOWN,
    }
