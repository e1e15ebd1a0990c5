"""Senders' addresses that tell which message and recipient a bounce is about: VERP, with marks that nobody can forge.

`news@example.com` becomes `news+1kq3v...-0-mark@example.com`: the message's id, the recipient's number, and two short
MACs, of these, and of the recipient's address. What comes back to such an address meets the rules as if it were for
`news@example.com`.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from hmac import digest
from pathlib import Path
from typing import NamedTuple

from dcrouter.durable import make_directory, write_whole
from dcrouter.wire.smtp.address import MAX_LOCAL, split

FILE = "returns.key"
SIZE = 32
"""Octets of the key."""
LENGTH = 8
"""Characters of each MAC: 40 bits, which nobody finds by trying, a message each."""

_MARKED = re.compile(
    rf"(?P<local>[^@]+)\+(?P<id>[0-9a-f]{{1,16}})-(?P<number>[0-9]{{1,6}})-(?P<own>[a-z2-7]{{{LENGTH}}})"
    rf"(?P<address>[a-z2-7]{{{LENGTH}}})@(?P<domain>[^@]+)",
    re.IGNORECASE | re.ASCII,
)


_PLAIN = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+", re.IGNORECASE | re.ASCII)
"""A local part that needs no quotes."""


class Mark(NamedTuple):
    """`sender`: the address without its mark. `message`: id; `number` of the recipient; `address`: its MAC."""

    sender: str
    message: int
    number: int
    address: str


class Marks:
    """`directory`: where the key is kept, which is made with the first mark."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._key: bytes | None = None

    def open(self) -> None:
        """Reads the key, or makes one; blocks. OSError."""
        try:
            key = self._path.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) != SIZE:
            key = secrets.token_bytes(SIZE)
            make_directory(self._path.parent)
            write_whole(self._path, key, 0o600)
        self._key = key

    def marked(self, sender: str, message: int, number: int, recipient: str) -> str:
        """The sender for one recipient of a message; as it was, where that cannot be."""
        local, domain = split(sender)
        own = self._mac(f"{message:x}-{number}")
        marked = f"{local}+{message:x}-{number}-{own}{self._mac(_bound(message, number, recipient))}"
        return f"{marked}@{domain}" if len(marked) <= MAX_LOCAL and _PLAIN.fullmatch(local) else sender

    def read(self, address: str) -> Mark | None:
        """The mark that we have made, None for all others."""
        if self._key is None or "+" not in address:
            return None
        found = _MARKED.fullmatch(address)
        if found is None or not self._is(f"{found['id'].lower()}-{found['number']}", found["own"]):
            return None
        return Mark(
            f"{found['local']}@{found['domain']}", int(found["id"], 16), int(found["number"]), found["address"].lower()
        )

    def about(self, mark: Mark, recipient: str) -> bool:
        """Whether it was made for this recipient."""
        return self._is(_bound(mark.message, mark.number, recipient), mark.address)

    def _is(self, text: str, mac: str) -> bool:
        return secrets.compare_digest(self._mac(text), mac.lower())

    def _mac(self, text: str) -> str:
        assert self._key is not None
        return b32encode(digest(self._key, text.encode(), "sha256")[: LENGTH * 5 // 8]).decode("ascii").lower()


def _bound(message: int, number: int, recipient: str) -> str:
    return f"{message:x}-{number} {recipient.lower()}"
