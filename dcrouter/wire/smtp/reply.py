"""An SMTP reply: a three-digit code and lines of text, out of a server and into a client.

Contract: `reply` gives the bytes of one; `ReplyReader` takes bytes in any pieces and gives whole `Reply` values, or
raises WireError for what is no reply or has no end. RFC 5321 4.2, 4.2.1, 4.5.3.1.5; enhanced codes RFC 2034, 3463.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from attrs import frozen

from dcrouter.errors import WireError

MAX_REPLY = 64 * 1024
"""Octets of one reply, all lines; RFC 5321 asks for 512 a line, real servers send more, none sends this much."""

MAX_TEXT = 2000
"""Characters of one that are told and kept: nobody else's words are to fill the queue and the logs."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def reply(code: int, *lines: str) -> bytes:
    """One reply on the wire. What could break out of its line becomes a `?`."""
    texts = [line if line.isascii() and line.isprintable() else _UNPRINTABLE.sub("?", line) for line in lines] or [""]
    head = "".join(f"{code}-{text}\r\n" for text in texts[:-1])
    return f"{head}{code} {texts[-1]}\r\n".encode("ascii")


@frozen(kw_only=True)
class Reply:
    """What a server said. `lines`: the text of each line, code removed, ASCII (other octets as `?`)."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """`550 5.1.1 No such user`: all lines in one, for logs and the queue; of a very long one the beginning."""
        text = f"{self.code} {' '.join(self.lines)}".rstrip()
        return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 4]} ..."

    @property
    def enhanced(self) -> str | None:
        """`5.1.1`, or None where the reply does not begin with one."""
        found = _ENHANCED.match(self.lines[0])
        return found.group() if found else None


def _printable(octets: bytes) -> str:
    return _UNPRINTABLE.sub("?", octets.decode("ascii", "replace"))


_USUAL = 80
"""Octets of a line that may be remembered: servers say the same few over and over, for each message."""


@lru_cache(maxsize=256)
def _usual(line: bytes) -> Reply | None:
    """A reply of one line, None for all else."""
    found = _LINE.fullmatch(line.rstrip(b"\r"))
    if found is None or found[2] == b"-":
        return None
    return Reply(code=int(found[1]), lines=(_printable(found[3] or b""),))


class ReplyReader:
    """Bytes in, replies out."""

    def __init__(self) -> None:
        self._pending = b""
        self._lines: list[str] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether a part of a reply has come."""
        return bool(self._pending or self._lines)

    def receive(self, data: bytes) -> list[Reply]:
        """The replies that are complete now, in order. WireError: this peer does not speak SMTP."""
        return list(self.each(data))

    def each(self, data: bytes) -> Iterator[Reply]:
        """As `receive`, one by one: what was good comes before the WireError."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            if not self._lines and len(line) <= _USUAL:
                whole = _usual(line)
                if whole is not None:
                    yield whole
                    continue
            self._size += len(line)
            if self._size > MAX_REPLY:
                raise WireError("a reply without end")
            line = line.rstrip(b"\r")
            found = _LINE.fullmatch(line)
            if found is None:
                raise WireError(f"not an SMTP reply: {_printable(line[:80])}")
            code, mark, text = found.groups()
            self._lines.append(_printable(text or b""))
            if mark != b"-":
                whole = Reply(code=int(code), lines=tuple(self._lines))
                self._lines = []
                self._size = 0
                yield whole
        if self._size + len(self._pending) > MAX_REPLY:
            raise WireError("a reply without end")
