"""How evenly many destinations are served beside one that has much mail: `python -m bench.fairness`.

One mail half, in this process, sends from one zone to addresses of loopback, each of which is a destination: first to a
busy one, then to all others. The far end is in this process as well and answers after `--delay`, so that connections
are what is short. Printed: when each destination had all of its mail, and how much each had at half of that time.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet import reactor

from dcrouter.config.admin import Admin, Config
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.queue import Queue
from dcrouter.config.rules import Mta as ToTheWorld
from dcrouter.config.rules import Rule
from dcrouter.config.tls import TlsProfile
from dcrouter.config.zones import Zone
from dcrouter.mail.envelope import Envelope, Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.mta import Mta
from dcrouter.tls.chooser import Chooser

BUSY = "127.200.0.1"
OCTETS = b"Subject: x\r\n\r\n" + b"x" * 1000 + b"\r\n"


class FarEnd(threading.Thread):
    """SMTP on all addresses of loopback. `arrived`: (instant, address) of each message; `began`: when sending did."""

    def __init__(self, delay: float) -> None:
        super().__init__(daemon=True)
        self.began = 0.0
        self.arrived: list[tuple[float, str]] = []
        self.port = 0
        self.ready = threading.Event()
        self._delay = delay

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._session, "0.0.0.0", 0, backlog=2000)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await server.serve_forever()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("sockname")[0]
        writer.write(b"220 far ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(self._delay)
                self.arrived.append((time.monotonic(), address))
            writer.write(b"250-far\r\n250 PIPELINING\r\n" if verb == b"EHLO" else b"250 2.0.0 ok\r\n")
            if verb == b"QUIT":
                break
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness")
    parser.add_argument("--destinations", type=int, default=1000)
    parser.add_argument("--each", type=int, default=5, help="messages for each of them [5]")
    parser.add_argument("--busy", type=int, default=5000, help="messages for the busy one, which come first [5000]")
    parser.add_argument("--connections", type=int, default=20, help="of the zone [20]")
    parser.add_argument("--delay", type=float, default=0.002, help="seconds that the far end takes [0.002]")
    asked = parser.parse_args()
    far = FarEnd(asked.delay)
    far.start()
    far.ready.wait()
    with tempfile.TemporaryDirectory() as directory:
        _run(Path(directory), far, asked)
    print(_report(far, asked))


def _run(directory: Path, far: FarEnd, asked: argparse.Namespace) -> None:
    email = Email(
        hostname="bench.test",
        postmaster="postmaster@example.test",
        ports=(MailPort(port=2525),),
        rules=(Rule(name="out", action=ToTheWorld()),),
        zones={"default": Zone(connections=asked.connections)},
        queue=Queue(store="memory"),
    )
    config = Config(state_dir=directory, admin=Admin(socket=directory / "admin.sock"), email=email)
    mta = Mta(config, Chooser(TlsProfile(), mail_name="bench.test"), reactor, mx_port=far.port)
    loop: Any = reactor
    wanted = asked.busy + asked.destinations * asked.each

    def put(number: int, address: str) -> None:
        recipient = Recipient(number=0, address=f"x@[{address}]", rule="out")
        envelope = Envelope(session="bench", sender="a@example.test", recipients=(recipient,))
        message = Message(
            id=number, envelope=envelope, received=time.time(), size=len(OCTETS), eightbit=False, octets=OCTETS
        )
        mta._queue.put(message)

    def begin() -> None:
        mta.start()
        others = [f"127.{1 + at // 65536}.{at // 256 % 256}.{at % 256}" for at in range(1, asked.destinations + 1)]
        addresses = [BUSY] * asked.busy + others * asked.each
        for number, address in enumerate(addresses, 1):
            put(number, address)
        look()

    def look() -> None:
        if len(far.arrived) >= wanted:
            mta.close().addBoth(lambda _: loop.stop())
        else:
            loop.callLater(0.1, look)

    loop.callWhenRunning(begin)
    far.began = time.monotonic()
    loop.run()


def _report(far: FarEnd, asked: argparse.Namespace) -> str:
    began = far.began
    last: dict[str, float] = {}
    first: dict[str, float] = {}
    for instant, address in far.arrived:
        last[address] = instant - began
        first.setdefault(address, instant - began)
    busy, others = last.pop(BUSY, 0.0), sorted(last.values())
    firsts = sorted(when for address, when in first.items() if address != BUSY)
    half = Counter(address for instant, address in far.arrived if instant - began <= others[-1] / 2)
    served = sorted(half.get(address, 0) for address in last)
    return "\n".join(
        (
            f"{len(others)} destinations with {asked.each} messages each, behind one with {asked.busy}; "
            f"{asked.connections} connections",
            f"first message there after  {firsts[0]:.2f} s, median {median(firsts):.2f} s, last {firsts[-1]:.2f} s",
            f"all of its mail after      {others[0]:.2f} s, median {median(others):.2f} s, last {others[-1]:.2f} s",
            f"had at half of that time   {served[0]}, median {median(served):g}, most {served[-1]} of {asked.each}",
            f"the busy one had all after {busy:.2f} s, {half.get(BUSY, 0)} of {asked.busy} at half of that time",
        )
    )


if __name__ == "__main__":
    main()
