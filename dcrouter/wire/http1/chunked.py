"""A chunked body, framed while it passes: octets in, the same octets out as far as nobody can read them differently.

Contract: `ChunkReader.feed` takes bytes as they arrive and gives what is to be passed on; it raises WireError for what
is no chunk. `done` once the end was seen; `rest` is then what came behind it. Extensions are dropped (nobody uses them
but attackers, RFC 9112 section 7.1.1 lets every recipient ignore them), sizes are written anew, and trailers keep only
what may be there. With `decode` only the content is given: for HTTP/1.0, which has no chunks.

RFC 9112 section 7.1.
"""

from __future__ import annotations

import re

from dcrouter.errors import WireError
from dcrouter.wire.http1.fields import trailers

MAX_LINE = 256
"""Octets of a line with a chunk's size, extensions included: whole files hidden in extensions have been seen."""
MAX_TRAILERS = 8192

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?)?")
_SIZE_NEXT, _IN_CHUNK, _CHUNK_ENDED, _IN_TRAILERS = range(4)


class ChunkReader:
    """One body. `size`: octets of content so far."""

    __slots__ = ("_buffer", "_decode", "_left", "_state", "done", "rest", "size")

    def __init__(self, *, decode: bool = False) -> None:
        self._decode = decode
        self._state = _SIZE_NEXT
        self._left = 0
        self._buffer = b""  # the beginning of a line
        self.done = False
        self.rest = b""
        self.size = 0

    def feed(self, data: bytes) -> bytes:
        """What is to be passed on of `data`, and of what was held back before it; not to be called when `done`."""
        if self._left > len(data):  # the usual case of a large chunk
            self._left -= len(data)
            self.size += len(data)
            return data
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._state == _IN_CHUNK:
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self.size += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = _CHUNK_ENDED
            elif self._state == _CHUNK_ENDED:
                if not data.startswith(b"\r\n", at):
                    if data[at:] != b"\r":
                        raise WireError("a chunk is longer than its size")
                    self._buffer = b"\r"
                    break
                at += 2
                if not self._decode:
                    out.append(b"\r\n")
                self._state = _SIZE_NEXT
            elif self._state == _SIZE_NEXT:
                line = _SIZE.match(data, at, at + MAX_LINE)
                if line is None:
                    if end - at >= MAX_LINE or not _BEGUN.fullmatch(data, at):
                        raise WireError("not the size of a chunk")
                    self._buffer = data[at:]
                    break
                at = line.end()
                self._left = int(line[1], 16)
                if not self._decode:
                    out.append(b"%x\r\n" % self._left)
                self._state = _IN_CHUNK if self._left else _IN_TRAILERS
            else:
                at = self._trailers(data, at, out)
                break
        if self.done:
            self.rest = data[at:]
        return b"".join(out)

    def _trailers(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Where the body ends, once it does."""
        if data.startswith(b"\r\n", at):
            stop, block = at + 2, b""
        else:
            found = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
            seen = data[at : at + MAX_TRAILERS]
            if seen.count(b"\n") != seen.count(b"\r\n") and found < 0:
                raise WireError("a line of the trailers ends without CR")
            if found < 0:
                if len(data) - at >= MAX_TRAILERS:
                    raise WireError("the trailers are too large")
                self._buffer = data[at:]
                return len(data)
            stop, block = found + 4, data[at : found + 2]
        kept = trailers(block)
        if kept is None:
            raise WireError("malformed trailers")
        if not self._decode:
            out.append(kept + b"\r\n")
        self.done = True
        return stop
