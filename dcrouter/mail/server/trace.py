"""The Received field that reception puts before a message. RFC 5321 4.4, RFC 3848 (the words after `with`)."""

from __future__ import annotations

import time
from functools import lru_cache

from dcrouter.facts import ConnectionFacts


def received(
    facts: ConnectionFacts, *, helo: str, esmtp: bool, tls: str | None, hostname: str, name: str, only: str | None
) -> bytes:
    """The whole field. `tls`: version and cipher, None in clear. `only`: the recipient, where it is the only one."""
    host = facts.peer[0]
    literal = f"[IPv6:{host}]" if ":" in host else f"[{host}]"
    protocol = ("ESMTP" if esmtp else "SMTP") + ("S" if tls and esmtp else "")
    secured = f"\r\n\t(using {tls})" if tls else ""
    target = f"\r\n\tfor <{only}>" if only is not None else ""
    return (
        f"Received: from {helo} ({literal}){secured}\r\n"
        f"\tby {hostname} (dcrouter session {facts.session}) with {protocol} id {name}{target};\r\n"
        f"\t{_date(int(time.time()))}\r\n"
    ).encode("ascii", "replace")


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    moment = time.gmtime(second)
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    return f"{day}, {moment.tm_mday} {month} {moment.tm_year} {time.strftime('%H:%M:%S', moment)} +0000"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
