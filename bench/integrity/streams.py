"""Raw bytes both ways at once: passed on, and by TLS in the four ways; with half-closes, slow readers and resets.

A connection begins with the eight octets of its number, from which the far end knows all else. Without TLS inside, an
end that has sent all may say so by FIN while the other still sends; within TLS an end knows how much is to come. Where
a plan has a cut, one end resets in the midst, and what the other got until then must be a beginning of what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from itertools import count

from attrs import frozen

from bench.integrity.tally import PATIENCE, Tally, dice, difference, size, write

WAYS = {"plain": False, "unix": False, "passed": True, "ended": True, "again": True}
"""The ways through the service, by port or SNI; whether a client speaks TLS on it."""
_NUMBER = struct.Struct("!Q")
_MOST = 4 << 20


@frozen(kw_only=True)
class Plan:
    """One connection. `cut`: octets after which `cutter` resets, None: nobody does."""

    number: int
    way: str
    up: bytes
    down: bytes
    cut: int | None
    cutter: str
    half_closes: bool

    def __str__(self) -> str:
        cut = "" if self.cut is None else f", {self.cutter} resets after {self.cut}"
        closes = ", half-closes" if self.half_closes else ""
        return f"stream {self.number} ({self.way}, {len(self.up)} up, {len(self.down)} down{closes}{cut})"


def plan(seed: int, number: int) -> Plan:
    random = dice(seed, "stream", number)
    up, down = (random.randbytes(size(random, _MOST)) for _ in range(2))
    cutter = random.choice(("client", "far end"))
    sent = up if cutter == "client" else down
    return Plan(
        number=number, way=random.choice(list(WAYS)), up=up, down=down, cutter=cutter,
        half_closes=random.random() < 0.5, cut=random.randrange(len(sent) + 1) if random.random() < 0.1 else None,
    )  # fmt: skip


class FarEnd:
    """Tells `tally` what goes wrong at its end."""

    def __init__(self, seed: int, tally: Tally) -> None:
        self._seed, self._tally = seed, tally
        self._ended: dict[int, asyncio.Event] = {}

    async def ended(self, number: int) -> bool:
        """Whether this end of that connection ends in time."""
        event = self._ended.setdefault(number, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), PATIENCE)
        del self._ended[number]
        return event.is_set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            (number,) = _NUMBER.unpack(await reader.readexactly(_NUMBER.size))
        except (OSError, asyncio.IncompleteReadError):
            return  # its client waits for the end of this number, or has reset before it
        one = plan(self._seed, number)
        if said := await _end(reader, writer, one, "far end"):
            self._tally.wrong.append(f"{one}: {said}")
        if one.cut is None:
            self._ended.setdefault(number, asyncio.Event()).set()


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Plan, me: str) -> str:
    """Sends and reads at once what the plan says of this end; gives what is wrong."""
    sent, expected = (one.up, one.down) if me == "client" else (one.down, one.up)
    random = dice(one.number, me)
    closes = one.half_closes and not WAYS[one.way]

    async def send() -> None:
        if one.cut is not None and one.cutter == me:
            await write(writer, sent[: one.cut], random)
            _reset(writer)
            return
        await write(writer, sent, random)
        if closes:
            writer.write_eof()

    got = bytearray()

    async def read() -> None:
        while len(got) < len(expected) or closes:
            if not (data := await reader.read(size(random, 1 << 18) + 1)):
                return
            got.extend(data)
            if random.random() < 0.02:
                await asyncio.sleep(random.uniform(0, 0.02))

    try:
        async with asyncio.timeout(PATIENCE):
            failed = [one for one in await asyncio.gather(send(), read(), return_exceptions=True) if one]
    except TimeoutError:
        return f"{me}: not within {PATIENCE:g} s, {len(got)} of {len(expected)} octets had come"
    for error in failed:
        if not isinstance(error, OSError):
            raise error
    if one.cut is not None:
        return "" if expected.startswith(got) else f"{me}: {difference(expected, bytes(got))}"
    if failed or got != expected:
        return f"{me}: {difference(expected, bytes(got))} {failed or ''}"
    return ""


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN, where there is a socket that can."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Streams:
    """`run` makes one connection after the other until its deadline; call it several times for as many at once."""

    def __init__(
        self, seed: int, tally: Tally, far: FarEnd, ports: dict[str, int], tls: dict[str, ssl.SSLContext]
    ) -> None:
        self._seed, self._tally, self._far, self._ports, self._tls = seed, tally, far, ports, tls
        self._numbers = count(1)

    async def run(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and not self._tally.enough:
            one = plan(self._seed, next(self._numbers))
            said = await self._client(one)
            if one.cut is None and not await self._far.ended(one.number):
                said = said or "the far end has not ended"
            if said:
                self._tally.wrong.append(f"{one}: {said}")
            self._tally.exchanges += 1
            self._tally.octets += len(one.up) + len(one.down)

    async def _client(self, one: Plan) -> str:
        secure = WAYS[one.way]
        context, name = (self._tls[one.way], f"{one.way}.example.test") if secure else (None, None)
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self._ports["tls" if secure else one.way], ssl=context, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            return f"no connection: {error!r}"
        try:
            writer.write(_NUMBER.pack(one.number))
            return await _end(reader, writer, one, "client")
        finally:
            writer.close()
