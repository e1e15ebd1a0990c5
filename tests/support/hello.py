"""ClientHellos as a real client makes them."""

from __future__ import annotations

import contextlib
import ssl


def client_hello(name: str) -> bytes:
    """Today's default hello of OpenSSL for `name`: one record."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
