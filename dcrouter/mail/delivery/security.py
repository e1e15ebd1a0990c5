"""TLS towards next hops: with anybody who offers it, or only with whom a certificate proves to be the right one.

A Context is made when first needed and kept: one for all that is opportunistic, one for each file of authorities.
OpenSSL checks the chain; the name is checked after the handshake, before a word is said. RFC 3207, 8314, 9525.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from dcrouter.config.routes import UpstreamTls
from dcrouter.errors import TlsError
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.tls.profile import client_context, name_peer, verify_peer

_library, _ffi = Binding().lib, Binding().ffi

SHOWN_NAMES = 3
"""Of a certificate that is somebody else's, in the reason."""


class Contexts:
    """`ca_files`: path -> PEM, of every `ca` of a rule."""

    def __init__(self, ca_files: Mapping[str, bytes]) -> None:
        self._ca_files = ca_files
        self._verifying: dict[str | None, SSL.Context] = {}
        self._any: SSL.Context | None = None

    def session(self, hop: NextHop) -> Session:
        """For one connection. Raises TlsError where there is nothing to verify against."""
        if hop.tls != "required":
            if self._any is None:
                self._any = client_context(UpstreamTls(verify=False), None)
            return Session(self._any, hop.host, verify=False)
        if hop.host is None:
            raise TlsError("a unix socket has no name that a certificate could be for")
        context = self._verifying.get(hop.ca)
        if context is None:
            pem = self._ca_files[hop.ca] if hop.ca is not None else None
            context = client_context(UpstreamTls(verify=True), pem)
            self._verifying[hop.ca] = context
        return Session(context, hop.host, verify=True)


@implementer(IOpenSSLClientConnectionCreator)
class Session:
    """TLS on one connection: given to its transport, asked when the handshake is over."""

    def __init__(self, context: SSL.Context, name: str | None, *, verify: bool) -> None:
        self.problem: str | None = None
        self._context = context
        self._name = name
        self._verify = verify

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._verify:
            connection.set_verify(SSL.VERIFY_PEER, self._remember)
        if self._name is not None:
            name_peer(connection, self._name)
        return connection

    def _remember(self, connection: SSL.Connection, certificate: Any, number: int, depth: int, good: int) -> bool:
        """OpenSSL's verdict is taken as it is; what it was is kept for the reason."""
        if not good and self.problem is None:
            words = _ffi.string(_library.X509_verify_cert_error_string(number)).decode("ascii", "replace")
            self.problem = f"certificate verify failed: {words}"
        return bool(good)

    def check(self, transport: Any) -> str:
        """After the handshake: `TLSv1.3 TLS_AES_256_GCM_SHA384`. TlsError where the peer is somebody else."""
        connection = transport.protocol.getHandle()
        if self._verify:
            assert self._name is not None
            try:
                verify_peer(connection, self._name)
            except TlsError as error:
                certificate = connection.get_peer_certificate(as_cryptography=True)
                reason = f"certificate verify failed: hostname mismatch, not for {self._name}{_names(certificate)}"
                raise TlsError(reason) from error
        return f"{connection.get_protocol_version_name()} {connection.get_cipher_name() or ''}".rstrip()


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
