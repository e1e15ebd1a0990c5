"""A mail process that is killed again and again while a zone holds back what it sends: nothing is lost."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from random import Random

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.mail.house import in_thread, send
from tests.mail.test_zones import CountingHop, World
from tests.support.facts import until

MAIL_PROCESS = Path(__file__).resolve().parent / "mailprocess.py"
CONNECTIONS, PER_SECOND = 3, 5
"""Of the zone, as mailprocess.py has it."""
KILLS = 3


class Process(ProcessProtocol):
    """`port`: where it takes mail, 0 until it says so; `ended` fires when it is gone."""

    def __init__(self) -> None:
        self.port = 0
        self.ended: Deferred[None] = Deferred()
        self._said = b""

    def outReceived(self, data: bytes) -> None:
        self._said += data
        if b"\n" in self._said:
            self.port = int(self._said.split()[0])

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessTerminated)
        self.ended.callback(None)


class ZoneKillTests(World):
    def start(self, state: Path) -> tuple[Process, IProcessTransport]:
        process = Process()
        argv = [sys.executable, str(MAIL_PROCESS), str(state), str(self.dns.port), str(self.port)]
        transport = reactor.spawnProcess(process, sys.executable, argv, env=dict(os.environ))
        self.addCleanup(self.end, process, transport)
        return process, transport

    def end(self, process: Process, transport: IProcessTransport) -> Deferred[None]:
        if not process.ended.called:
            transport.signalProcess("KILL")
        return process.ended

    async def test_nothing_is_lost_and_no_limit_is_broken(self) -> None:
        """Three times at any moment, with mail at every stage: all that was acknowledged arrives, twice only what was
        under way at a kill; never are there more connections than the zone has, nor more messages in a second.
        """
        hops = [self.hop(number, f"d{number}.test") for number in range(1, 5)]
        most = [0]

        def hello(line: str) -> str:
            open_ones = [one for hop in hops for one in hop.sessions if not one.transport.disconnecting]
            most[0] = max(most[0], len(open_ones))  # who has said QUIT has gone, though its end may not be seen yet
            return "250 next"

        for hop in hops:
            hop.script["EHLO"] = hello

        def count() -> int:
            return sum(len(hop.messages) for hop in hops)

        state = Path(self.mktemp()).absolute()
        state.mkdir(parents=True)
        random, acknowledged = Random(7), []
        for kill in range(KILLS + 1):
            began, before = time.monotonic(), count()
            process, transport = self.start(state)
            await until(lambda process=process: process.port)
            for number in range(6):
                address = f"x{kill}-{number}@d{number % 4 + 1}.test"
                await in_thread(send, process.port, address)
                acknowledged.append(address)
            if kill == KILLS:
                await until(lambda: received(hops) >= set(acknowledged))
            else:
                enough = before + random.randrange(1, 6)
                await until(lambda enough=enough: count() >= enough)
            await self.end(process, transport)
            self.assertLessEqual(count() - before, PER_SECOND * (time.monotonic() - began + 1))
        self.assertEqual(received(hops), set(acknowledged))
        self.assertLessEqual(count() - len(acknowledged), KILLS * 2 * PER_SECOND)
        self.assertLessEqual(most[0], CONNECTIONS)


def received(hops: list[CountingHop]) -> set[str]:
    """The recipients of all messages."""
    return {envelope[1].partition("<")[2].partition(">")[0] for hop in hops for envelope, _ in hop.messages}
