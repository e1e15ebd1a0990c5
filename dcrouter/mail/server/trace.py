"""The fields that reception puts before a message: Received, and on submission what a message must have and lacks.

RFC 5321 4.4; RFC 3848 (the words after `with`); RFC 6409 8 (what submission may add).
"""

from __future__ import annotations

import time

from dcrouter.facts import ConnectionFacts
from dcrouter.wire.moments import mail_date


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
        f"\t{mail_date(int(time.time()))}\r\n"
    ).encode("ascii", "replace")


def message_id(name: str, hostname: str) -> bytes:
    """The field for a message of this name, which no other message here has."""
    return f"Message-ID: <{name}@{hostname}>\r\n".encode("ascii")
