"""A delivery status notification as octets: what became of a message, for a person and for a program.

Contract: `notification` gives a whole message with CRLF lines, in three parts: words, the fields of RFC 3464, and the
message that it is about, or its header. Nothing in that message, and nothing that a remote server said, can change the
structure: such text is made printable and folded, and the boundary is a digest of what it separates.

RFC 6522 (multipart/report), 3464 (fields), 6533 (those of UTF-8), 3834 (Auto-Submitted), 5322 3.6.4 (In-Reply-To),
2046 5.2.1.
"""

from __future__ import annotations

import binascii
import re
from hashlib import sha256

from dcrouter.wire.dsn.lines import MAX_LINE, folded, header_of, message_id, printable, without_content
from dcrouter.wire.dsn.notice import MAX_RECIPIENTS, Notice, Told
from dcrouter.wire.dsn.words import words
from dcrouter.wire.moments import mail_date

MAX_REPLY = 1000
"""Octets kept of what a server said: RFC 3464 wants it whole, but some say pages."""

_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_SUBJECT = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Delayed mail: it is still being tried",
    "delivered": "Your mail has been delivered",
    "relayed": "Your mail has been passed on",
    "mixed": "What became of your mail",
}
_UNKNOWN = {"failed": "5.0.0", "delayed": "4.0.0", "delivered": "2.0.0", "relayed": "2.0.0"}
_BEYOND_ASCII = re.compile(r"[^\x21-\x7e]|[\\+=]")


def notification(notice: Notice) -> bytes:
    """The message. Its octets are below 128, unless it is `utf8`, or a `whole` original has others."""
    parts = [_words(notice), _fields(notice), _returned(notice)]
    boundary = "=_" + sha256(b"\r\n".join(parts)).hexdigest()[:40]
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{notice.hostname}>",
        *folded(f"To: <{notice.to}>", utf8=notice.utf8),
        f"Subject: {_SUBJECT[notice.action]}",
        f"Date: {mail_date(int(notice.now))}",
        f"Message-ID: <{notice.id}@{notice.hostname}>",
    ]
    answered = message_id(notice.original)
    if answered is not None:
        head += [f"In-Reply-To: {answered}", f"References: {answered}"]
    head += [
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        *(() if all(map(bytes.isascii, parts)) else ("Content-Transfer-Encoding: 8bit",)),
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        "",
        "This is a message in MIME format: a notice of delivery, for a person and for a program.",
        "",
        "",
    ]
    mark = f"--{boundary}".encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return "\r\n".join(head).encode(_charset(notice), "replace") + body + mark + b"--\r\n"


# ---------------------------------------------------------------------- the parts


def _words(notice: Notice) -> bytes:
    text = "\r\n".join(words(notice)).encode(_charset(notice), "replace")
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text + b"\r\n"
    return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text + b"\r\n"


def _charset(notice: Notice) -> str:
    return "utf-8" if notice.utf8 else "ascii"


def _fields(notice: Notice) -> bytes:
    groups = [
        [
            *(folded(f"Original-Envelope-Id: {notice.envid}") if notice.envid else ()),
            f"Reporting-MTA: dns; {notice.hostname}",
            f"X-Dcrouter-Message: {notice.name}",
            f"Arrival-Date: {mail_date(int(notice.received))}",
        ]
    ]
    if notice.sender:
        groups[0] += folded(f"X-Dcrouter-Sender: {_address(notice, notice.sender)}", utf8=notice.utf8)
    groups += [_recipient(notice, told) for told in notice.recipients[:MAX_RECIPIENTS]]
    text = "\r\n\r\n".join("\r\n".join(lines) for lines in groups)
    if notice.utf8:
        kind = b"message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit"
        return b"Content-Type: " + kind + b"\r\n\r\n" + text.encode("utf-8", "replace") + b"\r\n"
    return b"Content-Type: message/delivery-status\r\n\r\n" + text.encode("ascii", "replace") + b"\r\n"


def _recipient(notice: Notice, told: Told) -> list[str]:
    lines: list[str] = []
    if told.original:
        kind, _, address = told.original.partition(";")
        original = _address(notice, address) if kind.lower() == "utf-8" else f"{kind}; {address}"
        lines += folded(f"Original-Recipient: {original}", utf8=notice.utf8)
    lines += folded(f"Final-Recipient: {_address(notice, told.address)}", utf8=notice.utf8)
    lines += [f"Action: {told.action}", f"Status: {told.status or _UNKNOWN[told.action]}"]
    if told.remote:
        lines += folded(f"Remote-MTA: dns; {told.remote}")
    kind = "smtp" if told.remote and told.code else "X-Dcrouter"
    lines += folded(f"Diagnostic-Code: {kind}; {told.reply[:MAX_REPLY]}")
    lines.append(f"Last-Attempt-Date: {mail_date(int(notice.now))}")
    if notice.until is not None and told.action == "delayed":
        lines.append(f"Will-Retry-Until: {mail_date(int(notice.until))}")
    return lines


def _address(notice: Notice, address: str) -> str:
    """With its type. What is beyond ASCII is written with ASCII where that is all one may (RFC 6533 3)."""
    if address.isascii():
        return f"rfc822; {address}"
    if notice.utf8:
        return f"utf-8; {address}"
    return "utf-8; " + _BEYOND_ASCII.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", printable(address, utf8=True))


def _returned(notice: Notice) -> bytes:
    if notice.whole and not notice.private and _fits(notice.original):
        label = b"" if notice.original.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        kind = b"global" if notice.utf8 and not header_of(notice.original).isascii() else b"rfc822"
        return b"Content-Type: message/" + kind + b"\r\n" + label + b"\r\n" + notice.original
    header = header_of(notice.original)
    if notice.private:
        header = without_content(header)
    if notice.utf8 and not header.isascii() and _is_utf8(header) and _fits(header):
        return b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + header
    if header.isascii() and _fits(header):
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + header
    encoded = binascii.b2a_qp(_STRAY.sub(b"?", header), istext=True)
    return (
        b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + encoded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    )


def _fits(octets: bytes) -> bool:
    """Whether it can stand as it is: whole lines, none too long (RFC 5321 4.5.3.1.6)."""
    return _STRAY.search(octets) is None and max(map(len, octets.split(b"\r\n"))) <= MAX_LINE


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
