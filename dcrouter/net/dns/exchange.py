"""One question at one server: a datagram, sent again when told so, and TCP where the answer is too long for one.

Each exchange has a socket, and so a source port, of its own, connected to the server: the kernel drops what comes from
elsewhere, and an ICMP refusal arrives as an error. RFC 5452 (what keeps forged answers out), RFC 7766 (TCP).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.errors import reason_of
from dcrouter.net.dns.message import Answer, Query, Question, Truncated, Unusable
from dcrouter.net.dns.servers import Server

MAX_IGNORED = 64
"""Datagrams that answer something else; more are an attack, and the server is left."""

CONNECT_TIMEOUT = 10.0
"""Seconds; the question's own deadline is shorter as a rule."""


@implementer(IReadDescriptor)
class Exchange:
    """`heard` is called once, with an Answer or Unusable, never from within `send`; after `close`, not at all."""

    def __init__(
        self, question: Question, server: Server, reactor: Any, heard: Callable[[Exchange, Answer | Unusable], None]
    ) -> None:
        self.server = server
        self.began = reactor.seconds()
        self._query = Query(question, trusted=server.trusted)
        self._reactor = reactor
        self._heard = heard
        self._socket: socket.socket | None = None
        self._connector: Any = None
        self._ignored = 0
        self._closed = False

    def send(self) -> str | None:
        """The datagram, first or again; the reason where the system does not send it. A TCP connection goes on."""
        if self._connector is not None:
            return None
        try:
            if self._socket is None:
                self._open()
            assert self._socket is not None
            self._socket.send(self._query.wire)
        except BlockingIOError:
            return None  # as good as lost
        except OSError as error:
            return reason_of(error)
        return None

    def close(self) -> None:
        self._closed = True
        self._close_socket()
        if self._connector is not None:
            self._connector.disconnect()

    # ------------------------------------------------------------------ UDP

    def _open(self) -> None:
        family, kind, _, _, address = socket.getaddrinfo(
            self.server.host, self.server.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.connect(address)
        self._reactor.addReader(self)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def logPrefix(self) -> str:
        return "dns"

    def connectionLost(self, reason: Failure) -> None:
        """An error without data to read: epoll tells of an ICMP refusal so. Or the reactor stops."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self._socket is not None else 0
        if code:
            self._done(Unusable(os.strerror(code), there=False))
        else:
            self.close()

    def doRead(self) -> None:
        while self._socket is not None:
            try:
                octets = self._socket.recv(65535)
            except BlockingIOError:
                return
            except OSError as error:
                self._done(Unusable(reason_of(error), there=False))
                return
            response = self._query.read(octets)
            if response is None:
                self._ignored += 1
                if self._ignored > MAX_IGNORED:
                    self._done(Unusable("a flood of forged answers"))
            elif isinstance(response, Truncated):
                self._close_socket()
                self._connect()
            else:
                self._done(response)

    # ------------------------------------------------------------------ TCP

    def _connect(self) -> None:
        self._connector = self._reactor.connectTCP(
            self.server.host, self.server.port, _Factory(self), timeout=CONNECT_TIMEOUT
        )

    @property
    def framed(self) -> bytes:
        """The query as TCP carries it (RFC 1035 4.2.2)."""
        return len(self._query.wire).to_bytes(2, "big") + self._query.wire

    def received(self, octets: bytes) -> None:
        """A whole message."""
        response = self._query.read(octets)
        if response is None or isinstance(response, Truncated):
            response = Unusable("a broken answer over TCP")
        self._done(response)

    def lost(self, reason: str) -> None:
        self._done(Unusable(f"over TCP: {reason}", there=False))

    # ------------------------------------------------------------------

    def _done(self, response: Answer | Unusable) -> None:
        if self._closed:
            return
        if isinstance(response, Unusable) and response.plain:
            self._query = self._query.plain()
            if self._connector is None and self.send() is None:
                return
        self.close()
        self._heard(self, response)


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Stream(self.exchange)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.exchange.lost(reason.getErrorMessage())


class _Stream(Protocol):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._received = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._exchange.framed)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= 2 + length > 2:
            self._exchange.received(self._received[2 : 2 + length])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exchange.lost(reason.getErrorMessage())
