from __future__ import annotations

import gc
import socket

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.openssl import CUT, READ_MORE, RECORD, WRITE_MORE, Records, ServerSession
from tests.support.ends import TLS12, TLS13, client_context, server_context


class RecordsTests(SynchronousTestCase):
    """The names that are borrowed from pyOpenSSL and cryptography exist, and mean what they should."""

    def begun(self, version: int = TLS13) -> tuple[Records, SSL.Connection, socket.socket]:
        """Our side and the client's of a session that has begun, both never waiting, and the client's socket."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            self.addCleanup(sock.close)
            sock.setblocking(False)
        server, client = SSL.Connection(server_context(version), ours), SSL.Connection(client_context(version), theirs)
        server.set_accept_state()
        client.set_connect_state()
        records = Records(server)
        self.assertEqual(records.handshake(), READ_MORE)
        for _ in range(4):
            try:
                client.do_handshake()
            except SSL.WantReadError:
                self.assertIn(records.handshake(), (READ_MORE, 1))
        self.assertEqual(records.handshake(), 1)
        return records, client, theirs

    def test_bytes_in_parts_and_the_end(self) -> None:
        for version in (TLS12, TLS13):
            records, client, _ = self.begun(version)
            self.assertEqual(records.read(RECORD), READ_MORE)
            client.send(b"hello")
            self.assertEqual(records.read(2), b"he")
            self.assertEqual(records.read(10 * RECORD), b"llo")
            self.assertEqual(records.write(b"one"), 3)
            self.assertEqual(records.write(memoryview(b"two")), 3)
            self.assertEqual(client.recv(100) + client.recv(100), b"onetwo")
            client.shutdown()
            self.assertEqual(records.read(RECORD), b"")

    def test_a_full_socket(self) -> None:
        records, client, _ = self.begun()
        sent = 0
        while (size := records.write(bytes(RECORD))) > 0:
            sent += size
        self.assertEqual(size, WRITE_MORE)
        while sent > 0:
            sent -= len(client.recv(RECORD))
        self.assertEqual(records.write(bytes(RECORD)), RECORD)

    def test_a_cut_leaves_no_error_behind(self) -> None:
        for version in (TLS12, TLS13):
            records, _, theirs = self.begun(version)
            theirs.shutdown(socket.SHUT_WR)
            self.assertEqual(records.read(RECORD), CUT)
            self.assertEqual(self.begun()[0].read(RECORD), READ_MORE)

    def test_what_breaks_a_session_is_raised(self) -> None:
        records, _, theirs = self.begun()
        theirs.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        self.assertRaises(SSL.Error, records.read, RECORD)


class ServerSessionTests(SynchronousTestCase):
    """A server's side that pyOpenSSL does not know of unless it has to."""

    def test_callbacks_find_their_session(self) -> None:
        """What a context asks of Python is given the session itself, and its answer counts; the context may be gone."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            self.addCleanup(sock.close)
            sock.setblocking(False)
        asked: list[tuple[object, list[bytes]]] = []

        def choose(connection: SSL.Connection, offer: list[bytes]) -> bytes:
            asked.append((connection, offer))
            return offer[-1]

        context = server_context.__wrapped__(TLS13)
        context.set_alpn_select_callback(choose)
        session = ServerSession(context, ours.fileno())
        del context
        gc.collect()
        offering = client_context.__wrapped__(TLS13)
        offering.set_alpn_protos([b"one", b"two"])
        client = SSL.Connection(offering, theirs)
        client.set_connect_state()
        records = Records(session)
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        self.assertEqual(records.handshake(), READ_MORE)
        client.do_handshake()
        self.assertEqual(records.handshake(), 1)
        self.assertEqual(asked, [(session, [b"one", b"two"])])
        self.assertEqual(session.get_alpn_proto_negotiated(), b"two")
        self.assertEqual(client.get_alpn_proto_negotiated(), b"two")

    def test_an_impossible_descriptor_fails_as_any_other(self) -> None:
        """What the descriptor is shows at the first step, as an SSL.Error."""
        with self.assertRaises(SSL.Error):
            Records(ServerSession(server_context(TLS13), 1 << 20)).handshake()
