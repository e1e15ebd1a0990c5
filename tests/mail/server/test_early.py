"""Clients that talk before they are greeted, over real connections. RFC 5321 4.3.1."""

from __future__ import annotations

import contextlib
import socket
import ssl

from twisted.trial.unittest import TestCase

from tests.mail.house import HOSTNAME, LOOPBACK, House, dialogue, in_thread
from tests.support.facts import until


class EarlyTests(TestCase):
    async def test_who_talks_before_the_greeting_is_sent_away(self) -> None:
        """554 instead of the greeting, on smtp and submission ports, and nothing is obeyed."""
        house = House(self)

        for count, kind in enumerate(("smtp", "submission"), 1):
            port = house.listen(kind)
            # The reactor stands still until the octets are there.
            connection = socket.create_connection(("127.0.0.1", port), timeout=240)
            connection.sendall(b"EHLO c\r\n")
            said = await in_thread(connection.makefile("rb").read)
            connection.close()
            self.assertEqual(said, b"554 5.5.1 Wait for the greeting (RFC 5321 4.3.1)\r\n")
            await until(lambda count=count: len(house.closed) == count)
            self.assertEqual(house.closed[-1].reason, "talked before the greeting")

    async def test_so_is_who_talks_in_tls_before_it(self) -> None:
        """On smtps, octets that come with the end of the handshake."""
        house = House(self)
        port = house.listen("smtps")
        context = ssl.create_default_context(cafile=house.ca_file)

        def early() -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname=HOSTNAME)
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        connection.sendall(outgoing.read())
                        incoming.write(connection.recv(65536))
                tls.write(b"EHLO c\r\n")
                connection.sendall(outgoing.read())  # the handshake's last flight and the command, in one piece
                while data := connection.recv(65536):
                    incoming.write(data)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        return tls.read(65536)
                return b""

        said = await in_thread(early)
        self.assertIn(b"554 5.5.1 Wait for the greeting", said)
        self.assertNotIn(b"250", said)

    async def test_whom_we_trust_may_hurry(self) -> None:
        """All in one piece, from a network of `email.trusted`."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen()
        connection = socket.create_connection(("127.0.0.1", port), timeout=240)
        connection.sendall(
            b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        said = await in_thread(connection.makefile("rb").read)
        connection.close()
        self.assertEqual(said.splitlines()[-1][:3], b"221")
        await until(lambda: house.mails("b@local.test"))

    async def test_who_does_not_wait_for_the_reply_to_ehlo_is_sent_away(self) -> None:
        """RFC 2920: 554 5.5.0, whatever the port."""
        house = House(self)
        for kind in ("smtp", "submission"):
            replies = await in_thread(dialogue, house.listen(kind), b"EHLO c\r\nMAIL FROM:<a@x.test>\r\n")
            self.assertEqual(replies[-1][:9], b"554 5.5.0")
