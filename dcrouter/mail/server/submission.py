"""What a message must have that one of our own users sends. RFC 6409 6.1, 8; RFC 5322 3.6.

Date and Message-ID are added where they lack, nothing else is changed. Of an account, From must be there exactly once,
and every address in it and in Sender must be one that the account may send as; Date, Message-ID and Sender are there
once at most, for two readers might believe different ones. Mail from servers is not judged here.
"""

from __future__ import annotations

from dcrouter.errors import Refused, WireError
from dcrouter.mail.server import trace
from dcrouter.mail.server.users import User
from dcrouter.wire.header import addresses, fields
from dcrouter.wire.moments import mail_date
from dcrouter.wire.smtp.reply import reply

_ONCE = ("date", "message-id", "sender")


def refused_sender(user: User, address: str) -> bytes | None:
    """The reply to MAIL with an address that is not the account's; the null sender is for receipts (RFC 8098 3)."""
    if not address or user.may_send_as(address):
        return None
    return reply(553, f"5.7.1 {address} is not an address that {user.name} may send as")


def complete(head: bytes, user: User | None, *, name: str, hostname: str, now: float) -> bytes:
    """The fields that a message of this `name` lacks. `user`: None for a client without an account, which is trusted.

    Raises Refused, with the reply.
    """
    found = list(fields(head))
    if user is not None:
        _check_authors(found, user)
    names = {name for name, _ in found}
    added = b""
    if "date" not in names:
        added += f"Date: {mail_date(int(now))}\r\n".encode("ascii")
    if "message-id" not in names:
        added += trace.message_id(name, hostname)
    return added


def _check_authors(found: list[tuple[str, bytes]], user: User) -> None:
    if sum(name == "from" for name, _ in found) != 1:
        raise _refused(550, "5.6.0 A message has exactly one From field")
    for once in _ONCE:
        if sum(name == once for name, _ in found) > 1:
            raise _refused(550, f"5.6.0 A message has one {once.title().replace('-Id', '-ID')} field")
    for name, value in found:
        if name not in ("from", "sender"):
            continue
        field = name.capitalize()
        try:
            authors = addresses(value)
        except WireError as error:
            raise _refused(550, f"5.6.0 {field} cannot be read: {error}") from error
        if not authors:
            raise _refused(550, f"5.6.0 {field} has no address")
        for author in authors:
            if not user.may_send_as(author):
                raise _refused(550, f"5.7.1 {field}: {author} is not an address that {user.name} may send as")


def _refused(code: int, text: str) -> Refused:
    return Refused(text, reply(code, text))
