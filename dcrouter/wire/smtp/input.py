"""What a client has sent and nobody has read yet: lines of a bounded length, or octets."""

from __future__ import annotations


class Input:
    """`longest` of `line`: octets of a line without its LF. What is beyond is not kept, whenever the LF comes."""

    __slots__ = ("_at", "_octets", "_skipping")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0
        self._skipping = False

    @property
    def empty(self) -> bool:
        return self._at >= len(self._octets)

    def add(self, data: bytes) -> None:
        self._octets = self._octets[self._at :] + data
        self._at = 0

    def line(self, longest: int) -> bytes | None:
        """The next line without its LF, None as long as it is not complete; one that is too long comes as blanks, one
        more than `longest`."""
        end = self._octets.find(b"\n", self._at)
        if end < 0:
            if len(self._octets) - self._at > longest:
                self._skipping = True
            if self._skipping:
                self.clear()
            return None
        line, self._at = self._octets[self._at : end], end + 1
        if self._skipping or len(line) > longest:
            self._skipping = False
            return b" " * (longest + 1)
        return line

    def begins_with(self, word: bytes) -> bool:
        """Whether what comes next is `word` (in upper case), in any case."""
        return self._octets[self._at : self._at + len(word)].upper() == word

    def word(self) -> str:
        """The next four characters, in upper case: a verb, if a command comes next."""
        return self._octets[self._at : self._at + 4].decode("ascii", "replace").upper()

    def take(self) -> bytes:
        """All of it."""
        octets = self._octets[self._at :] if self._at else self._octets
        self.clear()
        return octets

    def take_up_to(self, most: int) -> bytes:
        """As much of it as there is, and not more than that."""
        if len(self._octets) - self._at <= most:
            return self.take()
        octets = self._octets[self._at : self._at + most]
        self._at += most
        return octets

    def put_back(self, octets: bytes) -> None:
        """What was taken and is not wanted after all; only while it is empty."""
        self._octets = octets

    def clear(self) -> None:
        self._octets = b""
        self._at = 0
