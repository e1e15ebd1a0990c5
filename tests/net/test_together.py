"""What leaves together: a TLS server's ticket, its answer and its end."""

from __future__ import annotations

import socket

from OpenSSL import SSL

from dcrouter.errors import TlsError
from dcrouter.net.stream import Plain, Tls
from tests.net.test_stream import StreamCase
from tests.support.ends import TLS12, TLS13, client_context, server_context


def waits(stream: Tls) -> bool:
    """Whether the kernel lets what is sent wait for more."""
    return bool(stream.plain.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


class TogetherTests(StreamCase):
    def held(self, version: int, *, last: bool) -> tuple[list[bool], bytes]:
        """Whether it waits after the handshake, after an answer (`last`), after the end; and what the client reads."""
        seen: list[bool] = []

        async def serve(stream: Tls) -> None:
            seen.append(waits(stream))
            self.assertEqual(stream.send(b"answer", last=last), 6)
            seen.append(waits(stream))
            self.assertTrue(stream.finish())
            seen.append(waits(stream))
            stream.close()

        end = self.secure(serve, version)
        self.loop.until(lambda: not end.move() and end.over)
        self.assertIsNone(end.error)
        return seen, bytes(end.got)

    def test_a_ticket_leaves_with_the_first_answer(self) -> None:
        """What comes after the first answer waits for nothing."""
        self.assertEqual(self.held(TLS13, last=False), ([True, False, False], b"answer"))

    def test_an_end_that_follows_at_once_leaves_with_them(self) -> None:
        self.assertEqual(self.held(TLS13, last=True), ([True, True, False], b"answer"))

    def test_tls12_waits_for_nothing(self) -> None:
        """Its client may speak only after the server's last word."""
        self.assertEqual(self.held(TLS12, last=True), ([False, False, False], b"answer"))

    def test_an_alert_waits_for_nothing(self) -> None:
        """A handshake that fails at its last step says so before the socket is closed, whatever is unread."""
        seen: list[bool] = []

        async def serve(plain: Plain) -> None:
            stream = Tls(plain, server_context(), serves=True)
            with self.assertRaises(TlsError):
                await stream.handshake()
            seen.append(waits(stream))
            stream.close()

        ours, side = self.pair()
        self.plain(side, serve)
        client = SSL.Connection(client_context(), None)
        client.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        ours.sendall(client.bio_read(65536))
        self.assertEqual(self.loop.received(ours)[:1], b"\x16")
        ours.sendall(b"\x17\x03\x03\x00\x20" + b"?" * 32)
        self.loop.until(lambda: seen)
        self.assertEqual(seen, [False])
        self.assertEqual(self.loop.received(ours)[:1], b"\x17")  # encrypted, as all after the hello
