"""A message on its way through DATA or BDAT: `Unstuffer` and `Chunks` take it off the wire, `Stuffer` puts it there.

Contract: all take bytes cut anywhere, keep at most four of them, and look at chunks, never at lines. Only CRLF.CRLF
ends a message (the CRLF of the DATA line counts as its first). A lone CR, a lone LF, a NUL or a line beyond
MAX_TEXT_LINE makes a received message bad: it is read to its true end and then refused. What `Stuffer` emits contains
none of them, whatever it was given. Lengths end what comes by BDAT; but it is judged alike, unless it is said to be
binary. RFC 5321 2.3.8, 4.1.1.4, 4.5.2, 4.5.3.1.6; RFC 3030; SMTP smuggling, CVE-2023-51764 and its kin.
"""

from __future__ import annotations

import re
from typing import Literal

MAX_TEXT_LINE = 65536
"""Octets between two CRLFs. RFC 5321 4.5.3.1.6 asks for 998 at least; real senders write longer ones, and breaking or
refusing those would break signatures or lose mail."""

Flaw = Literal["stray", "long-line"]

_END = b"\r\n.\r\n"
_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")


class _Lines:
    """The lines of a message that comes in, as far as they are judged. `flaw`: why it must be refused, None as long as
    it is well-formed.
    """

    __slots__ = ("_line", "flaw")

    def __init__(self) -> None:
        self.flaw: Flaw | None = None
        self._line = 0

    def _measure(self, piece: bytes) -> None:
        """Jumps from line end to line end, as far as a line may be long at a time."""
        size = len(piece)
        start = -self._line
        while size - start > MAX_TEXT_LINE:
            end = piece.rfind(b"\r\n", max(start, 0), start + MAX_TEXT_LINE + 2)
            if end < 0:
                self.flaw = "long-line"
                return
            start = end + 2
        end = piece.rfind(b"\r\n", max(start, 0))
        self._line = size - (end + 2 if end >= 0 else start)


class Unstuffer(_Lines):
    """One message coming in by DATA. `ended`: its end was seen. `dotless`: no line began with a dot so far; such a
    message, if well-formed, leaves again as it came.
    """

    __slots__ = ("_carry", "_skip", "dotless", "ended")

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.dotless = True
        self._carry = b"\r\n"  # the end of the DATA line: an end mark may follow at once
        self._skip = 2

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """(the message's next octets, unstuffed; what follows its end). The latter is empty until `ended`."""
        data = self._carry + data
        dot = data.find(b".")  # one octet is found twenty times as fast as three are, and base64 has no dots
        if dot >= 0 and data.rfind(_END) >= 0:  # from behind, which is faster: it is seldom there
            end = data.find(_END, max(dot - 2, 0))
            self.ended = True
            self._carry = b""
            return self._clean(data[: end + 2], dots=dot < end), data[end + 5 :]
        kept = _undecided(data)
        self._carry = data[len(data) - kept :]
        return self._clean(data[: len(data) - kept] if kept else data, dots=dot >= 0), b""

    def _clean(self, piece: bytes, *, dots: bool) -> bytes:
        if not _well_formed(piece):
            self.flaw = "stray"
        if dots and piece.rfind(b"\r\n.") >= 0:
            self.dotless = False
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._skip and piece:
            piece = piece[self._skip :]
            self._skip = 0
        if self.flaw is None:
            self._measure(piece)
        return piece if self.flaw is None else b""


class Chunks(_Lines):
    """One message coming in by BDAT, as its chunks' octets; `binary`: its lines are not judged."""

    __slots__ = ("_binary", "_carry")

    def __init__(self, *, binary: bool) -> None:
        super().__init__()
        self._binary = binary
        self._carry = b""  # a CR whose LF may come with the next octets, of the next chunk even

    def receive(self, data: bytes) -> bytes:
        """The message's next octets."""
        if self._binary:
            return data
        data = self._carry + data
        self._carry = data[-1:] if data.endswith(b"\r") else b""
        piece = data[:-1] if self._carry else data
        if not _well_formed(piece):
            self.flaw = "stray"
        if self.flaw is None:
            self._measure(piece)
        return piece if self.flaw is None else b""

    def end(self) -> None:
        """There is no further chunk."""
        if self._carry:
            self.flaw = "stray"


def _well_formed(piece: bytes) -> bool:
    """Whether CR and LF stand only side by side and there is no NUL. Three passes of memchr and memcpy: counting the
    pairs, or an expression, costs three times as much."""
    return piece.replace(b"\r", b"").replace(b"\n", b"\r\n") == piece and b"\0" not in piece


def _undecided(data: bytes) -> int:
    """How many octets at the end of `data` may be the beginning of an end mark or of a stuffed dot."""
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0


class Stuffer:
    """One message going out: `send` for each chunk, then `end`."""

    __slots__ = ("_carry", "_started")

    def __init__(self) -> None:
        self._carry = b"\r\n"
        self._started = False

    def send(self, data: bytes) -> bytes:
        """The octets to write now. Stray CR, LF and NUL leave as a space each (as Postfix replaces them)."""
        return self._emit(self._carry + data, last=False)

    def end(self) -> bytes:
        """What remains, with a CRLF where the message had none at its end, and the end mark."""
        rest = self._emit(self._carry, last=True)
        return rest + b".\r\n"

    def _emit(self, data: bytes, *, last: bool) -> bytes:
        # The last two octets stay behind: the next chunk's dot needs to know whether they were a line's end.
        if last:
            piece, self._carry = data, b""
            if piece[-2:] != b"\r\n":
                piece += b"\r\n" if piece[-1:] != b"\r" else b"\n"
        else:
            kept = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
            piece, self._carry = data[: len(data) - kept], data[len(data) - kept :]
        if not piece:
            return b""
        if not _well_formed(piece):
            piece = _STRAY.sub(b" ", piece)
        if b"." in piece and piece.rfind(b"\r\n.") >= 0:
            piece = piece.replace(b"\r\n.", b"\r\n..")
        if not self._started:
            self._started = True
            return piece[2:]
        return piece


class Unchanged:
    """One message going out by BDAT, with the methods of `Stuffer`."""

    __slots__ = ()

    def send(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""
