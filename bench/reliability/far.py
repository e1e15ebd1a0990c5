"""The two ends that are ours: the far end that counts, and the clients that send. Both on asyncio, in one loop.

A client tells each step of its transaction to `at`, synchronously, so that a kill strikes before anything else happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count
from typing import Protocol

from bench.backend import Certificate
from bench.reliability.ledger import REFUSED, Parcel

_LIMIT = 1 << 22
_PATIENCE = 240.0


class Broken(Exception):
    """The service has ended the connection, or refused; the text is the reply."""


class Books(Protocol):
    def take(self, sender: str, recipients: list[str], octets: bytes, blame: str) -> str | None:
        """A whole message, which is about to be acknowledged; gives its token."""


class FarEnd:
    """An SMTP server that takes everything but REFUSED; every second session inside TLS.

    `taken` hears of each token once its 250 has been written.
    `blame`: the name of the kill that is being done.
    """

    def __init__(self, books: Books, taken: Callable[[str], None], certificate: Certificate) -> None:
        self.port = 0
        self.blame = ""
        self._books = books
        self._taken = taken
        self._sessions: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._numbers = count()
        self._tls = certificate.serving()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._sessions:
            writer.transport.abort()
        await self.quiet()

    async def quiet(self, seconds: float = 30.0) -> bool:
        """Whether all connections have ended, within that time: whoever made them is dead."""
        for _ in range(int(seconds / 0.005)):
            if not self._sessions:
                return True
            await asyncio.sleep(0.005)
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sessions.add(writer)
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client was killed
        finally:
            self._sessions.discard(writer)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()
        offer = b"" if next(self._numbers) % 2 else b"250-STARTTLS\r\n"
        writer.write(b"220 far.end.test ESMTP\r\n")
        while line := await reader.readline():
            verb, words = line[:4].upper(), line.decode("ascii").strip()
            if verb == b"EHLO":
                writer.write(b"250-far.end.test\r\n%b250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n" % offer)
            elif verb == b"STAR" and offer:
                offer = b""
                writer.write(b"220 2.0.0 go\r\n")
                await writer.start_tls(self._tls)
            elif verb == b"MAIL":
                sender, recipients = path_of(words), []
                writer.write(b"250 2.1.0 ok\r\n")
            elif verb == b"RCPT" and path_of(words) == REFUSED:
                writer.write(b"550 5.1.1 nobody here by that name\r\n")
            elif verb == b"RCPT":
                recipients.append(path_of(words))
                writer.write(b"250 2.1.5 ok\r\n")
            elif verb == b"DATA" and not recipients:
                writer.write(b"554 5.5.1 nobody to send it to\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                octets = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                token = self._books.take(sender, recipients, octets, self.blame)
                writer.write(b"250 2.0.0 taken\r\n")
                if token is not None:
                    self._taken(token)
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 ok\r\n")


def path_of(words: str) -> str:
    """The address in a command's path (RFC 5321 4.1.2), "" for `<>`."""
    return words.partition("<")[2].partition(">")[0]


class Client:
    """One connection to the service; `send` may be called again and again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, parcel: Parcel, at: Callable[[str], None]) -> str:
        """Steps told: `354`, `body` (half of it is out), `dot`, `250`; gives the last reply. Raises Broken, OSError or
        TimeoutError.
        """
        try:
            async with asyncio.timeout(_PATIENCE):  # wait_for of Python 3.11 may swallow a cancellation
                return await self._send(parcel, at)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken(str(error)) from error

    async def _send(self, parcel: Parcel, at: Callable[[str], None]) -> str:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            await self._expect(b"220")
            await self._say("EHLO client.test", b"250")
        await self._say(f"MAIL FROM:<{parcel.sender}>", b"250")
        for recipient in parcel.recipients:
            await self._say(f"RCPT TO:<{recipient}>", b"250")
        await self._say("DATA", b"354")
        at("354")
        text = parcel.text.replace(b"\r\n.", b"\r\n..")
        half = len(text) // 2
        self._writer.write(text[:half])
        await self._writer.drain()
        at("body")
        self._writer.write(text[half:] + b".\r\n")
        await self._writer.drain()
        at("dot")
        reply = await self._expect(b"250")
        at("250")
        return reply

    async def _say(self, line: str, code: bytes) -> None:
        assert self._writer is not None
        self._writer.write(line.encode() + b"\r\n")
        await self._expect(code)

    async def _expect(self, code: bytes) -> str:
        assert self._reader is not None
        while (line := await self._reader.readline())[3:4] == b"-":
            pass
        reply = line.decode("ascii", "replace").strip()
        if not line.startswith(code):
            raise Broken(reply or "the connection has ended")
        return reply

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(RuntimeError):
                self._writer.close()
            self._writer = None
