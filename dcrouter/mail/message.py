"""A message on its way through the house: a name, an envelope, and its octets in memory, in a spool file or in the
store.
"""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Literal

from attrs import define, evolve, frozen

from dcrouter.mail.envelope import Envelope

IN_MEMORY = 128 * 1024
"""Octets that a message may have to be kept as a row of the store: beyond, a file costs less than a row does."""


NoticeTo = Literal["sender", "postmaster"]
"""Who hears of a failure or a delay: postmaster where the client that brought the message might not relay."""


@frozen(kw_only=True)
class Message:
    """One message. `id`: unique in this installation, in order of arrival. `received`: UTC epoch seconds.

    `size`: octets as they will be sent, without stuffing and end mark. `eightbit`: whether any of them is above 127;
    `binary`: it came as BODY=BINARYMIME, its lines may be long, or none (RFC 3030); then it counts as `eightbit` too.
    `octets`: the content, None where it has to be read from the store or from the file of `spooled`. `notice`: whom a
    delivery status notification of ours tells; None: no such thing. `dotless`: it is known that it ends with CRLF,
    that none of its lines begins with a dot, and that none has a stray CR, LF or NUL; so it leaves as it is. Only the
    first attempts know, which come before anything is read from the store.
    """

    id: int
    envelope: Envelope
    received: float
    size: int
    eightbit: bool
    binary: bool = False
    spooled: bool = False
    octets: bytes | None = None
    notice: NoticeTo | None = None
    dotless: bool = False

    @classmethod
    def bare(cls, id: int, *, spooled: bool) -> Message:
        """Enough of a queued message to read its content."""
        return cls(
            id=id,
            envelope=Envelope(session="", sender="", recipients=()),
            received=0.0,
            size=0,
            eightbit=False,
            spooled=spooled,
        )

    @property
    def since(self) -> float:
        """From when on its age counts: it came, or was to be sent."""
        return max(self.received, self.envelope.terms.release)

    @property
    def name(self) -> str:
        """The id as logs, Received and the command line write it."""
        return f"{self.id:x}"

    def forgotten(self) -> Message:
        """The same without its octets in memory."""
        return evolve(self, octets=None) if self.octets is not None else self


@define
class Ids:
    """Numbers for messages: microseconds of the clock at start, then one more each, never below what the store has.
    `last`: the latest.
    """

    _numbers: count[int]
    last: int = 0

    @classmethod
    def after(cls, last: int) -> Ids:
        return cls(count(max(last + 1, int(time.time() * 1_000_000))), last)

    def next(self) -> int:
        self.last = number = next(self._numbers)
        return number


def parse_name(name: str) -> int | None:
    """The id that `Message.name` wrote, None where it cannot be one."""
    try:
        number = int(name, 16)
    except ValueError:
        return None
    return number if 0 < number < 1 << 63 else None


def spool_path(directory: Path, message: int) -> Path:
    """The spool file of the message with this id."""
    return directory / f"{message:x}.eml"
