"""What incoming reports say: of mail that was not delivered (RFC 3464), and of mail that somebody complained about.

`read` gives a Returned, or None for a message that is no such report. Whatever its octets are, it neither fails nor
takes long: MAX_OCTETS of it are looked at. RFC 5965 and 6650 (feedback reports), 6522 (multipart/report).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email import message_from_bytes
from email.message import Message
from email.utils import getaddresses
from typing import Literal, get_args

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.smtp.address import parse_path

MAX_OCTETS = 128 * 1024
MAX_RECIPIENTS = 100
MAX_PARTS = 20
_LONGEST = 998

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_BEGINNING = re.compile(rb"(?im)^content-type:\s*multipart/report\b")
_STATUS = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})")


@frozen(kw_only=True)
class Fate:
    """What became of one recipient: `addresses` that it is known by. `reply`: of the server, as it might have been
    given to us.
    """

    addresses: tuple[str, ...]
    action: Action
    reply: str


@frozen(kw_only=True)
class Returned:
    """`fates` of a report of delivery; or `feedback`: abuse, fraud, virus, not-spam, other; then `addresses` that it
    may be about.
    """

    fates: tuple[Fate, ...] = ()
    feedback: str = ""
    addresses: tuple[str, ...] = ()


def may_be(head: bytes) -> bool:
    """Whether a message with this header is worth reading."""
    return _BEGINNING.search(head) is not None


def read(octets: bytes) -> Returned | None:
    try:
        return _read(message_from_bytes(octets[:MAX_OCTETS]))
    except (ValueError, LookupError, RecursionError, TypeError, AttributeError):
        return None  # the library gives up on some nonsense by these


def _read(message: Message) -> Returned | None:
    if message.get_content_type() != "multipart/report" or not message.is_multipart():
        return None
    parts = _inside(message)[:MAX_PARTS]
    by_type = {part.get_content_type(): part for part in reversed(parts)}
    status = by_type.get("message/delivery-status") or by_type.get("message/global-delivery-status")
    if status is not None:
        fates = tuple(fate for fate in map(_fate, _groups(status)) if fate is not None)
        return Returned(fates=fates[:MAX_RECIPIENTS]) if fates else None
    report = by_type.get("message/feedback-report")
    if report is None:
        return None
    fields = next(iter(_groups(report)), Message())
    about = [str(value) for value in fields.get_all("original-rcpt-to", [])]
    for part in parts:
        if part.get_content_type() in ("message/rfc822", "text/rfc822-headers"):
            about += [
                str(value) for name in ("to", "cc", "delivered-to") for value in _original(part).get_all(name, [])
            ]
    kind = str(fields.get("feedback-type", "other")).strip().lower()[:40]
    return Returned(feedback=kind or "other", addresses=_addresses(about))


def _groups(part: Message) -> list[Message]:
    """Fields that belong together, however deep the library has put them."""
    if part.is_multipart():
        return _inside(part)
    text = part.get_payload(decode=True)
    data = text if isinstance(text, bytes) else b""
    return [message_from_bytes(block) for block in re.split(rb"\r?\n\r?\n", data.strip()) if block]


def _inside(message: Message) -> list[Message]:
    payload = message.get_payload()
    return [part for part in payload if isinstance(part, Message)] if isinstance(payload, list) else []


def _original(part: Message) -> Message:
    if part.is_multipart():
        return next(iter(_inside(part)), Message())
    text = part.get_payload(decode=True)
    return message_from_bytes(text if isinstance(text, bytes) else b"")


def _fate(fields: Message) -> Fate | None:
    """None for what is no group of a recipient."""
    final = fields.get("final-recipient")
    action = next((one for one in ACTIONS if one == str(fields.get("action", "")).strip().lower()), None)
    if final is None or action is None:
        return None
    written = [
        str(fields[name]).partition(";")[2] for name in ("original-recipient", "final-recipient") if fields[name]
    ]
    status = _STATUS.match(str(fields.get("status", "")))
    code = status[1] if status is not None else ""
    said = " ".join(str(fields.get("diagnostic-code", "")).split())
    kind, semicolon, text = said.partition(";")
    reply = text.strip() if semicolon and kind.strip().lower() == "smtp" else ""
    if not re.match("[245][0-9][0-9]", reply):
        klass = {"5": "550", "4": "450"}.get(code[:1], "250")
        reply = f"{klass} {code} {text.strip() or said}".strip()
    return Fate(addresses=_addresses(written), action=action, reply=reply[:_LONGEST])


def _addresses(written: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for _, address in getaddresses([one[:_LONGEST] for one in written]):
        try:
            parsed, rest = parse_path(f"<{address}>", utf8=True)
        except WireError:
            continue
        if not rest:
            found[parsed] = None
    return tuple(found)[:MAX_RECIPIENTS]
