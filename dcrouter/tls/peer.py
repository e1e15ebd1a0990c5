"""Who the other side of a session that we begin must prove to be, and in plain words why it has not.

OpenSSL checks the chain during the handshake; the name is checked after it, before a word is said, or within it where
the one who speaks would not wait. SNI: RFC 6066 section 3; names: RFC 9525.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from dcrouter.config.names import is_address
from dcrouter.errors import TlsError

_library, _ffi = Binding().lib, Binding().ffi

_EXPIRED: int = _library.X509_V_ERR_CERT_HAS_EXPIRED

SHOWN_NAMES = 3
"""Of a certificate that is somebody else's, in the reason."""


class Peer:
    """The target of one session. `name`: a DNS name or an address; None only where nothing is verified.

    `problem`: what was wrong with the chain, once the handshake has failed for it. `early`: the name is checked in the
    handshake, which fails for it too. `lenient`: a chain that is wrong is a `problem`, and no failure.
    `expired`: that is the problem of one of its certificates.
    """

    __slots__ = ("_early", "_lenient", "_name", "expired", "problem", "verifies")

    def __init__(self, name: str | None, *, verify: bool, early: bool = False, lenient: bool = False) -> None:
        self.problem: str | None = None
        self.expired = False
        self.verifies = verify
        self._name = name
        self._early = early
        self._lenient = lenient

    def expect(self, connection: SSL.Connection) -> None:
        """Before the handshake: ask for the name by SNI, which never carries an address, and listen to the verdict."""
        if self.verifies:
            connection.set_verify(SSL.VERIFY_PEER, self._remember)
        if self._name is not None and not is_address(self._name):
            connection.set_tlsext_host_name(self._name.encode("idna"))

    def check(self, connection: SSL.Connection) -> None:
        """After the handshake: TlsError where its certificate is for somebody else."""
        if not self.verifies:
            return
        self._judge(connection.get_peer_certificate(as_cryptography=True))

    def _judge(self, certificate: x509.Certificate | None) -> None:
        assert self._name is not None
        if certificate is None:
            raise TlsError("certificate verify failed: there is none")
        try:
            if is_address(self._name):
                verify_certificate_ip_address(certificate, self._name)
            else:
                verify_certificate_hostname(certificate, self._name)
        except (VerificationError, CertificateError) as error:
            names = _names(certificate)
            raise TlsError(f"certificate verify failed: hostname mismatch, not for {self._name}{names}") from error

    def _remember(self, connection: SSL.Connection, certificate: X509, number: int, depth: int, good: int) -> bool:
        """OpenSSL's verdict is taken as it is; what it was is kept for the reason."""
        if not good and self.problem is None:
            words = _ffi.string(_library.X509_verify_cert_error_string(number)).decode("ascii", "replace")
            self.problem = f"certificate verify failed: {words}"
            self.expired = number == _EXPIRED
        if good and self._early and depth == 0:
            try:
                self._judge(certificate.to_cryptography())
            except (TlsError, ValueError) as error:
                self.problem = str(error)
                return False
        return bool(good) or self._lenient


@implementer(IOpenSSLClientConnectionCreator)
class ClientSession:
    """Twisted's way to begin TLS with one peer."""

    def __init__(self, context: SSL.Context, peer: Peer) -> None:
        self._context = context
        self._peer = peer

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self._peer.expect(connection)
        return connection


def _names(certificate: x509.Certificate | None) -> str:
    """` but for a.example, b.example`; "" where it names nobody."""
    if certificate is None:
        return ""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ""
    names = [str(name.value)[:80] for name in extension.value]
    if not names:
        return ""
    more = ", ..." if len(names) > SHOWN_NAMES else ""
    return f" but for {', '.join(names[:SHOWN_NAMES])}{more}"
