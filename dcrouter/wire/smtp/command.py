"""An SMTP command line: its verb, and what MAIL, RCPT and EHLO say behind it.

Contract: functions over the text of one line without its CRLF; a value out, or WireError whose `reply` answers the
line. RFC 5321 4.1.1, 4.1.2; SIZE: RFC 1870; BODY: RFC 6152, 3030; AUTH: RFC 4954; BDAT: RFC 3030 2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dcrouter.errors import WireError
from dcrouter.wire.sasl import decode
from dcrouter.wire.smtp.address import NEEDS_SMTPUTF8, is_domain, parse_path
from dcrouter.wire.smtp.parameters import (
    NO_OFFERS,
    NO_REPORT,
    NO_WISHES,
    SIZE,
    Offers,
    Report,
    Wishes,
    parse_report,
    parse_wishes,
)
from dcrouter.wire.smtp.xtext import from_xtext

MAX_COMMAND_LINE = 2048
"""Octets; RFC 5321 4.5.3.1.4 asks for 512 plus what each extension adds to MAIL. Postfix takes as many."""

MAX_AUTH_LINE = 12288
"""Octets of an AUTH command and of each response, RFC 4954 4 and 4.3."""

_OF_MAIL = {"EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "HELP", "QUIT"}
VERBS = frozenset({*_OF_MAIL, "STARTTLS", "AUTH", "XCLIENT"})
"""What we understand."""

FOREIGN = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI"})
"""Verbs whose next lines are content, not commands: HTTP sent to a mail port. Reading on would run that content as
commands."""

KNOWN_ELSEWHERE = frozenset({"EXPN", "ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML", "BURL", "XFORWARD"})
"""Verbs of other servers: 502 instead of 500."""

_BODIES = ("7BIT", "8BITMIME", "BINARYMIME")
_CHUNK = re.compile(r"([0-9]{1,20})(?: +(LAST))?", re.IGNORECASE | re.ASCII)
_LITERAL = re.compile(r"\[[A-Za-z0-9.:-]{2,64}\]")


class Sender(NamedTuple):
    """What MAIL said. `address` "" is the null reverse-path; `size` octets as declared, or None; `eightbit`:
    BODY=8BITMIME or BINARYMIME, `binary`: the latter; `wishes`: all else. `utf8`: SMTPUTF8.
    """

    address: str
    size: int | None
    eightbit: bool
    binary: bool = False
    wishes: Wishes = NO_WISHES
    utf8: bool = False


def parse_greeting(argument: str) -> str:
    """The name that HELO or EHLO gives; anything that looks like a name or a literal, because clients are sloppy
    here.
    """
    name = argument.strip()
    if is_domain(name.removesuffix(".")) or _LITERAL.fullmatch(name):
        return name
    raise WireError("not a host name", b"501 5.5.4 Give your host name")


def parse_mail(argument: str, offers: Offers = NO_OFFERS, *, tls: bool = False, now: float = 0.0) -> Sender:
    """`FROM:<path> SIZE=.. BODY=.. AUTH=..`, and what `offers` has; who first submitted the message is not trusted to
    anybody, but must be well-formed (RFC 4954 5). `now`: UTC epoch seconds.
    """
    address, rest = parse_path(_behind(argument, "FROM:"), null=True, utf8=True)
    if not rest:
        if not address.isascii():
            raise WireError("an address beyond ASCII", NEEDS_SMTPUTF8)
        return Sender(address, None, False)
    size: int | None = None
    body = ""
    auth = utf8 = False
    wishes: list[tuple[str, str]] = []
    for keyword, value in _parameters(rest):
        if keyword == "SIZE" and size is None and SIZE.fullmatch(value):
            size = int(value)
        elif keyword == "BODY" and not body and value.upper() in _BODIES:
            body = value.upper()
        elif keyword == "AUTH" and not auth and _is_submitter(value):
            auth = True
        elif keyword == "SMTPUTF8" and not utf8 and not value:
            utf8 = True
        elif keyword in ("SIZE", "BODY", "AUTH", "SMTPUTF8"):
            raise WireError(f"bad {keyword}", b"501 5.5.4 Bad value of a MAIL parameter")
        else:
            wishes.append((keyword, value))
    if not (utf8 or address.isascii()):
        raise WireError("an address beyond ASCII", NEEDS_SMTPUTF8)
    asked = parse_wishes(wishes, offers, tls=tls, now=now) if wishes else NO_WISHES
    return Sender(address, size, body in ("8BITMIME", "BINARYMIME"), body == "BINARYMIME", asked, utf8)


def parse_recipient(argument: str, offers: Offers = NO_OFFERS, *, utf8: bool = False) -> tuple[str, Report]:
    """`TO:<path>`, and what `offers` has; the address is POSTMASTER for `<postmaster>`, and may be
    beyond ASCII with `utf8`.
    """
    address, rest = parse_path(_behind(argument, "TO:"), postmaster=True, utf8=utf8)
    return address, parse_report(_parameters(rest), offers) if rest else NO_REPORT


def parse_question(argument: str) -> None:
    """VRFY: what is asked may be anything; beyond ASCII only with SMTPUTF8 behind it (RFC 6531 3.7.4.2)."""
    name, _, keyword = argument.rpartition(" ")
    if not argument.isascii() and (not name or keyword.upper() != "SMTPUTF8"):
        raise WireError("a name beyond ASCII", NEEDS_SMTPUTF8)


def parse_chunk(argument: str) -> tuple[int, bool] | None:
    """`size [LAST]` of BDAT: so many octets follow, and whether they are the last; None: nobody knows how many."""
    found = _CHUNK.fullmatch(argument)
    return None if found is None else (int(found[1]), found[2] is not None)


def parse_auth(argument: str) -> tuple[str, bytes | None]:
    """`MECHANISM [initial-response]`: the mechanism in upper case, and the response's octets; `=` is an empty one."""
    mechanism, _, initial = argument.partition(" ")
    if not mechanism:
        raise WireError("AUTH without a mechanism", b"501 5.5.4 Expected a mechanism")
    return mechanism.upper(), None if not initial else b"" if initial == "=" else decode(initial)


def parse_response(line: str) -> bytes:
    """The octets of what a client says to a challenge of AUTH; `*` is none: it gives up (RFC 4954 4)."""
    if line == "*":
        raise WireError("AUTH cancelled", b"501 5.7.0 Authentication cancelled")
    return decode(line)


def _is_submitter(value: str) -> bool:
    """Whether a value of AUTH= is `<>` or a mailbox, as xtext (RFC 3461 4)."""
    mailbox = from_xtext(value)
    if mailbox is None or mailbox == "<>":
        return mailbox is not None
    try:
        parse_path(f"<{mailbox}>")
    except WireError:
        return False
    return True


def _behind(argument: str, word: str) -> str:
    if argument[: len(word)].upper() != word:
        raise WireError(f"no {word}", f"501 5.5.4 Expected {word}<address>".encode("ascii"))
    return argument[len(word) :].lstrip(" ")


def _parameters(rest: str) -> list[tuple[str, str]]:
    if rest[0] != " ":
        raise WireError("text behind a path", b"501 5.1.3 Bad address syntax")
    parameters = []
    for word in rest.split():
        keyword, _, value = word.partition("=")
        parameters.append((keyword.upper() if keyword.isascii() else keyword, value))
    return parameters
