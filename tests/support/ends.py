"""The far ends of a relay, played by the test: plain or TLS, never blocking, so that one thread turns everything."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import os
import random
import socket
import struct

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

PARTIAL_WRITE = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE: a write takes what fits, else all or nothing. pyOpenSSL sets it in every context."""
_ALLOW_CLIENT_RENEGOTIATION = 0x100  # from openssl/ssl.h; of TLS 1.2 only
TLS12, TLS13 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION


@functools.cache
def identity() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate that nobody trusts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    return builder.sign(key, SHA256()), key


@functools.cache
def server_context(version: int = TLS13, partial: bool = True) -> SSL.Context:
    """A server that speaks `version` only, with a certificate that nobody trusts. `partial`: see PARTIAL_WRITE."""
    certificate, key = identity()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(certificate)
    context.use_privatekey(key)
    if not partial:
        context.clear_mode(PARTIAL_WRITE)
    return only(context, version)


@functools.cache
def client_context(version: int = TLS13) -> SSL.Context:
    """A client that speaks `version` only and believes everybody."""
    return only(SSL.Context(SSL.TLS_CLIENT_METHOD), version)


def only(context: SSL.Context, version: int) -> SSL.Context:
    """`context`, for one version of TLS."""
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_options(_ALLOW_CLIENT_RENEGOTIATION)
    return context


def descriptors() -> set[tuple[int, str]]:
    """The files that this process has open, each by its number and what it is (proc(5)): so that those which threads of
    tests before this one are still about to close are not mistaken for others.
    """
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return found


class End:
    """One peer: sends `out` and then, if told so, its end; takes what comes into `got`.

    `ended`: a regular end was read (for TLS a close_notify); `error`: what broke the connection, None while it lives.
    """

    def __init__(self, sock: socket.socket, tls: SSL.Connection | None = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.tls = tls
        self.out = memoryview(b"")
        self.got = bytearray()
        self.hash = hashlib.sha256()
        self.count = 0
        self.keep = True
        self.finishing = self.finished = self.ended = False
        self.deaf = False
        self.error: Exception | None = None
        self.chunk = lambda: 65536
        self._offered = 0

    def __repr__(self) -> str:
        return f"<to send {len(self.out)}, received {self.count}, ended {self.ended}, error {self.error!r}>"

    def say(self, data: bytes, end: bool = False) -> None:
        """Send `data` (and the end after it) from now on."""
        self.out = memoryview(bytes(self.out) + data)
        self.finishing |= end

    def random_chunks(self, seed: int) -> None:
        """Read and write in pieces of all sizes."""
        pieces = random.Random(seed)
        self.chunk = lambda: pieces.choice((1, 100, 1500, 16383, 16384, 16385, 50000, 200000))

    def move(self) -> bool:
        """Do what can be done now without waiting. True: there was something."""
        moved = self._send()
        return (not self.deaf and self._receive()) or moved

    def reset(self) -> None:
        """Vanish with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Vanish with a bare FIN."""
        self.sock.close()

    @property
    def over(self) -> bool:
        """Nothing will come any more."""
        return self.ended or self.error is not None

    def _send(self) -> bool:
        moved = False
        try:
            while self.out:
                self._offered = self._offered or self.chunk()  # OpenSSL wants to be offered the same again
                piece = self.out[: self._offered]
                size = self.tls.send(piece) if self.tls else self.sock.send(piece, socket.MSG_NOSIGNAL)
                self.out = self.out[size:]
                self._offered = 0
                moved = True
            if self.finishing and not self.finished:
                if self.tls:
                    self.tls.shutdown()
                else:
                    self.sock.shutdown(socket.SHUT_WR)
                self.finished = moved = True
        except (BlockingIOError, SSL.WantReadError, SSL.WantWriteError):
            return moved
        except (OSError, SSL.Error) as error:
            self.out = memoryview(b"")
            self.finishing = False
            self.error = self.error or error
        return moved

    def _receive(self) -> bool:
        if self.over:
            return False
        try:
            data = self.tls.recv(self.chunk()) if self.tls else self.sock.recv(self.chunk())
        except (BlockingIOError, SSL.WantReadError, SSL.WantWriteError):
            return False
        except SSL.ZeroReturnError:
            data = b""
        except (OSError, SSL.Error) as error:
            self.error = error
            return False
        if not data:
            self.ended = True
        self.count += len(data)
        self.hash.update(data)
        if self.keep:
            self.got += data
        return True
