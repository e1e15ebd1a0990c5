"""What TLSA records say of the certificates that a server shows: whether it is the one that DNS means.

Only the two usages that stand without the world's authorities count for mail (RFC 7672 3.1.3): DANE-EE means the
server's own certificate or key, whatever its names and dates say; DANE-TA an authority that it must show, beyond which
nobody is asked. RFC 6698, 7671, 7672.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL.crypto import X509, X509Store, X509StoreContext, X509StoreContextError, X509StoreFlags
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname

from dcrouter.errors import TlsError

DANE_TA = 2
DANE_EE = 3
CERTIFICATE, PUBLIC_KEY = 0, 1
WHOLE = 0
_LENGTHS = {1: 32, 2: 64}
"""Octets of a digest, by matching type: SHA-256 and SHA-512."""

MAX_CHAIN = 10
"""Certificates of one server that are looked at."""


class Tlsa(NamedTuple):
    """One record: its `usage`, `selector`, `matching` type and `data`, RFC 6698 2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Whether it can say something of a mail server (RFC 7672 3.1.3; RFC 7671 4)."""
        if self.usage not in (DANE_TA, DANE_EE) or self.selector not in (CERTIFICATE, PUBLIC_KEY):
            return False
        return bool(self.data) if self.matching == WHOLE else len(self.data) == _LENGTHS.get(self.matching, -1)

    def means(self, certificate: x509.Certificate) -> bool:
        """Whether it is about this certificate, or its key."""
        if self.selector == CERTIFICATE:
            octets = certificate.public_bytes(Encoding.DER)
        else:
            octets = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if self.matching == WHOLE:
            return octets == self.data
        return hashlib.new("sha256" if self.matching == 1 else "sha512", octets).digest() == self.data


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that count, in an order of their own, so that equal sets are equal values."""
    return tuple(sorted({record for record in records if record.usable}))


def verify(records: Sequence[Tlsa], chain: Sequence[x509.Certificate], names: Sequence[str]) -> None:
    """TlsError where no record is about the chain that a server has shown, its own certificate first.

    `names`: one of which its certificate must be for, where an authority vouches for it.
    """
    if not chain:
        raise TlsError("DANE: it has shown no certificate")
    leaf = chain[0]
    if any(record.usage == DANE_EE and record.means(leaf) for record in records):
        return
    anchors = [record for record in records if record.usage == DANE_TA]
    if not anchors:
        raise TlsError("DANE: no TLSA record is of its certificate")
    others = chain[1:MAX_CHAIN]
    trusted = [one for one in others if any(record.means(one) for record in anchors)]
    trusted += [_parsed(record) for record in anchors if (record.selector, record.matching) == (CERTIFICATE, WHOLE)]
    if not trusted:
        raise TlsError("DANE: no TLSA record is of a certificate that it has shown")
    _vouched(leaf, others, trusted)
    if not any(_is_for(leaf, name) for name in names):
        raise TlsError(f"DANE: its certificate is not for {' or '.join(dict.fromkeys(names))}")


def _parsed(record: Tlsa) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(record.data)
    except ValueError as error:
        raise TlsError("DANE: a TLSA record holds something that is no certificate") from error


def _vouched(leaf: x509.Certificate, others: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> None:
    store = X509Store()
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)  # an authority that DNS names needs no other above it
    for certificate in trusted:
        store.add_cert(X509.from_cryptography(certificate))
    between = [X509.from_cryptography(certificate) for certificate in others]
    try:
        X509StoreContext(store, X509.from_cryptography(leaf), between).verify_certificate()
    except X509StoreContextError as error:
        raise TlsError(f"DANE: certificate verify failed: {error}") from error


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    try:
        verify_certificate_hostname(certificate, name)
    except (VerificationError, CertificateError, ValueError):
        return False
    return True
