"""How the sessions of a mail process end."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.mail.house import House, in_thread


class DrainTests(TestCase):
    @inlineCallbacks
    def test_a_drain_without_a_limit_cuts_nobody(self):
        """`timeouts.drain: 0s`: a transaction that has begun may end, however long it takes."""
        house = House(self)
        with socket.create_connection(("127.0.0.1", house.listen()), timeout=20) as connection:
            connection.sendall(b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n")
            stream = connection.makefile("rb")

            def upto(mark: bytes) -> None:
                while not stream.readline().startswith(mark):
                    pass

            yield in_thread(upto, b"354")
            drained = house.mta.drain(0.0)
            # A turn of the reactor, in which a deadline of no seconds would have passed.
            yield deferLater(reactor, 0)
            connection.sendall(b"Subject: x\r\n\r\ny\r\n.\r\n")
            rest = yield in_thread(stream.read)
            yield drained
        self.assertEqual([line[:9] for line in rest.splitlines()], [b"250 2.0.0", b"421 4.3.2"])
