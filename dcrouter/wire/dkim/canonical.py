"""Header fields and bodies in the form in which they are signed. RFC 6376 3.4.

Bodies come in pieces, cut anywhere, with CRLF for line ends; each one is hashed as it passes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Literal

from attrs import frozen

Form = Literal["simple", "relaxed"]

_BLANKS = re.compile(rb"[ \t]+")
_SPACES = re.compile(rb"  +")
_FIELD = re.compile(rb"([^\r\n:]*):([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)")
_TAB_TO_SPACE = bytes.maketrans(b"\t", b" ")


@frozen
class Field:
    """One header field. `name`: in lower case. `raw`: all of it but its last CRLF; `value`: behind the colon."""

    name: bytes
    raw: bytes
    value: bytes

    def canonical(self, form: Form) -> bytes:
        """Without a CRLF at its end."""
        if form == "simple":
            return self.raw
        return self.name + b":" + _BLANKS.sub(b" ", self.value.replace(b"\r\n", b"")).strip(b" ")

    def without(self, tag: bytes) -> Field:
        """The same with an empty value of one of its tags."""
        emptied = re.sub(rb"(\A|;)([ \t\r\n]*" + re.escape(tag) + rb"[ \t\r\n]*=)[^;]*", rb"\1\2", self.value, count=1)
        return Field(self.name, self.raw[: len(self.raw) - len(self.value)] + emptied, emptied)


def split(head: bytes) -> list[Field]:
    """The fields of a header block, in order; lines that are none are left out."""
    return [field for field, _, _ in placed(head)]


def placed(head: bytes) -> Iterator[tuple[Field, int, int]]:
    """The same with where each one begins and ends, its CRLF included."""
    at = 0
    while at < len(head):
        found = _FIELD.match(head, at)
        if found is None:
            end = head.find(b"\r\n", at)
            at = len(head) if end < 0 else end + 2
        else:
            at = found.end()
            yield Field(found[1].rstrip(b" \t").lower(), found[0].removesuffix(b"\r\n"), found[2]), found.start(), at


class BodyHash:
    """SHA-256 of a body in one form. `limit`: octets of it that count, None: all. `length`: octets it has so far."""

    def __init__(self, form: Form, limit: int | None = None) -> None:
        self.length = 0
        self._relaxed = form == "relaxed"
        self._limit = limit
        self._hash = hashlib.sha256()
        self._rest = b""
        self._empty_lines = 0

    def add(self, octets: bytes) -> None:
        """The next octets, in any pieces."""
        octets = self._rest + octets if self._rest else octets
        end = octets.rfind(b"\r\n")
        if end < 0:
            self._rest = octets
            return
        self._rest = octets[end + 2 :]
        self._lines(octets[: end + 2])

    def digest(self) -> bytes:
        """All is here. Once only."""
        if self._rest:
            self._lines(self._rest + b"\r\n")
            self._rest = b""
        if self.length or not self._relaxed:
            self._take(b"\r\n")
        return self._hash.digest()

    @property
    def short(self) -> bool:
        """Whether the body ended before its limit: what was signed is not all here."""
        return self._limit is not None and self.length < self._limit

    def _lines(self, lines: bytes) -> None:
        """Whole lines: empty ones are kept back, those at the end of a body do not count."""
        if self._relaxed:
            lines = lines.translate(_TAB_TO_SPACE)
            if b"  " in lines:
                lines = _SPACES.sub(b" ", lines)
            lines = lines.replace(b" \r\n", b"\r\n")
        begins = len(lines.rstrip(b"\r\n"))
        if lines.count(b"\r\n", begins) * 2 != len(lines) - begins:  # lone CR or LF among them
            begins = len(lines)
            while begins >= 2 and lines[begins - 2 : begins] == b"\r\n":
                begins -= 2
        if not begins:
            self._empty_lines += len(lines) // 2
            return
        if self._empty_lines:
            self._take_empty(self._empty_lines)
        self._take(lines[:begins])
        self._empty_lines = (len(lines) - begins) // 2

    def _take_empty(self, count: int) -> None:
        block = b"\r\n" * min(count, 8192)
        while count > 0:
            self._take(block[: 2 * count])
            count -= 8192

    def _take(self, octets: bytes) -> None:
        if self._limit is None:
            self._hash.update(octets)
        elif self.length < self._limit:
            self._hash.update(octets[: self._limit - self.length])
        self.length += len(octets)
