"""A SOCKS 5 proxy that does what a test wants: it knows names that nobody else does, stalls, or dies in the middle."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.support.serving import Serving


class Socks(Serving):
    """`names`: what it resolves. `asked`: (host, port) of every CONNECT, in order. `stalls`: it says nothing to them.

    `cut`: after so many octets from a client, behind the CONNECT, the connection is cut; None: never.
    """

    def __init__(self, case: TestCase, interface: str = "127.0.0.1", **names: str) -> None:
        self.names = names
        self.asked: list[tuple[str, int]] = []
        self.stalls = False
        self.cut: int | None = None
        super().__init__(case, lambda: _Session(self), interface)


class _Session(Protocol):
    transport: ITCPTransport

    def __init__(self, socks: Socks) -> None:
        self.socks = socks
        self.read = b""
        self.far: _Far | None = None
        self.greeted = False
        self.passed = 0

    def connectionMade(self) -> None:
        self.socks.sessions.append(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.socks.sessions.remove(self)
        if self.far is not None:
            self.far.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.passed += len(data)
            if self.socks.cut is not None and self.passed > self.socks.cut:
                self.transport.abortConnection()
                return
            self.far.transport.write(data)
            return
        self.read += data
        if not self.greeted and len(self.read) >= 3:
            self.greeted, self.read = True, self.read[3:]
            self.transport.write(b"\x05\x00")
        if self.greeted and len(self.read) > 5:
            self._ask()

    def _ask(self) -> None:
        read, kind = self.read, self.read[3]
        size = {1: 4, 4: 16}.get(kind, 1 + read[4])
        if len(read) < 6 + size:
            return
        host = read[5 : 4 + size].decode() if kind == 3 else str(ip_address(read[4 : 4 + size]))
        port = int.from_bytes(read[4 + size : 6 + size], "big")
        self.socks.asked.append((host, port))
        if self.socks.stalls:
            return
        factory = Factory.forProtocol(lambda: _Far(self))
        factory.noisy = False
        connecting = HostnameEndpoint(reactor, self.socks.names.get(host, host), port).connect(factory)
        connecting.addErrback(lambda _: self.transport.write(b"\x05\x05\x00\x01\0\0\0\0\0\0"))


class _Far(Protocol):
    transport: ITCPTransport

    def __init__(self, session: _Session) -> None:
        self.session = session

    def connectionMade(self) -> None:
        self.session.far = self
        self.session.transport.write(b"\x05\x00\x00\x01\0\0\0\0\0\0")

    def dataReceived(self, data: bytes) -> None:
        self.session.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.session.transport.loseConnection()
