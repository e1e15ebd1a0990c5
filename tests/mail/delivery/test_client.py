"""One connection to a next hop, by a clock that is set by hand: how long it is held by who always answers, slowly."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.delivery.client import Connection
from dcrouter.mail.delivery.patience import TIMEOUTS, WHOLE, Patience
from dcrouter.wire.smtp.client import Client
from tests.mail.delivery.test_destination import Sent

MANY = 100


class Owned:
    """Who made the connection: `told` is what it heard."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.told.append(name)


class Transport(StringTransport):
    """Its end is told at once."""

    protocol: Connection

    def abortConnection(self) -> None:
        super().abortConnection()  # type: ignore[no-untyped-call]  # Twisted's
        self.protocol.connectionLost(Failure(ConnectionAborted()))


class SlowTests(SynchronousTestCase):
    def connect(self, *, lmtp: bool = False, ehlo: bytes = b"250 PIPELINING") -> None:
        self.clock, self.owner, self.sent = Clock(), Owned(), Sent()
        self.sent.transaction = self.sent.transaction._replace(recipients=[f"x{n}@x.test" for n in range(MANY)])
        client = Client("me.test", lmtp=lmtp)
        self.connection = Connection(self.owner, client, "hop.test:25", None, self.clock, Patience())
        self.transport = Transport()
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)  # type: ignore[no-untyped-call]  # Twisted's
        self.say(b"220 hello", b"250-hop.test", ehlo)
        self.assertEqual(self.owner.told, ["ready"])
        self.connection.send(self.sent)

    def say(self, *lines: bytes) -> None:
        self.connection.dataReceived(b"".join(line + b"\r\n" for line in lines))

    def slowly(self, line: bytes, times: int, seconds: float) -> int:
        """Says it so often, each time after so long; how often until the connection was left."""
        for count in range(times):
            self.clock.pump([1.0] * int(seconds))
            if self.transport.disconnecting:
                return count
            self.say(line)
        return times

    def test_each_reply_may_take_its_time_but_not_all_of_them(self) -> None:
        """RFC 5321 4.5.3.2 gives each RCPT 5 minutes: a hundred of them, with and without PIPELINING, are not held for
        a day.
        """
        for ehlo in (b"250 PIPELINING", b"250 SIZE"):
            self.connect(ehlo=ehlo)
            self.say(b"250 ok")
            late = TIMEOUTS["rcpt"] - 1.0
            self.assertEqual(self.slowly(b"250 ok", MANY, late), int(WHOLE / late))
            self.assertEqual(self.owner.told, ["ready", "broken"])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_server_that_takes_a_while_for_each_is_waited_for(self) -> None:
        """A hundred recipients that are looked up for a quarter of a minute each; then the message has its own time."""
        self.connect(ehlo=b"250 SIZE")
        self.say(b"250 ok")
        self.assertEqual(self.slowly(b"250 ok", MANY, 15.0), MANY)
        self.slowly(b"354 go", 1, TIMEOUTS["data"] - 1.0)
        self.slowly(b"250 taken", 1, TIMEOUTS["final"] - 1.0)
        self.assertEqual(self.sent.result, ("finished", 250))
        self.connection.send(self.sent)
        self.assertEqual(self.slowly(b"250 ok", 1 + MANY, 15.0), 1 + MANY)
        self.connection.abort("enough")

    def test_by_lmtp_the_end_of_the_message_is_answered_within_the_same(self) -> None:
        """Ten minutes for each of a hundred replies would be a day."""
        self.connect(lmtp=True)
        self.say(*[b"250 ok"] * (1 + MANY), b"354 go")
        late = TIMEOUTS["final"] - 1.0
        self.assertEqual(self.slowly(b"250 in", MANY, late), int(WHOLE / late))
        self.assertEqual(self.sent.result, ("unanswered", "timeout in final (waiting for final)"))
