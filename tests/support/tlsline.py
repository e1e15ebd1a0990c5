"""A blocking client that speaks lines inside TLS, by pyOpenSSL, so that it can bind to its channel."""

from __future__ import annotations

import hashlib
import socket
from base64 import b64decode, b64encode

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class TlsLine:
    """Connected to a port of loopback that is TLS from the first byte; it says EHLO. `after`: whose session goes on."""

    def __init__(self, port: int, version: str = "TLSv1.3", after: TlsLine | None = None) -> None:
        context = after.context if after is not None else SSL.Context(SSL.TLS_CLIENT_METHOD)
        if after is None:
            context.set_min_proto_version(VERSIONS[version])
            context.set_max_proto_version(VERSIONS[version])
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=240)
        self._socket.settimeout(None)  # pyOpenSSL cannot wait; the server's own deadlines end it
        self.context: SSL.Context = context
        self.tls = SSL.Connection(context, self._socket)
        session = after.tls.get_session() if after is not None else None
        if session is not None:
            self.tls.set_session(session)
        self.tls.set_connect_state()
        self.tls.do_handshake()
        self._buffer = b""
        self.greeting = self.reply()
        self.hello = self.say("EHLO c.test")

    def binding(self, kind: str) -> bytes:
        """What the channel can be bound to, from the client's side."""
        if kind == "tls-exporter":
            return self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        if kind == "tls-unique":
            return self.tls.get_finished() or b""
        certificate = self.tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()

    def say(self, line: str) -> str:
        """The whole reply to a line."""
        self.tls.sendall(line.encode() + b"\r\n")
        return self.reply()

    def respond(self, response: bytes) -> str:
        """The reply to a response of SASL."""
        return self.say(b64encode(response).decode())

    def reply(self) -> str:
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            while b"\r\n" not in self._buffer:
                self._buffer += self.tls.recv(4096)
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            lines.append(line.decode())
        return "\n".join(lines)

    def close(self) -> None:
        self._socket.close()


def challenge(reply: str) -> bytes:
    """What a 334 says."""
    assert reply.startswith("334 "), reply
    return b64decode(reply[4:])
