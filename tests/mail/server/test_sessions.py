"""How the sessions of a mail process end."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcrouter.config.security import MinRate
from tests.mail.house import LOOPBACK, House, in_thread
from tests.support.facts import until
from tests.support.knock import dribble


class DrainTests(TestCase):
    async def test_a_drain_without_a_limit_cuts_nobody(self) -> None:
        """`timeouts.drain: 0s`: a transaction that has begun may end, however long it takes."""
        house = House(self, trusted=LOOPBACK)
        with socket.create_connection(("127.0.0.1", house.listen()), timeout=240) as connection:
            connection.sendall(b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n")
            stream = connection.makefile("rb")

            def upto(mark: bytes) -> None:
                while not stream.readline().startswith(mark):
                    pass

            await in_thread(upto, b"354")
            drained = house.mta.drain(0.0)
            # A turn of the reactor, in which a deadline of no seconds would have passed.
            await deferLater(reactor, 0)
            connection.sendall(b"Subject: x\r\n\r\ny\r\n.\r\n")
            rest = await in_thread(stream.read)
            await drained
        self.assertEqual([line[:9] for line in rest.splitlines()], [b"250 2.0.0", b"421 4.3.2"])


class MinRateTests(TestCase):
    async def test_who_dribbles_is_sent_away_in_every_phase(self) -> None:
        """`security.min_rate`: between commands and within a message; whoever is quick enough goes on."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen(least=MinRate(bytes=2000, over=1.0))
        letter = b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\nSubject: x\r\n\r\n"

        def slow(opening: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                connection.sendall(opening)
                return dribble(connection).splitlines()[-1]

        for opening in (b"", b"EHLO c\r\n", letter):
            last = await in_thread(slow, opening)
            self.assertEqual(last, b"421 4.4.2 Timeout")
        await until(lambda: len(house.closed) == 3)
        self.assertEqual({event.reason for event in house.closed}, {"min_rate"})

        def steady() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                connection.sendall(letter)
                stream = connection.makefile("rb")
                while len(house.closed) == 3 and steady_lines:
                    connection.sendall(b"y" * 70 + b"\r\n")
                    steady_lines.pop()
                connection.sendall(b".\r\nQUIT\r\n")
                return stream.read()

        steady_lines = [None] * 50_000
        said = await in_thread(steady)
        self.assertIn(b"250 2.0.0", said)
