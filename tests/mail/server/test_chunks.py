"""BDAT over real connections: what is kept of chunks, and what is not. RFC 3030."""

from __future__ import annotations

import socket

from twisted.trial.unittest import TestCase

from dcrouter.config.mail import MailTimeouts
from tests.mail.house import LOOPBACK, House, dialogue, in_thread
from tests.support.facts import until
from tests.support.knock import dribble

START = ("EHLO c.test", "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>")


class ChunkTests(TestCase):
    async def test_a_large_message_in_chunks_goes_through_a_spool_file(self) -> None:
        """Lines that look like an end of data, or like commands, are content."""
        house = House(self)
        line = b"\r\n.\r\nQUIT\r\n" + b"x" * 987 + b"\r\n"
        pieces = [b"Subject: x\r\n\r\n", line * 100, line * 500, line * 400]
        chunks = [b"BDAT %d\r\n%b" % (len(piece), piece) for piece in pieces]
        replies = await in_thread(dialogue, house.listen(), *START, *chunks, "BDAT 0 LAST", "QUIT")
        self.assertEqual([reply[:9] for reply in replies[4:]], [b"250 2.0.0"] * 5 + [b"221 2.0.0"])
        await until(lambda: house.mails("b@local.test"))
        self.assertTrue(house.mails("b@local.test")[0].endswith(b"".join(pieces).replace(b"\r\n", b"\n")))
        await until(lambda: not list((house.state / "mail" / "spool").iterdir()))

    async def test_what_was_kept_of_chunks_goes_with_the_transaction(self) -> None:
        """By RSET, by a chunk that makes the message too big, by a flaw, and by the end of the connection; the memory
        and the files that they took are given back."""
        house = House(self, trusted=LOOPBACK, max_message_size=1_000_000)
        port = house.listen()
        piece = b"BDAT 500002\r\n\r\n" + (b"x" * 98 + b"\r\n") * 5000
        for last, code in (
            ("RSET", b"250 2.0.0"),
            (b"BDAT 499999\r\n" + b"z" * 499_999, b"552 5.3.4"),
            (b"BDAT 2\r\n\n\n", b"550 5.5.2"),
            ("QUIT", b"221 2.0.0"),
        ):
            replies = await in_thread(dialogue, port, *START, piece, last)
            self.assertEqual(replies[-1][:9], code)
        with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
            connection.sendall(("\r\n".join(START) + "\r\n").encode() + piece[:300_000])
            await until(lambda: list((house.state / "mail" / "spool").iterdir()))
        spool = house.sessions.spool
        await until(lambda: not list((house.state / "mail" / "spool").iterdir()))
        await until(lambda: not (spool.held or spool.unwritten or spool.announced or spool.leaving))
        self.assertEqual(house.mta.status()["accepted"], 0)

    async def test_octets_of_a_refused_chunk_have_the_time_of_data_and_no_more(self) -> None:
        """Nobody keeps a session for ever with what is thrown away."""
        house = House(self, trusted=LOOPBACK, timeouts=MailTimeouts(data=0.5))

        def slow(port: int) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                connection.sendall(b"EHLO c\r\nBDAT 100000000 LAST\r\n")
                return dribble(connection, 0.05)

        said = await in_thread(slow, house.listen())
        self.assertEqual(said.splitlines()[-1], b"421 4.4.2 Timeout")
        await until(lambda: house.closed)
        self.assertEqual(house.closed[0].reason, "end of data timeout")
