"""Clients that send messages: by DATA or BDAT, in pieces of any size, pipelined or not, in clear or within TLS; some
change their mind, and some vanish in the midst of a message, which must not arrive then.
"""

from __future__ import annotations

import asyncio
import ssl
from itertools import count
from random import Random

from bench.integrity.hops import Book
from bench.integrity.tally import PATIENCE, dice, size, write
from bench.reliability.ledger import Parcel

_MOST = 400_000
_WAITING = 150
"""Recipients under way at which clients wait."""


class Unwilling(Exception):
    """The service says something else than it should."""


class Senders:
    """Clients of `port`; `tls` trusts the service. `run` is one of them, until its deadline."""

    def __init__(self, seed: int, book: Book, port: int, tls: ssl.SSLContext) -> None:
        self._seed, self._book, self._port, self._tls = seed, book, port, tls
        self._numbers = count(1)

    async def run(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and not self._book.tally.enough:
            if self._book.under_way > _WAITING:
                await asyncio.sleep(0.05)
                continue
            number = next(self._numbers)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._session(dice(self._seed, "sender", number))
            except (OSError, EOFError, TimeoutError, Unwilling) as error:
                self._book.tally.wrong.append(f"the session before h{next(self._numbers)}: {error!r}")

    async def _session(self, random: Random) -> None:
        """Some messages on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        client = _Client(reader, writer, random)
        try:
            await client.hear("220")
            await client.say("EHLO client.test")
            if random.random() < 0.4:
                await client.say("STARTTLS", "220")
                await writer.start_tls(self._tls, server_hostname="mail.example.test")
                await client.say("EHLO client.test")
            for _ in range(random.randrange(1, 6)):
                parcel = self._parcel(next(self._numbers))
                if not await client.send(parcel):
                    writer.transport.abort()
                    return
                self._book.promised.update(parcel.items)
                self._book.tally.exchanges += 1
                self._book.tally.octets += len(parcel.text)
            await client.say("QUIT", "221")
        finally:
            writer.close()

    def _parcel(self, number: int) -> Parcel:
        random = dice(self._seed, "message", number)
        token, domain = f"h{number}", random.choice(("hop.test", "hop.test", "local.test"))
        recipients = tuple(f"{name}@{domain}" for name in "abc"[: random.choice((1, 1, 2, 3))])
        left = size(random, _MOST)
        lines = [f"Subject: {token}", f"From: {token}@load.test", ""]
        while left > 0:
            lines.append("." * random.choice((0, 0, 0, 1, 2)) + "x" * random.randrange(70) + random.choice("ab. "))
            left -= len(lines[-1]) + 2
        parcel = Parcel(token=token, recipients=recipients, text=("\r\n".join(lines) + "\r\n").encode())
        self._book.parcels[token] = parcel
        return parcel


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, random: Random) -> None:
        self._reader, self._writer, self._random = reader, writer, random

    async def hear(self, code: str = "250") -> None:
        """One reply, of as many lines as it has."""
        while (line := await self._reader.readline())[3:4] == b"-":
            pass
        if not line.startswith(code.encode()):
            raise Unwilling(f"{line!r}, and not {code}")

    async def say(self, line: str, code: str = "250") -> None:
        self._writer.write(line.encode() + b"\r\n")
        await self.hear(code)

    async def send(self, parcel: Parcel) -> bool:
        """False: it was not sent to its end, and the connection is to be cut."""
        random = self._random
        if random.random() < 0.1:
            await self.say("MAIL FROM:<nobody@load.test>")
            await self.say("RSET")
        chunks = self._chunks(parcel.text) if random.random() < 0.4 else []
        lines = [f"MAIL FROM:<{parcel.sender}>", *(f"RCPT TO:<{one}>" for one in parcel.recipients)]
        lines += [] if chunks else ["DATA"]
        codes = ["354" if line == "DATA" else "250" for line in lines]
        if random.random() < 0.5:
            await write(self._writer, "".join(f"{line}\r\n" for line in lines).encode(), random)
            for code in codes:
                await self.hear(code)
        else:
            for line, code in zip(lines, codes, strict=True):
                await self.say(line, code)
        octets = b"".join(chunks) or parcel.text.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        if random.random() < 0.05:
            await write(self._writer, octets[: random.randrange(len(octets) - 2)], random)
            return False
        await write(self._writer, octets, random)
        for _ in chunks or "1":
            await self.hear()
        return True

    def _chunks(self, text: bytes) -> list[bytes]:
        """BDAT commands with what belongs to each (RFC 3030)."""
        chunks, at = [], 0
        while at < len(text):
            length = size(self._random, 1 << 17) + 1
            piece = text[at : at + length]
            at += length
            chunks.append(b"BDAT %d%b\r\n%b" % (len(piece), b" LAST" if at >= len(text) else b"", piece))
        return chunks
