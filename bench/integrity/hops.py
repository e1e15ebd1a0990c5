"""Next hops that misbehave in each phase, and the book of what comes to them: each message arrives as it was sent,
once, or its sender is told.

A hop answers late, in pieces, 4xx, 5xx or 421, says nonsense behind a reply, breaks off, fails its handshake. What it
has said 250 to must not come again; what it lost before that is its own affair, and must.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from itertools import count
from random import Random

from attrs import define, field

from bench.integrity.tally import Tally, dice, difference
from bench.reliability.far import path_of
from bench.reliability.ledger import Item, Parcel

_REPORTED = re.compile(rb"(?im)^Final-Recipient: *rfc822; *(\S+)\r$")
_TOKEN = re.compile(rb"(h\d+)@load\.test")


class Cut(Exception):
    """This session ends here."""


@define
class Book:
    """Who was promised what, and what came of it."""

    tally: Tally
    parcels: dict[str, Parcel] = field(factory=dict)
    promised: set[Item] = field(factory=set)
    arrived: Counter[Item] = field(factory=Counter)
    told: Counter[Item] = field(factory=Counter)
    refused: set[Item] = field(factory=set)

    @property
    def under_way(self) -> int:
        return len(self.promised - self.arrived.keys() - self.told.keys())

    def take(self, token: str, recipients: list[str], octets: bytes) -> None:
        """A hop says 250 to it now."""
        text = octets[octets.find(b"Subject: ") :]
        if text != self.parcels[token].text:
            self.tally.wrong.append(f"{token}: damaged: {difference(self.parcels[token].text, text)}")
        for one in recipients:
            self.arrived[(token, one)] += 1

    def told_of(self, octets: bytes) -> None:
        """A notification has reached its sender."""
        token = _TOKEN.search(octets)
        reported = _REPORTED.findall(octets)
        if token is None or not reported:
            self.tally.wrong.append(f"a notification that names nobody: {octets[:300]!r}")
            return
        for one in reported:
            self.told[(token[1].decode(), one.decode())] += 1

    def close(self) -> None:
        """Nothing is under way any more."""
        for item in sorted((self.arrived.keys() | self.told.keys()) - self.promised):
            self.tally.wrong.append(f"{item} has come, or its sender was told, though it was never acknowledged")
        for item in sorted(self.promised):
            arrived, told = self.arrived[item], self.told[item]
            if arrived + told != 1:
                refused = ", was refused" if item in self.refused else ""
                self.tally.wrong.append(f"{item} has come {arrived} times, its sender was told {told} times{refused}")
            elif told and item not in self.refused:
                self.tally.wrong.append(f"{item}: its sender was told, but nobody had refused it")


class Inbox:
    """What the kind server that senders' own mail goes to keeps: notifications."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def take(self, sender: str, recipients: list[str], octets: bytes, blame: str) -> None:
        """As bench.reliability.far.Books."""
        self._book.told_of(octets)


class Hop:
    """An SMTP or LMTP server. `unkind`: it misbehaves, until it is told not to be."""

    def __init__(self, seed: int, book: Book, tls: ssl.SSLContext, *, lmtp: bool) -> None:
        self.unkind = True
        self.port = 0
        self._seed, self._book, self._tls, self._lmtp = seed, book, tls, lmtp
        self._numbers = count()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(reader, writer, self, dice(self._seed, "hop", self._lmtp, next(self._numbers)))
        try:
            await session.talk(self._book, self._tls, lmtp=self._lmtp)
        except (Cut, OSError, EOFError):
            pass  # EOFError, OSError: the service has ended it
        finally:
            writer.close()


class _Session:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hop: Hop, random: Random) -> None:
        self._reader, self._writer, self._hop, self.random = reader, writer, hop, random

    async def _reply(self, text: str, *, refuses: bool = False, more: bool = False) -> str:
        """Says it, or something else; gives the digit of what was said. Raises Cut.

        `more`: another answer follows by itself, which would be lost behind nonsense, and with it that it was taken.
        """
        random, writer = self.random, self._writer
        mood = random.random() if self._hop.unkind else 1.0
        if mood < 0.02:
            raise Cut
        if mood < 0.03:
            writer.write(b"421 4.3.2 not now\r\n")
            raise Cut
        if mood < 0.05:
            writer.write(b"451-4.3.0 later\r\n451 4.3.0 perhaps\r\n")
            return "4"
        if mood < 0.07 and refuses:
            writer.write(b"550 5.7.0 no\r\n")
            return "5"
        octets = text.encode() + b"\r\n"
        if mood < 0.13:
            for octet in octets:
                writer.write(bytes((octet,)))
                await asyncio.sleep(0.003 if random.random() < 0.2 else 0)
        else:
            writer.write(octets)
        if 0.12 < mood < 0.15 and not more:
            writer.write(random.choice((b"what?\r\n", b"999 nonsense\r\n", b"\r\n", b"\xff\xfe\r\n")))
        if 0.14 < mood < 0.20:
            await asyncio.sleep(random.uniform(0, 0.3))
        return text[0]

    async def talk(self, book: Book, tls: ssl.SSLContext, *, lmtp: bool) -> None:
        """Until QUIT or the end."""
        random = self.random
        token, taken, octets = "", list[str](), b""
        offers = ["8BITMIME", "ENHANCEDSTATUSCODES"] + ["PIPELINING"] * (random.random() < 0.7)
        offers += ["CHUNKING"] * (random.random() < 0.4) + ["STARTTLS"] * (random.random() < 0.5)
        if await self._reply("220 hop.test hello") != "2":
            raise Cut
        while line := await self._reader.readline():
            words = line.decode("ascii").strip()
            match words.partition(" ")[0].upper():
                case "EHLO" | "LHLO":
                    lines = "".join(f"250-{one}\r\n" for one in ("hop.test", *offers))
                    await self._reply(f"{lines}250 SIZE 100000000")
                case "STARTTLS":
                    if await self._reply("220 2.0.0 go") == "2":
                        offers.remove("STARTTLS")
                        if self._hop.unkind and random.random() < 0.05:
                            raise Cut
                        await self._writer.start_tls(tls)
                case "MAIL":
                    token, taken, octets = path_of(words).partition("@")[0], [], b""
                    if await self._reply("250 2.1.0 ok") != "2":
                        token = ""
                case "RCPT" if token:
                    said = await self._reply("250 2.1.5 ok", refuses=True)
                    if said == "2":
                        taken.append(path_of(words))
                    elif said == "5":
                        book.refused.add((token, path_of(words)))
                case "DATA" if taken:
                    if await self._reply("354 go", more=True) == "3":
                        await self._end(book, token, taken, await self._data(), lmtp=lmtp)
                    taken = []
                case "BDAT":
                    length, _, last = words[5:].partition(" ")
                    octets += await self._reader.readexactly(int(length))
                    if not taken:
                        self._writer.write(b"503 5.5.1 not now\r\n")
                    elif last:
                        await self._end(book, token, taken, octets, lmtp=lmtp)
                        taken = []
                    elif await self._reply("250 2.0.0 more") != "2":
                        taken = []
                case "RCPT" | "DATA":
                    self._writer.write(b"503 5.5.1 not now\r\n")
                case "QUIT":
                    await self._reply("221 2.0.0 bye")
                    return
                case _:
                    token, taken = "", []
                    await self._reply("250 2.0.0 ok")

    async def _data(self) -> bytes:
        if self._hop.unkind and self.random.random() < 0.03:
            await self._reader.read(1 << self.random.randrange(4, 17))
            raise Cut
        lines = []
        while (line := await self._reader.readline()) != b".\r\n":
            if not line:
                raise Cut
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    async def _end(self, book: Book, token: str, taken: list[str], octets: bytes, *, lmtp: bool) -> None:
        """The answer at the end of the data: one, or with LMTP one for each recipient (RFC 2033 4.2)."""
        for some in [[one] for one in taken] if lmtp else [taken]:
            said = await self._reply("250 2.0.0 taken", refuses=True, more=some[-1] != taken[-1])
            if said == "2":
                book.take(token, some, octets)
            elif said == "5":
                book.refused.update((token, one) for one in some)
