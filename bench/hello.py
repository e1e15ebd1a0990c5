"""The ClientHello of a TLS client of today, as bytes: about 1.6 KB with X25519MLKEM768, from dcrouter's own OpenSSL.

A passthrough proxy sees nothing but this and opaque bytes, so it can be loaded to its limit by a client and a backend
that do not spend a millisecond per connection on a handshake which the proxy has no part in.
"""

from __future__ import annotations

from OpenSSL import SSL

SNI = "localhost"


def client_hello(name: str = SNI) -> bytes:
    """One ClientHello record that asks for `name`."""
    session = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    session.set_tlsext_host_name(name.encode())
    session.set_connect_state()
    try:
        session.do_handshake()
    except SSL.WantReadError:
        return session.bio_read(65536)
    raise AssertionError("a handshake ended without a server")
