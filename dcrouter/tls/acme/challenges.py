"""How a name is proved to be ours: what a solver does, and what it has to show.

http-01: RFC 8555 section 8.3; dns-01: 8.4; tls-alpn-01: RFC 8737, for addresses RFC 8738.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dcrouter.tls.acme.jws import b64
from dcrouter.tls.names import general_name

ALPN = "acme-tls/1"
"""What a CA offers, alone, in the handshake of tls-alpn-01."""

_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_LASTS = timedelta(days=7)


class Solver(Protocol):
    """Shows proofs of one kind. `name` is never a wildcard: that of `*.a.example` is shown at `a.example`."""

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        """When it returns, the CA may look. Whatever it raises becomes the reason for the name."""

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        """After every `present`, also one that failed or was cancelled."""


def dns_value(key_authorization: str) -> str:
    """Of the TXT record at `_acme-challenge.<name>`."""
    return b64(sha256(key_authorization.encode("ascii")).digest())


def tls_alpn_certificate(name: str, key_authorization: str) -> tuple[bytes, bytes]:
    """(certificate, key), PEM, to be shown to a client that asks for `name` and offers ALPN only.

    For an address the CA asks by its name in in-addr.arpa or ip6.arpa (RFC 8738 section 6).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    digest = sha256(key_authorization.encode("ascii")).digest()
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LASTS)
        .not_valid_after(now + _LASTS)
        .add_extension(x509.SubjectAlternativeName([general_name(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_IDENTIFIER, b"\x04\x20" + digest), critical=True)
        .sign(key, SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
