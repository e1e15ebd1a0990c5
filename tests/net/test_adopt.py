from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dcrouter.net.adopt import adopt


class Echo(Protocol):
    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data.upper())
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


def pair() -> tuple[socket.socket, socket.socket]:
    """(an accepted TCP connection, its client)"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=240)
        return listener.accept()[0], client


class AdoptTests(TestCase):
    async def test_a_socket_becomes_a_transport_that_closes_it(self) -> None:
        """The protocol reads and writes it, and in the end it is closed."""
        accepted, client = pair()
        self.addCleanup(client.close)
        echo = Echo()
        adopt(reactor, accepted, lambda: echo)
        client.sendall(b"hello")
        await echo.lost
        self.assertEqual((client.recv(10), client.recv(10)), (b"HELLO", b""))
        self.assertEqual(accepted.fileno(), -1)

    def test_a_client_that_has_reset_is_an_error_and_nothing_is_built(self) -> None:
        """The socket stays the caller's, who tells of it and closes it."""
        accepted, client = pair()
        self.addCleanup(accepted.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with self.assertRaises(OSError):
            adopt(reactor, accepted, lambda: self.fail("built"))
        self.assertNotEqual(accepted.fileno(), -1)
