"""What MAIL and RCPT may ask for beside SIZE, BODY, SMTPUTF8 and AUTH: who is told of what, how mail travels, and when.

Contract: `parse_wishes` and `parse_report` take the parameters that nobody else has taken, as (keyword in upper case,
value), and what is on offer here; a value out, or WireError whose `reply` answers the line: 555 for what is not on
offer, 501 for what is said badly or twice.

RFC 3461 4 (RET, ENVID, NOTIFY, ORCPT, xtext), RFC 6533 3 (ORCPT in UTF-8), RFC 8689 2 (REQUIRETLS), RFC 4865 (HOLDFOR,
HOLDUNTIL), RFC 6710 (MT-PRIORITY).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.moments import utc
from dcrouter.wire.smtp.xtext import from_xtext, to_xtext

MAX_ENVID = 100
MAX_ORCPT = 500
"""Octets of the value as it is written, RFC 3461 4.4 and 4.2."""

Ret = Literal["", "full", "headers"]

_PRINTABLE = re.compile(r"[ -~]+")
_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")
_UNICODE_CHAR = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NO_UTF8_CHAR = re.compile(r"[\x00-\x20+=\\\x7f]")
_NO_ASCII_CHAR = re.compile(r"[^!-*,-<>-~]|\\")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
SIZE = re.compile(r"[0-9]{1,20}")
"""Octets of a message, as a client declares them or a server limits them (RFC 1870 4, 6)."""
_SECONDS = re.compile(r"[0-9]{1,9}")
_PRIORITY = re.compile(r"0|-?[1-9]")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)")
_OCCASIONS = ("SUCCESS", "FAILURE", "DELAY")


@frozen(kw_only=True)
class Offers:
    """What a server offers, beyond what it offers to all. `dsn`: notifications; `hold`: seconds for which a message may
    be held, 0: it may not; `priority`: MT-PRIORITY; `requiretls`: REQUIRETLS, within TLS.
    """

    dsn: bool = False
    hold: int = 0
    priority: bool = False
    requiretls: bool = False

    def keywords(self, *, tls: bool, now: float) -> list[str]:
        """What EHLO announces of it. `now`: UTC epoch seconds."""
        keywords = ["DSN"] if self.dsn else []
        if self.hold:
            keywords.append(f"FUTURERELEASE {self.hold} {utc(now + self.hold)}")
        if self.priority:
            keywords.append("MT-PRIORITY")
        if self.requiretls and tls:
            keywords.append("REQUIRETLS")
        return keywords


NO_OFFERS = Offers()


class Wishes(NamedTuple):
    """What MAIL asked for. `envid` is decoded, "" none. `release`: UTC epoch seconds, 0.0 at once."""

    ret: Ret = ""
    envid: str = ""
    requiretls: bool = False
    release: float = 0.0
    priority: int = 0


class Report(NamedTuple):
    """What RCPT asked for. `notify`: NEVER, or what to tell of with commas between, "" not said; `orcpt`:
    `type;address`, decoded, "" not said.
    """

    notify: str = ""
    orcpt: str = ""


NO_WISHES = Wishes()
NO_REPORT = Report()


def parse_wishes(said: Iterable[tuple[str, str]], offers: Offers, *, tls: bool, now: float) -> Wishes:
    """Of MAIL."""
    given: dict[str, str] = {}
    for keyword, value in said:
        if not _is_offered(keyword, offers, tls):
            raise WireError(f"unknown parameter {keyword}", b"555 5.5.4 MAIL parameter not recognized")
        if keyword in given or (keyword.startswith("HOLD") and any(one.startswith("HOLD") for one in given)):
            raise _bad(keyword)
        given[keyword] = value
    ret = given.get("RET", "HDRS").upper()
    if ret not in ("FULL", "HDRS"):
        raise _bad("RET")
    if given.get("REQUIRETLS"):
        raise _bad("REQUIRETLS")
    return Wishes(
        ret="" if "RET" not in given else "full" if ret == "FULL" else "headers",
        envid=_envid(given["ENVID"]) if "ENVID" in given else "",
        requiretls="REQUIRETLS" in given,
        release=_release(given, offers, now),
        priority=_priority(given["MT-PRIORITY"]) if "MT-PRIORITY" in given else 0,
    )


def parse_report(said: Iterable[tuple[str, str]], offers: Offers) -> Report:
    """Of RCPT."""
    given: dict[str, str] = {}
    for keyword, value in said:
        if keyword not in ("NOTIFY", "ORCPT") or not offers.dsn:
            raise WireError(f"unknown parameter {keyword}", b"555 5.5.4 RCPT parameter not recognized")
        if keyword in given:
            raise _bad(keyword, "RCPT")
        given[keyword] = value
    return Report(
        notify=_notify(given["NOTIFY"]) if "NOTIFY" in given else "",
        orcpt=_orcpt(given["ORCPT"]) if "ORCPT" in given else "",
    )


def orcpt_value(orcpt: str, *, utf8: bool) -> str:
    """`type;address` as ORCPT writes it. `utf8`: the server takes SMTPUTF8 (RFC 6533 3)."""
    kind, _, address = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return f"{kind};{to_xtext(address)}"
    return f"{kind};" + (_NO_UTF8_CHAR if utf8 else _NO_ASCII_CHAR).sub(_embedded, address)


def _embedded(found: re.Match[str]) -> str:
    return f"\\x{{{ord(found[0]):02X}}}"


def _is_offered(keyword: str, offers: Offers, tls: bool) -> bool:
    if keyword in ("RET", "ENVID"):
        return offers.dsn
    if keyword in ("HOLDFOR", "HOLDUNTIL"):
        return offers.hold > 0
    if keyword == "MT-PRIORITY":
        return offers.priority
    return keyword == "REQUIRETLS" and offers.requiretls and tls


def _bad(keyword: str, verb: str = "MAIL") -> WireError:
    return WireError(f"bad {keyword}", f"501 5.5.4 Bad value of {keyword} in {verb}".encode("ascii"))


def _printable(value: str) -> str | None:
    """What xtext carries; None: it is none, or that is not printable."""
    text = from_xtext(value)
    return text if text is not None and _PRINTABLE.fullmatch(text) else None


def _envid(value: str) -> str:
    text = _printable(value)
    if text is None or len(value) > MAX_ENVID:
        raise _bad("ENVID")
    return text


def _notify(value: str) -> str:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return "NEVER"
    if not all(word in _OCCASIONS for word in words):
        raise _bad("NOTIFY", "RCPT")
    return ",".join(one for one in _OCCASIONS if one in words)


def _orcpt(value: str) -> str:
    kind, mark, written = value.partition(";")
    if not mark or _TYPE.fullmatch(kind) is None or len(value.encode()) > MAX_ORCPT:
        raise _bad("ORCPT", "RCPT")
    if kind.lower() == "utf-8":
        address = _UNICODE_CHAR.sub(_character, written)
        if not address or _CONTROL.search(address) or "+" in written or "\\" in _UNICODE_CHAR.sub("", written):
            raise _bad("ORCPT", "RCPT")
        return f"{kind};{address}"
    decoded = _printable(written)
    if decoded is None:
        raise _bad("ORCPT", "RCPT")
    return f"{kind};{decoded}"


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number <= 0x10FFFF else "\0"


def _release(given: dict[str, str], offers: Offers, now: float) -> float:
    if "HOLDFOR" in given:
        value = given["HOLDFOR"]
        if _SECONDS.fullmatch(value) is None:
            raise _bad("HOLDFOR")
        release = now + int(value)
    elif "HOLDUNTIL" in given:
        release = max(_instant(given["HOLDUNTIL"]), now)
    else:
        return 0.0
    if release > now + offers.hold:
        most = f"501 5.5.4 A message is held for {offers.hold} seconds at most"
        raise WireError("held too long", most.encode("ascii"))
    return release


def _instant(value: str) -> float:
    """RFC 3339 5.6."""
    try:
        if _DATE_TIME.fullmatch(value) is None:
            raise ValueError(value)
        return datetime.fromisoformat(value.upper().replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError) as error:
        raise _bad("HOLDUNTIL") from error


def _priority(value: str) -> int:
    if _PRIORITY.fullmatch(value) is None:
        raise _bad("MT-PRIORITY")
    return int(value)
