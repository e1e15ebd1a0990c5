"""A message in another form, for a next hop that does not take it as it is; or which of its recipients cannot have it.

1. 8-bit or binary content is converted (wire/conversion), in memory, a few messages at a time, up to MOST octets; what
   is large in slices, so that the reactor has its turn.
2. What came with SMTPUTF8 and does not need it goes without: domains as A-labels, if the rest of the addresses and the
   header are ASCII (RFC 6531 3.2, RFC 5890). A recipient whose address needs it is refused, the others go.
"""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.defer import DeferredSemaphore

from dcrouter.errors import WireError
from dcrouter.mail.delivery.body import Content, NextPiece, SpoolFile
from dcrouter.mail.delivery.carried import for_some
from dcrouter.mail.delivery.exchangers import ascii_domain
from dcrouter.net.slices import CallLater, finished, in_slices
from dcrouter.wire.conversion import conversion
from dcrouter.wire.header import block
from dcrouter.wire.smtp.reply import Reply
from dcrouter.wire.smtp.transaction import NO_BINARY, NO_UTF8, Transaction

MOST = 8 * 1024 * 1024
"""Octets of a message that is converted: half a second of the processor, and three times as much memory."""

AT_ONCE = 64 * 1024
"""Octets that are converted without a pause: a millisecond. The connection that has asked for it carries them, too."""

_gate = DeferredSemaphore(2)
"""Of conversions under way in this process, for their memory."""


class Adapted(NamedTuple):
    """`refused`: of the recipients of the transaction before, by their places; those that are left are in the new one,
    None: nobody is.
    """

    transaction: Transaction | None
    content: Content
    refused: dict[int, Reply]


class InMemory:
    """A content that is nowhere else."""

    dotless = False

    def __init__(self, octets: bytes) -> None:
        self.octets: bytes | None = octets

    def pieces(self) -> NextPiece:
        raise AssertionError("it is in memory")

    def file(self) -> SpoolFile | None:
        return None


async def adapted(transaction: Transaction, content: Content, why: Reply, clock: CallLater) -> Adapted:
    """`why`: one of ADAPTABLE. `clock` makes pauses. StoreError or OSError where the content cannot be read."""
    if why is NO_UTF8:
        return await _without_utf8(transaction, content)
    count = len(transaction.recipients)
    if transaction.size > MOST:
        return Adapted(None, content, dict.fromkeys(range(count), _refusal(why, f"it has more than {MOST} octets")))
    await _gate.acquire()
    try:
        steps = conversion(await _whole(content), eightbit=why is NO_BINARY)
        octets = finished(steps) if transaction.size <= AT_ONCE else await in_slices(clock, steps)
    except WireError as error:
        return Adapted(None, content, dict.fromkeys(range(count), _refusal(why, str(error))))
    finally:
        _gate.release()
    anew = transaction._replace(size=len(octets), eightbit=not octets.isascii(), binary=False)
    return Adapted(anew, InMemory(octets), {})


async def _without_utf8(transaction: Transaction, content: Content) -> Adapted:
    count = len(transaction.recipients)
    sender = ascii_address(transaction.sender)
    head = None if sender is None else block(await _beginning(content))
    if head is None or not head.isascii():
        return Adapted(None, content, dict.fromkeys(range(count), NO_UTF8))
    addresses = {at: ascii_address(address) for at, address in enumerate(transaction.recipients)}
    refused = {at: NO_UTF8 for at, address in addresses.items() if address is None}
    left = [at for at in addresses if at not in refused]
    if not left:
        return Adapted(None, content, refused)
    anew = for_some(transaction, left)._replace(
        sender=sender or "", recipients=[addresses[at] or "" for at in left], smtputf8=False
    )
    return Adapted(anew, content, refused)


def ascii_address(address: str) -> str | None:
    """With its domain in A-labels, None where that is not enough."""
    if address.isascii():
        return address
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{ascii_domain(domain)}" if local.isascii() else None
    except ValueError:
        return None


async def _beginning(content: Content) -> bytes:
    return content.octets if content.octets is not None else await content.pieces()()


async def _whole(content: Content) -> bytes:
    if content.octets is not None:
        return content.octets
    next_piece, pieces = content.pieces(), []
    while piece := await next_piece():
        pieces.append(piece)
    return b"".join(pieces)


def _refusal(why: Reply, reason: str) -> Reply:
    return Reply(code=why.code, lines=(f"{why.lines[0]}, and it cannot be converted: {reason}",))
