"""What a target is asked to find out whether it serves: nothing, one HTTP request, or an SMTP greeting and EHLO.

Contract: `opening` is said first, before anything is read; `feed` takes what comes, in any pieces, and gives what to
say next (b"" for nothing yet), or None: the target is well. WireError: it is not, and why. `farewell`: the last word.
HTTP: RFC 9112 section 4 (the status line is all that is read). SMTP: RFC 5321 section 3.1 and 4.1.1.1.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Protocol

from dcrouter.errors import WireError
from dcrouter.wire.smtp.reply import ReplyReader

LONGEST_LINE = 4096
"""Bytes of a status line."""

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: ([^\r\n]*))?")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Probe(Protocol):
    """One check, made anew for each."""

    opening: bytes
    farewell: bytes

    def feed(self, data: bytes) -> bytes | None:
        """See above."""


class HttpProbe:
    """GET of `path`; a status among `expect` is good. `host`: what the Host header says."""

    farewell = b""

    def __init__(self, host: str, path: str, expect: Collection[int]) -> None:
        self.opening = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: dcrouter\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
        self._expect = expect
        self._read = b""

    def feed(self, data: bytes) -> bytes | None:
        self._read += data
        line, end, _ = self._read.partition(b"\n")
        if not end:
            if len(self._read) > LONGEST_LINE:
                raise WireError("an HTTP status line without end")
            return b""
        found = _STATUS.fullmatch(line.rstrip(b"\r"))
        if found is None:
            raise WireError("not an HTTP answer")
        status = int(found[1])
        if status // 100 == 1:
            raise WireError(f"answered {status} to a plain request")
        if status not in self._expect:
            words = _UNPRINTABLE.sub("?", (found[2] or b"").decode("ascii", "replace"))[:60]
            raise WireError(f"answered {status} {words}".rstrip())
        return None


class SmtpProbe:
    """A greeting of 220, and EHLO as `name` answered by 250."""

    opening = b""
    farewell = b"QUIT\r\n"

    def __init__(self, name: str) -> None:
        self._ehlo = f"EHLO {name}\r\n".encode("ascii")
        self._reader = ReplyReader()
        self._greeted = False

    def feed(self, data: bytes) -> bytes | None:
        for reply in self._reader.receive(data):
            if reply.code != (250 if self._greeted else 220):
                raise WireError(f"{'EHLO' if self._greeted else 'greeting'}: {reply.text[:80]}")
            if self._greeted:
                return None
            self._greeted = True
            return self._ehlo
        return b""
