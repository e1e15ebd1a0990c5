"""The octets of a message for a next hop: from memory, from the store, or from its spool file piece by piece."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from dcrouter.mail.delivery.body import PIECE, NextPiece, SpoolFile
from dcrouter.mail.message import Message, spool_path


class Source(Protocol):
    """Where stored messages are read. `in_thread`: runs a call that waits for the disk."""

    def stored(self, message: Message) -> Deferred[bytes]: ...

    def spool_directory(self) -> Path: ...

    def in_thread(self, call: Any, *args: Any) -> Deferred[Any]: ...


class StoredContent:
    """`octets`: None where they have to be read, by `pieces`."""

    __slots__ = ("_message", "_source", "dotless", "octets")

    def __init__(self, message: Message, source: Source) -> None:
        self.octets = message.octets
        self.dotless = message.dotless
        self._message = message
        self._source = source

    def file(self) -> SpoolFile | None:
        if not self._message.spooled:
            return None
        path = spool_path(self._source.spool_directory(), self._message.id)
        return SpoolFile(path, self._message.size, self._source.in_thread)

    def pieces(self) -> NextPiece:
        message, source = self._message, self._source
        at = 0

        def spooled() -> Deferred[bytes]:
            nonlocal at
            start, at = at, at + PIECE
            if start >= message.size:
                return succeed(b"")
            return source.in_thread(_read, spool_path(source.spool_directory(), message.id), start)

        def stored() -> Deferred[bytes]:
            nonlocal at
            start, at = at, at + 1
            return source.stored(message) if start == 0 else succeed(b"")

        return spooled if message.spooled else stored


def _read(path: Path, start: int) -> bytes:
    with path.open("rb", buffering=0) as spooled:
        return os.pread(spooled.fileno(), PIECE, start)
