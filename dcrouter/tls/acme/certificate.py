"""The request for a certificate, and whether what came back is what was asked for.

CSR: RFC 2986; chains: RFC 8555 section 9.1; what a certificate is called in ARI: RFC 9773 section 4.1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.jws import b64
from dcrouter.tls.credential import PrivateKey, pem_blocks
from dcrouter.tls.names import general_name

SKEW = 3600.0
"""Seconds by which a new certificate may lie in the future: clocks differ."""
_LONGEST_CHAIN = 10


def signing_request(names: Sequence[str], key: PrivateKey) -> bytes:
    """DER. All names are alternative ones; the subject, which nobody reads any more, is empty."""
    names_extension = x509.SubjectAlternativeName([general_name(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(names_extension, critical=False)
    request = builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
    return request.public_bytes(Encoding.DER)


def checked_chain(pem: bytes, names: Sequence[str], key: PrivateKey) -> bytes:
    """The chain of `pem`, leaf first, written anew; AcmeError where it is not for `key` and `names`, now."""
    try:
        chain = [x509.load_pem_x509_certificate(block) for label, block in pem_blocks(pem) if label == b"CERTIFICATE"]
        if not 0 < len(chain) <= _LONGEST_CHAIN:
            raise AcmeError(f"the CA sent a chain of {len(chain)} certificates")
        _check_leaf(chain[0], names, key)
        for one, issuer in pairwise(chain):
            one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise AcmeError(f"the CA sent a chain that is none: {error or type(error).__name__}") from error
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain)


def certificate_id(leaf: x509.Certificate) -> str | None:
    """As ARI and `replaces` name it; None for one without authority key identifier, which they cannot name."""
    try:
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return None
    if issuer is None:
        return None
    serial = leaf.serial_number
    return f"{b64(issuer)}.{b64(serial.to_bytes(serial.bit_length() // 8 + 1, 'big'))}"


def _check_leaf(leaf: x509.Certificate, names: Sequence[str], key: PrivateKey) -> None:
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise AcmeError("the CA sent a certificate of another key")
    try:
        found = set(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        found = set()
    missing = [name for name in names if general_name(name) not in found]
    if missing:
        raise AcmeError(f"the CA sent a certificate that is not for {', '.join(missing[:5])}")
    now = time.time()
    if leaf.not_valid_after_utc.timestamp() <= now:
        raise AcmeError("the CA sent a certificate that has expired, or the clock here is wrong")
    if leaf.not_valid_before_utc.timestamp() > now + SKEW:
        raise AcmeError("the CA sent a certificate that is not valid yet, or the clock here is wrong")
