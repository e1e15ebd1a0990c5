"""The fields that reception puts before a message: Received, and on submission what a message must have and lacks.

RFC 5321 4.4; RFC 3848 (the words after `with`); RFC 6409 8 (what submission may add).
"""

from __future__ import annotations

import time
from functools import lru_cache

from dcrouter.facts import ConnectionFacts


def received(
    facts: ConnectionFacts,
    *,
    helo: str,
    esmtp: bool,
    tls: str | None,
    authenticated: bool,
    hostname: str,
    name: str,
    only: str | None,
    client: str | None = None,
    utf8: bool = False,
) -> bytes:
    """The whole field. `tls`: version and cipher, None in clear. `only`: the recipient, where it is the only one.
    `client`: the name of its address, where a proxy has told one. `utf8`: SMTPUTF8 was said (RFC 6531 4.3).
    """
    host = facts.peer[0]
    literal = f"[IPv6:{host}]" if ":" in host else f"[{host}]"
    if client is not None:
        literal = f"{client} {literal}"
    protocol = "SMTP"
    if esmtp:
        protocol = f"{'UTF8' if utf8 else 'E'}SMTP{'S' if tls else ''}{'A' if authenticated else ''}"
    secured = f"\r\n\t(using {tls})" if tls else ""
    target = f"\r\n\tfor <{only}>" if only is not None and only.isascii() else ""
    return (
        f"Received: from {helo} ({literal}){secured}\r\n"
        f"\tby {hostname} (dcrouter session {facts.session}) with {protocol} id {name}{target};\r\n"
        f"\t{date(int(time.time()))}\r\n"
    ).encode("ascii", "replace")


def message_id(name: str, hostname: str) -> bytes:
    """The field for a message of this name, which no other message here has."""
    return f"Message-ID: <{name}@{hostname}>\r\n".encode("ascii")


@lru_cache(maxsize=2)
def date(second: int) -> str:
    """A UTC epoch second as RFC 5322 3.3 writes it."""
    moment = time.gmtime(second)
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    return f"{day}, {moment.tm_mday} {month} {moment.tm_year} {time.strftime('%H:%M:%S', moment)} +0000"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
