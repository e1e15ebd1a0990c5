"""A message into a Maildir: tmp, fsync, rename to new, fsync of the directory; each recipient has a file of its own.

The path comes from the rule's template; each part of an address that goes into it is percent-encoded, so that it is one
name of one directory whatever a client sends. The file's name follows from the message and the recipient: delivered
again after a crash, it replaces itself. Lines end with LF there, as every reader of a Maildir expects.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from dcrouter.durable import make_directory, sync_directory
from dcrouter.mail.message import Message
from dcrouter.wire.smtp.address import split

MAX_PART = 120
"""Octets of one encoded part; two of them fit in a file name. A longer one keeps its beginning and gets a digest."""

_SAFE = "@+=,"
_CHUNK = 256 * 1024


def encoded(part: str) -> str:
    """`part` as a file name or a piece of one: no slash, no NUL, no leading dot, never empty, lower case."""
    name = quote(part.lower(), safe=_SAFE)
    if not name:
        return "%"
    if name[0] == ".":
        name = "%2E" + name[1:]
    if len(name) > MAX_PART:
        digest = hashlib.sha256(part.lower().encode()).hexdigest()[:24]
        name = f"{name[: MAX_PART - 25]}-{digest}"
    return name


def maildir_path(template: str, address: str, state_dir: Path) -> Path:
    """The Maildir of `address`; {recipient} {local} {domain} in `template` are encoded, a relative one starts at
    state_dir.
    """
    local, domain = split(address)
    path = template.replace("{recipient}", encoded(f"{local}@{domain}" if domain else local))
    return state_dir / path.replace("{local}", encoded(local)).replace("{domain}", encoded(domain))


@frozen(kw_only=True)
class Delivery:
    """One file to be written. `source`: the message's spool file, where its octets are not at hand."""

    message: Message
    octets: bytes | None
    address: str
    number: int
    directory: Path
    hostname: str
    source: Path | None = None

    def write(self) -> Path:
        """Writes it, durably; gives its path. Blocks: runs in a thread, and mostly outside of the GIL. Raises
        OSError.
        """
        name = f"{int(self.message.received)}.Q{self.message.name}R{self.number}.{self.hostname}"
        temporary, final = self.directory / "tmp" / name, self.directory / "new" / name
        _made(self.directory)
        try:
            self._put(temporary, final)
        except FileNotFoundError:
            _make(self.directory)  # somebody has removed it, or a part of it
            self._put(temporary, final)
        sync_directory(final.parent)
        return final

    def _put(self, temporary: Path, final: Path) -> None:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                for piece in self._pieces():
                    _write_all(fd, piece)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, final)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _pieces(self) -> Iterator[bytes]:
        head = f"Return-Path: <{self.message.envelope.sender}>\nDelivered-To: {self.address}\n"
        if self.octets is not None:
            yield head.encode() + self.octets.replace(b"\r\n", b"\n")
            return
        assert self.source is not None
        yield head.encode()
        with self.source.open("rb", buffering=0) as spooled:
            carry = b""
            while chunk := spooled.read(_CHUNK):
                chunk = carry + chunk
                carry = b"\r" if chunk.endswith(b"\r") else b""
                yield chunk[: len(chunk) - len(carry)].replace(b"\r\n", b"\n")
            yield carry


@lru_cache(maxsize=4096)
def _made(directory: Path) -> None:
    """`_make`, once for each in the life of this process: one that is there may not be durable yet."""
    _make(directory)


def _make(directory: Path) -> None:
    """Makes the Maildir with its three parts, durably."""
    for path in (directory, directory / "tmp", directory / "new", directory / "cur"):
        make_directory(path)


def _write_all(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
