"""HTTP exchanges on kept connections: all framings, 1xx, pipelining, early answers, targets that close.

A request's path has its number, from which the far end knows what must come and what to answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from itertools import count
from random import Random

from attrs import frozen

from bench.integrity.tally import PATIENCE, Tally, dice, difference, size, write

WAYS = ("web", "socket", "ended", "again")
"""Plain, to a unix socket, from TLS, and from TLS to TLS: names of hosts."""
_MOST = 1 << 20
_LIMIT = 1 << 17
_BODILESS = (204, 304)


@frozen(kw_only=True)
class Plan:
    """One exchange. `up`, `down`: bodies; `*_framing`: none, length, chunked or (down only) close.

    `early`: the answer begins before the request has ended; not with a refusal or a farewell, after which nobody is
    owed the rest.
    """

    number: int
    method: str
    up: bytes
    up_framing: str
    expects: bool
    status: int
    down: bytes
    down_framing: str
    interim: bool
    early: bool
    closes: bool

    def __str__(self) -> str:
        flags = " ".join(name for name in ("expects", "interim", "early", "closes") if getattr(self, name))
        up, down = f"{self.up_framing} {len(self.up)}", f"{self.status} {self.down_framing} {len(self.down)}"
        return f"request {self.number} ({self.method} {up} -> {down} {flags})"


def plan(seed: int, number: int) -> Plan:
    random = dice(seed, "request", number)
    method = random.choice(("GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
    bodied = method in ("POST", "PUT") or (method == "DELETE" and random.random() < 0.5)
    up_framing = random.choice(("length", "chunked")) if bodied else "none"
    status = random.choice((200, 200, 200, 201, 204, 206, 304, 404, 500))
    down_framing = random.choice(("length", "chunked", "close")) if status not in _BODILESS else "none"
    closes = down_framing == "close" or random.random() < 0.1
    return Plan(
        number=number, method=method, up_framing=up_framing, down_framing=down_framing, status=status,
        up=random.randbytes(size(random, _MOST)) if bodied else b"",
        down=random.randbytes(size(random, _MOST)) if down_framing != "none" else b"",
        expects=bodied and random.random() < 0.1, interim=random.random() < 0.1,
        early=bodied and status < 300 and not closes and random.random() < 0.3,
        closes=closes,
    )  # fmt: skip


class Cut(Exception):
    """The other side has closed where it may."""


async def _head(reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes]]:
    """First line and fields; Cut at an end before it."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ValueError(f"half a head: {error.partial[:200]!r}") from error
        raise Cut from error
    first, *lines = block[:-4].split(b"\r\n")
    fields = (line.partition(b":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes], *, answer: bool) -> bytes:
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = bytearray()
        while length := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await reader.readexactly(length)
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("a chunk does not end where it should")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return bytes(body)
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    return await reader.read(-1) if answer else b""


async def _send(writer: asyncio.StreamWriter, body: bytes, framing: str, random: Random) -> None:
    if framing != "chunked":
        await write(writer, body, random)
        return
    at = 0
    while at < len(body):
        length = size(random, 1 << 16) + 1
        piece = body[at : at + length]
        await write(writer, b"%x\r\n%b\r\n" % (len(piece), piece), random)
        at += length
    await write(writer, random.choice((b"0\r\n\r\n", b"0\r\nX-Trailer: yes\r\n\r\n")), random)


def _framed(body: bytes, framing: str) -> bytes:
    return {"length": b"Content-Length: %d\r\n" % len(body), "chunked": b"Transfer-Encoding: chunked\r\n"}.get(
        framing, b""
    )


class FarEnd:
    """A web server that tells `tally` of requests that are not as they were sent."""

    def __init__(self, seed: int, tally: Tally) -> None:
        self._seed, self._tally = seed, tally

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        one: Plan | None = None
        try:
            closes = False
            while not closes:
                one = None
                first, fields = await _head(reader)
                one = plan(self._seed, int(first.split()[1].rpartition(b"/")[2]))
                await self._exchange(reader, writer, one, fields)
                closes = one.closes
        except Cut:
            pass
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self._tally.wrong.append(f"{one}: far end: {error!r}")

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Plan, fields: dict[bytes, bytes]
    ) -> None:
        random = dice(one.number, "far end")
        asked = asyncio.create_task(_body(reader, fields, answer=False))
        if fields.get(b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not one.early:
            await asked
        if one.interim:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
        head = b"HTTP/1.1 %d Whatever\r\n%b%b\r\n" % (
            one.status, _framed(one.down, one.down_framing), b"Connection: close\r\n" if one.closes else b""
        )  # fmt: skip
        await write(writer, head, random)
        if one.method != "HEAD":
            await _send(writer, one.down, one.down_framing, random)
        if (body := await asked) != one.up:
            self._tally.wrong.append(f"{one}: far end: {difference(one.up, body)}")


class Requests:
    """`run` makes one connection after the other until its deadline; call it several times for as many at once."""

    def __init__(self, seed: int, tally: Tally, ports: dict[str, int], tls: ssl.SSLContext) -> None:
        self._seed, self._tally, self._ports, self._tls = seed, tally, ports, tls
        self._numbers = count(1)

    async def run(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and not self._tally.enough:
            number = next(self._numbers)
            random = dice(self._seed, "connection", number)
            way, length = random.choice(WAYS), random.randrange(1, 9)
            plans = [plan(self._seed, next(self._numbers)) for _ in range(length)]
            secure = way in ("ended", "again")
            name = f"{way}.example.test"
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", self._ports["tls" if secure else "web"], limit=_LIMIT,
                        ssl=self._tls if secure else None, server_hostname=name if secure else None,
                    )  # fmt: skip
                    await self._converse(reader, writer, way, plans, pipelines=random.random() < 0.3)
            except (OSError, TimeoutError) as error:
                self._tally.wrong.append(f"connection {number} to {way}: {error!r}, with {', '.join(map(str, plans))}")

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: str,
        plans: list[Plan],
        *,
        pipelines: bool,
    ) -> None:
        """Each request behind the answer to the one before, or all of them ahead of it."""

        async def ask(some: list[Plan]) -> None:
            for one in some:
                await self._ask(writer, way, one)

        asking = asyncio.create_task(ask(plans if pipelines else plans[:1]))
        try:
            for at, one in enumerate(plans):
                try:
                    said, closed = await self._answer(reader, one)
                except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                    said, closed = repr(error), True
                except Cut:
                    said, closed = "no answer", True
                self._tally.exchanges += 1
                self._tally.octets += len(one.up) + len(one.down)
                if said:
                    self._tally.wrong.append(f"{way}, {'pipelined, ' if pipelines else ''}{one}: client: {said}")
                if closed:
                    return
                if not pipelines:
                    await asking
                    asking = asyncio.create_task(ask(plans[at + 1 : at + 2]))
        finally:
            with contextlib.suppress(OSError):  # closed by the service: what is behind that answer is not asked
                await asking
            writer.close()

    async def _ask(self, writer: asyncio.StreamWriter, way: str, one: Plan) -> None:
        random = dice(one.number, "client")
        head = f"{one.method} /{way}/{one.number} HTTP/1.1\r\nHost: {way}.example.test\r\n".encode()
        head += _framed(one.up, one.up_framing) + (b"Expect: 100-continue\r\n" if one.expects else b"") + b"\r\n"
        await write(writer, head, random)
        await _send(writer, one.up, one.up_framing, random)

    async def _answer(self, reader: asyncio.StreamReader, one: Plan) -> tuple[str, bool]:
        """What is wrong with it, and whether the connection ends with it."""
        while True:
            first, fields = await _head(reader)
            status = int(first.split()[1])
            if status >= 200:
                break
        if status != one.status:
            return f"{first!r}, and not {one.status}", True
        bodiless = one.method == "HEAD" or status in _BODILESS
        body = b"" if bodiless else await _body(reader, fields, answer=True)
        expected = b"" if bodiless else one.down
        closed = fields.get(b"connection", b"").lower() == b"close"
        return ("" if body == expected else difference(expected, body)), closed
