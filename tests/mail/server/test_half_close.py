"""Clients that end their side of the connection and still read: Exim does so behind the QUIT of its last message."""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import TestCase

from dcrouter.config.mail import MailTimeouts
from dcrouter.config.rules import Verify
from tests.mail.house import LOCAL, LOOPBACK, House, forward, in_thread
from tests.mail.nexthop import ScriptedHop
from tests.support.facts import until

HEAD = b"EHLO c.test\r\nMAIL FROM:<a@x.test>\r\n"
TEXT = b"DATA\r\n"
BODY = b"Subject: x\r\n\r\ny\r\n.\r\n"


def said(port: int, *pieces: bytes) -> list[bytes]:
    """Blocking: each piece is sent when there was an answer to the one before, then FIN; the codes of all replies."""
    with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
        stream = connection.makefile("rb")
        lines = [stream.readline()]
        for piece in pieces[:-1]:
            connection.sendall(piece)
            lines.append(stream.readline())
        connection.sendall(pieces[-1])
        connection.shutdown(socket.SHUT_WR)
        return [line[:3] for line in (*lines, *stream) if line[3:4] == b" "]


class HalfCloseTests(TestCase):
    async def test_a_message_is_answered(self) -> None:
        """With QUIT in the same breath and without: 250 when it is durable, and it is there once."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen()
        head = HEAD + b"RCPT TO:<b@local.test>\r\n" + TEXT
        for end, last in ((b"QUIT\r\n", [b"221"]), (b"", [])):
            for body in (BODY, b"Subject: x\r\n\r\n" + b"text\r\n" * 100_000 + b".\r\n"):
                codes = await in_thread(said, port, head, body + end)
                self.assertEqual(codes, [b"220", b"250", b"250", b"250", b"354", b"250", *last])
        await until(lambda: len(house.mails("b@local.test")) == 4)
        await until(lambda: len(house.closed) == 4)
        self.assertEqual([one.reason for one in house.closed], ["quit"] * 2 + ["connection closed"] * 2)

    async def test_a_reset_is_told_in_words_of_ours(self) -> None:
        """The access log has no sentences of a library's."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen()

        def reset() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.recv(100)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        await in_thread(reset)
        await until(lambda: house.closed)
        self.assertEqual([(one.ended_by, one.reason) for one in house.closed], [("client", "connection lost")])

    async def test_whatever_is_pipelined_is_answered(self) -> None:
        """Recipients that somebody else is asked about, another message behind them, half a command."""
        hop = ScriptedHop(self)
        rule = forward(hop.port)
        house = House(
            self, LOCAL, type(rule)(name="out", match=rule.match, action=rule.action, verify=Verify()), trusted=LOOPBACK
        )
        port = house.listen()
        asked = HEAD + b"RCPT TO:<b@example.test>\r\nRCPT TO:<c@example.test>\r\n"
        codes = await in_thread(said, port, asked + b"RSET\r\nNOOP\r\nNOO")
        self.assertEqual(codes, [b"220", b"250", b"250", b"250", b"250", b"250", b"250"])
        two = (HEAD + b"RCPT TO:<b@local.test>\r\n" + TEXT, BODY + HEAD + b"RCPT TO:<d@example.test>\r\nQUIT\r\n")
        codes = await in_thread(said, port, *two)
        self.assertEqual(codes, [b"220", b"250", b"250", b"250", b"354", b"250", b"250", b"250", b"250", b"221"])
        await until(lambda: len(house.closed) == 2)

    async def test_half_a_message_is_none(self) -> None:
        """The end of the client's side is not the end of its message; nor is it waited for."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen()
        head = HEAD + b"RCPT TO:<b@local.test>\r\n" + TEXT
        for begun in (b"Subject: x\r\n", b"x\r\n.", b"x\r\n.\r", b"x\n.\n"):
            codes = await in_thread(said, port, head, begun)
            self.assertEqual(codes, [b"220", b"250", b"250", b"250", b"354"])
        for begun in (b"", b"EHL", b"EHLO c.test\r\nSTARTTLS\r\n"):
            codes = await in_thread(said, port, begun)
            self.assertEqual(codes, [b"220", b"250", b"220"][: 1 + 2 * begun.count(b"S")])
        await until(lambda: len(house.closed) == 7)
        self.assertEqual(house.mta.status()["accepted"], 0)

    async def test_one_that_reads_nothing_is_cut(self) -> None:
        """Replies that nobody takes do not keep a connection that nobody speaks on."""
        house = House(self, trusted=LOOPBACK, timeouts=MailTimeouts(command=0.5), max_recipients=10)
        port = house.listen()

        def deaf() -> None:
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(20)
                connection.connect(("127.0.0.1", port))
                connection.sendall(HEAD + b"RCPT TO:<b@local.test>\r\n" * 95_000)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(100)
                over.wait(20)

        import threading

        over = threading.Event()
        done = in_thread(deaf)
        await until(lambda: house.closed)
        over.set()
        await done
