"""What an SMTP server machine offers, and what it asks of whoever drives it; `server.py` says how.

`Mail`, `Recipient`, `EndOfData`, `Auth`, `AuthResponse`, `StartTls` and `XClient` ask and wait for an answer; the
others tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from attrs import frozen

from dcrouter.wire.smtp import xclient
from dcrouter.wire.smtp.command import Sender
from dcrouter.wire.smtp.parameters import NO_OFFERS, NO_REPORT, Offers, Report


@frozen(kw_only=True)
class Limits:
    """What one server offers and asks for.

    `max_size`: octets of a message. `auth`: the mechanisms of SASL that are offered under TLS.
    `auth_required`, `tls_required`: MAIL waits for a login, for TLS. `offers`: what else; `offers_to_users`: after a
    login. `now`: the wall clock. `strict`: whoever sends more before the reply to what must be the last of a
    group, or without having said EHLO, is turned away (RFC 2920 3.1). `xclient`: the peer may say for whom it speaks.
    """

    hostname: str
    banner: str = "ESMTP"
    max_size: int
    max_recipients: int
    starttls: bool = False
    tls_required: bool = False
    auth: tuple[str, ...] = ()
    auth_required: bool = False
    offers: Offers = NO_OFFERS
    offers_to_users: Offers = NO_OFFERS
    now: Callable[[], float] = time.time
    strict: bool = False
    xclient: bool = False

    def keywords(self, tls: bool) -> list[str]:
        """What EHLO announces."""
        keywords = ["PIPELINING", f"SIZE {self.max_size}", f"LIMITS RCPTMAX={self.max_recipients}"]
        if self.starttls and not tls:
            keywords.append("STARTTLS")
        if self.auth and tls:
            keywords.append(f"AUTH {' '.join(self.auth)}")
        if self.xclient:
            keywords.append(xclient.KEYWORD)
        return [*keywords, "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME"]


class Mail(NamedTuple):
    """A transaction wants to begin; answer with 250 or a refusal."""

    sender: Sender


class Recipient(NamedTuple):
    """`address` wants to be a recipient, and the sender to hear of it by `report`; answer with 250 or a refusal."""

    address: str
    report: Report = NO_REPORT


@frozen
class DataStart:
    """354 is on its way, or the first chunk of BDAT; `Data` and `EndOfData` follow, commands between them perhaps."""


class Data(NamedTuple):
    """Octets of the message, unstuffed."""

    octets: bytes


class EndOfData(NamedTuple):
    """The message is complete with these last octets; answer for all its recipients at once.

    `flaw`: the refusal that it has earned already (then octets may be missing), or None. `dotless`: no line of it
    begins with a dot.
    """

    octets: bytes
    flaw: bytes | None
    dotless: bool = False


class Auth(NamedTuple):
    """The client wants to log in by `mechanism`; `response`: its first words, None where it has said none.

    Answer 334 with a challenge, 235, or a refusal; 501 is for what is malformed.
    """

    mechanism: str
    response: bytes | None


class AuthResponse(NamedTuple):
    """What the client says to a challenge; answer as `Auth`."""

    response: bytes


@frozen
class StartTls:
    """The client wants TLS: answer 220, write it, do the handshake, then `tls_started()`; or answer 454."""


@frozen
class XClient:
    """The peer speaks for a client; `Server.introduce` it and answer with the greeting, or refuse."""

    told: xclient.Introduced


@frozen
class Reset:
    """The transaction is gone, and what has come of its message."""


Event = Mail | Recipient | DataStart | Data | EndOfData | Auth | AuthResponse | StartTls | XClient | Reset
