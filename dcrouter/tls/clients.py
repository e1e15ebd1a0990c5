"""What a client must prove to be let in: `tls.client_auth`, as the contexts of a route carry it out.

A certificate that is shown must lead to one of the authorities, be made for clients (extended key usage, where it names
any) and be in date; in mode `request` none need be shown. With a revocation list, there must be a current one of every
authority that has signed something on the way from the client's certificate to the one that is believed: one that is
missing or has run out lets nobody in, because nobody could tell who was revoked.

RFC 5280 sections 5 and 6; RFC 8446 section 4.3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from dcrouter.config.tls import ClientAuth
from dcrouter.errors import TlsError
from dcrouter.tls.credential import pem_blocks
from dcrouter.tls.trust import certificates_of

NO_LIST = 3
"""X509_V_ERR_UNABLE_TO_GET_CRL, from openssl/x509_vfy.h."""
MOST_NAMED = 64
"""Authorities that a client is told of, so that it can choose among its certificates: more would not fit its hello's
answer, and none means any."""

LONGEST_SUBJECT = 1024
"""Characters of a subject that are kept; whoever signs longer ones has other plans."""

_library, _ffi = Binding().lib, Binding().ffi


@frozen(kw_only=True, eq=False)
class ClientCheck:
    """`ca`, `crl`: PEM. `id`: the same for the same check."""

    ca: bytes
    crl: bytes | None
    required: bool
    id: str

    @classmethod
    def of(cls, auth: ClientAuth, files: Mapping[str, bytes]) -> ClientCheck:
        """`files`: path -> contents of every file that it names. TlsError where one is not what it should be."""
        ca = files[str(auth.ca)]
        crl = None if auth.crl is None else files[str(auth.crl)]
        certificates_of(ca)
        if crl is not None:
            revocations_of(crl)
        digest = sha256(repr((auth.mode, sha256(ca).digest(), crl and sha256(crl).digest())).encode())
        return cls(ca=ca, crl=crl, required=auth.mode == "require", id=digest.hexdigest())

    def apply(self, context: SSL.Context) -> None:
        """Make `context`, which has served nobody yet, ask for it. TlsError where a file is not what it should be."""
        authorities = certificates_of(self.ca)
        store = context.get_cert_store()
        assert store is not None
        for certificate in authorities:
            store.add_cert(certificate)
        # An operator may believe one intermediate authority, and not all that its root has signed.
        flags = X509StoreFlags.PARTIAL_CHAIN
        if self.crl is not None:
            for revocations in revocations_of(self.crl):
                store.add_crl(revocations)
            flags |= X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL
        store.set_flags(flags)
        if len(authorities) <= MOST_NAMED:
            for certificate in authorities:
                context.add_client_ca(certificate.to_cryptography())
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if self.required else 0)
        context.set_verify(mode, _verdict({certificate.digest("sha256") for certificate in authorities}))


def _verdict(believed: set[bytes]) -> Callable[[SSL.Connection, X509, int, int, int], bool]:
    """OpenSSL's, but for one thing: it wants a list of who has signed an authority, be that believed itself or not."""

    def verdict(connection: SSL.Connection, certificate: X509, problem: int, depth: int, good: int) -> bool:
        return bool(good) or (problem == NO_LIST and certificate.digest("sha256") in believed)

    return verdict


def revocations_of(pem: bytes) -> list[x509.CertificateRevocationList]:
    """The lists of a CRL file. TlsError where there are none, or one cannot be parsed."""
    try:
        found = [x509.load_pem_x509_crl(block) for label, block in pem_blocks(pem) if label == b"X509 CRL"]
    except ValueError as error:
        raise TlsError("the CRL file holds a list that cannot be parsed") from error
    if not found:
        raise TlsError("the CRL file holds no PEM revocation list (-----BEGIN X509 CRL-----)")
    return found


def subject(connection: SSL.Connection) -> str | None:
    """Who the client has proved to be (RFC 4514); None where it has shown nothing."""
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return None
    try:
        return certificate.subject.rfc4514_string()[:LONGEST_SUBJECT]
    except ValueError:
        return "?"


def rejected(connection: Any) -> str | None:
    """Why the peer's certificate was not taken, in OpenSSL's words; None where that is not why."""
    number = _library.SSL_get_verify_result(connection._ssl)
    if number == 0:
        return None
    words: bytes = _ffi.string(_library.X509_verify_cert_error_string(number))
    return words.decode("ascii", "replace")
