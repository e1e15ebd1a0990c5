"""What a login can be bound to of the TLS connection that it happens in, so that nobody in between can pass it on.

TLS 1.3: `tls-exporter` (RFC 9266). TLS 1.2: `tls-unique` (RFC 5929 3), where both sides derived the extended master
secret (RFC 7627). Both: `tls-server-end-point` (RFC 5929 4), where the certificate has a hash to speak of.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from dcrouter.net.openssl import names_its_secret, resumed

_WEAK = (hashes.MD5, hashes.SHA1)


def channel_bindings(transport: Any) -> dict[str, bytes]:
    """type -> data, of a Twisted transport whose handshake is over; empty where there is no TLS."""
    handle = getattr(getattr(transport, "protocol", None), "getHandle", None)
    if handle is None:
        return {}
    connection = handle()
    found: dict[str, bytes] = {}
    if connection.get_protocol_version() >= SSL.TLS1_3_VERSION:
        found["tls-exporter"] = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    elif names_its_secret(connection):
        # The first Finished of the handshake: the client's, but the server's where a session was resumed.
        unique = connection.get_finished() if resumed(connection) else connection.get_peer_finished()
        if unique:
            found["tls-unique"] = unique
    certificate = connection.get_certificate(as_cryptography=True)
    if certificate is not None:
        try:
            algorithm = certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:
            algorithm = None
        if algorithm is not None:  # Ed25519 has none, and RFC 5929 4.1 no answer
            digest = hashes.Hash(hashes.SHA256() if isinstance(algorithm, _WEAK) else algorithm)
            digest.update(certificate.public_bytes(Encoding.DER))
            found["tls-server-end-point"] = digest.finalize()
    return found
