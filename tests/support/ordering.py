"""The whole service with certificates from Pebble: what authorities' ports are, and how soon it tries again, are told
to the process that is started, because no key of the configuration says so.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from tests.support.pebble import Pebble
from tests.support.router import PATIENCE, Router, until

START = """
import sys
from dcrouter.control.issuing import answers, directories
from dcrouter.tls import renewal
answers.HTTP_PORT, answers.TLS_PORT = int(sys.argv[1]), int(sys.argv[2])
renewal.FIRST_WAIT = directories.FIRST_REST = float(sys.argv[3])
directories.ORDERS, directories.PERIOD = int(sys.argv[4]), float(sys.argv[5])
from dcrouter.net.reactor import install
install()
from dcrouter import tap
sys.exit(tap.run([]))
"""
ACME_TEXT = """
certificates:
  acme: {directory: "$directory", ca_file: "$base/ca.pem"$more}
"""


def ordering(
    pebble: Pebble,
    text: str,
    acme: str = "",
    *,
    wait: float = 1.0,
    orders: int = 100,
    period: float = 10.0,
    tls: int | None = None,
    **settings: Any,
) -> Router:
    """A router that orders at `pebble`: `acme` are more keys of certificates.acme; `wait`: seconds after a failure;
    `orders`: in `period` seconds.

    `$http` and `$tls` are the ports that Pebble looks at; `tls`: it is behind another service, which has that one.
    """
    router = Router(
        ACME_TEXT + text,
        more=f", {acme}" if acme else "",
        # Mail ports without accounts are no surprise here, nor other ports than authorities have.
        expected=["nobody can send through", "look for tls-alpn-01 on port 443", *settings.pop("expected", ())],
        directory=pebble.url,
        http=pebble.http.port,
        tls=tls or pebble.tls.port,
        command=(
            sys.executable,
            "-c",
            START,
            *map(str, (pebble.http.port, tls or pebble.tls.port, wait, orders, period)),
        ),
        start=False,
        **settings,
    )
    (router.base / "ca.pem").write_bytes(pebble.trust)
    return router


def leaf_of(port: int, name: str | None, *, starttls: bool = False, alpn: Sequence[bytes] = ()) -> x509.Certificate:
    """Of the certificate that is shown to a client; whatever goes wrong in the handshake is raised."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        if starttls:
            _starttls(sock)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if alpn:
            context.set_alpn_protos(list(alpn))
        sock.setblocking(True)
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        if name is not None:
            connection.set_tlsext_host_name(name.encode())
        connection.do_handshake()
        found = connection.get_peer_certificate(as_cryptography=True)
        assert found is not None
        return found


def issuer_of(port: int, name: str | None, **options: Any) -> str:
    """Who has issued it: `Pebble ...` or `dcrouter internal CA ...`."""
    return leaf_of(port, name, **options).issuer.rfc4514_string()


def issued(port: int, name: str | None, seconds: float = PATIENCE, **options: Any) -> x509.Certificate:
    """The certificate, once it is Pebble's."""
    until(lambda: "Pebble" in issuer_of(port, name, **options), seconds, 0.05)
    return leaf_of(port, name, **options)


def _starttls(sock: socket.socket) -> None:
    file = sock.makefile("rwb")

    def reply() -> bytes:
        while (line := file.readline())[3:4] == b"-":
            pass
        return line

    assert reply().startswith(b"220")
    for command in (b"EHLO c.example.test\r\n", b"STARTTLS\r\n"):
        file.write(command)
        file.flush()
        assert reply().startswith(b"2")
