"""Handshakes over real sockets: a server context in a thread, asked by whoever connects."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Sequence

from attrs import frozen
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import TlsError


@frozen(kw_only=True)
class Met:
    """What a client met: the leaf as DER, the chain's length as sent, and what was negotiated."""

    leaf: bytes
    version: str
    cipher: str
    alpn: str | None
    resumed: bool
    session: ssl.SSLSession | None


class Server:
    """Answers every connection on `port` with `context` until the test ends: gives back the first byte that comes."""

    def __init__(self, test: SynchronousTestCase, context: SSL.Context) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(300)
        self.port: int = self._listener.getsockname()[1]
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        test.addCleanup(thread.join, 30)
        test.addCleanup(self._listener.close)
        test.addCleanup(self._listener.shutdown, socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                self._answer(SSL.Connection(self._context, sock))

    def _answer(self, connection: SSL.Connection) -> None:
        connection.set_accept_state()
        try:
            connection.do_handshake()
            connection.send(connection.recv(1))
            connection.shutdown()
            connection.recv(1)
        except (SSL.Error, TlsError):
            return  # one of both has refused, or the client has gone; it knows why


def meet(
    port: int,
    name: str,
    root_pem: bytes,
    *,
    alpn: Sequence[str] = (),
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> Met:
    """Connect as `name`, verify against `root_pem`, exchange a byte; ssl.SSLError when the handshake fails."""
    context = context or trusting(root_pem)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=240) as sock,
        context.wrap_socket(sock, server_hostname=name, session=session) as stream,
    ):
        stream.sendall(b"?")
        stream.recv(1)
        cipher = stream.cipher()
        met = Met(
            leaf=stream.getpeercert(binary_form=True) or b"",
            version=stream.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=stream.selected_alpn_protocol(),
            resumed=bool(stream.session_reused),
            session=stream.session,
        )
        stream.unwrap()
        return met


def trusting(root_pem: bytes) -> ssl.SSLContext:
    """A client that trusts this CA alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root_pem.decode())
    return context
