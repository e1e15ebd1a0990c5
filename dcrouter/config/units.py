"""The scalars of routes.yaml: durations, sizes, networks, addresses, ports. Text in, a value out, or ValueError.

Durations are float seconds (`250ms 5s 10m 4h 5d`), sizes int bytes (`16KB 50MB`, 1024-based). The error is a
sentence that begins with the offending value in quotes, so that it can stand behind `routes.yaml:12:7: path: `.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

DURATION_PATTERN = r"[0-9]{1,15}(\.[0-9]{1,9})?(ms|s|m|h|d)"
SIZE_PATTERN = r"[0-9]{1,16}(B|KB|MB|GB|TB)"
FREQUENCY_PATTERN = r"[1-9][0-9]{0,11}/(s|min|hour|day)"

LONGEST = 3650 * 86400.0
"""Ten years: longer ones are typing errors, and timers need no more."""
LARGEST = 1 << 50
"""1024 TB: every size fits into what SQLite and the kernel count with."""

_DURATION = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(?P<number>[0-9]{1,16})(?P<unit>B|KB|MB|GB|TB)")
_FREQUENCY = re.compile(r"(?P<count>[1-9][0-9]{0,11})/(?P<period>s|min|hour|day)")
_PERIODS = {"s": 1.0, "min": 60.0, "hour": 3600.0, "day": 86400.0}
_BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}

SHOWN = 60
"""Characters of a wrong value that an error repeats."""

_LOGIN = re.compile(r"(://|\A(?!re:|mailto:|[^:@]*://)(?=[^@/]*:))\S*@")
"""Who logs in at a URL, and with which password: up to the last `@`, which a password may hold too."""
_KEY = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}|[A-Za-z]{24,}")
"""What may be a key: that of a customer in the name of a DNS list, a token."""


def shown(value: object) -> str:
    """A value for an error: in quotes, on one line that can be borne, and without what may be a secret."""
    text = _KEY.sub("...", _LOGIN.sub(r"\1...@", value if isinstance(value, str) else str(value)))
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def duration(text: str) -> float:
    """Seconds: `250ms` is 0.25, `0s` is 0.0."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is not a duration: a number with ms, s, m, h or d, such as 250ms, 5s or 4h")
    seconds = float(found["number"]) * _SECONDS[found["unit"]]
    if seconds > LONGEST:
        raise ValueError(f"{shown(text)} is longer than 3650d")
    return seconds


def size(text: str) -> int:
    """Bytes: `16KB` is 16384."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is not a size: a number with B, KB, MB, GB or TB, such as 16KB or 50MB")
    count = int(found["number"]) * _BYTES[found["unit"]]
    if count > LARGEST:
        raise ValueError(f"{shown(text)} is larger than 1024TB")
    return count


def frequency(text: str) -> tuple[int, float]:
    """(count, seconds): `300/min` is (300, 60.0)."""
    found = _FREQUENCY.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is not a rate such as 100/s, 300/min, 500/hour or 1000/day")
    return int(found["count"]), _PERIODS[found["period"]]


def written_frequency(frequency: tuple[int, float]) -> str:
    """The text that `frequency` reads as that."""
    count, seconds = frequency
    return f"{count}/{next(word for word, period in _PERIODS.items() if period == seconds)}"


def written_duration(seconds: float) -> str:
    """The shortest text that `duration` reads as `seconds`, in the largest unit without a fraction."""
    if seconds == 0:
        return "0s"
    milliseconds = round(seconds * 1000)
    for unit, length in reversed(_SECONDS.items()):
        count, rest = divmod(milliseconds, round(length * 1000))
        if not rest:
            return f"{count}{unit}"
    return f"{seconds}s"


def written_size(count: int) -> str:
    """The same for `size`."""
    unit, length = next(one for one in reversed(_BYTES.items()) if count % one[1] == 0)
    return f"{count // length}{unit}"


def address(text: str) -> IPv4Address | IPv6Address:
    """One IP address that can be bound, without brackets and port; IPv4 as such where it is written as IPv6."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP address such as 192.0.2.1 or 2001:db8::1{_hint(text)}") from None
    if "%" in text:
        raise ValueError(f"{shown(text)} has a zone: write an address that means the same on every interface")
    if isinstance(found, IPv6Address) and found.is_link_local:
        raise ValueError(f"{shown(text)} is link-local: write an address that means the same on every interface")
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def network(text: str) -> IPv4Network | IPv6Network:
    """A network (`10.0.0.0/8`, `2001:db8::/32`); a single address is the network of itself."""
    if "%" in text:
        raise ValueError(f"{shown(text)} has a zone: networks have none")
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a network such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1") from None
    raise ValueError(f"{shown(text)} has bits set behind its prefix (did you mean '{meant}'?)")


def port(value: object) -> int:
    """A TCP port, 1 to 65535."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{shown(value)} is not a port number{unquoted(value)}")
    if not 1 <= value <= 65535:
        raise ValueError(f"{shown(value)} is not a port: ports go from 1 to 65535")
    return value


def whole_number(value: object, low: int, high: int) -> int:
    """An int between `low` and `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{shown(value)} is not a whole number{unquoted(value)}")
    if not low <= value <= high:
        raise ValueError(f"{shown(value)} is not between {low} and {high}")
    return value


def share(value: object) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is not a number{unquoted(value)}")
    if not 0 <= value <= 1:
        raise ValueError(f"{shown(value)} is not between 0 and 1")
    return float(value)


def unquoted(value: object) -> str:
    """A hint for a number that was written as text."""
    return " (write it without quotes)" if isinstance(value, str) and re.fullmatch(r"[0-9.]+", value) else ""


def _hint(text: str) -> str:
    if text.startswith("["):
        return ", without brackets"
    if "/" in text:
        return ", not a network"
    return ""
