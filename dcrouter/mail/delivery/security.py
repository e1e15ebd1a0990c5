"""TLS towards next hops: with anybody who offers it, or only with whom a certificate proves to be the right one.

A Context is made when first needed and kept: one for all that is opportunistic, one for each file of authorities.
RFC 3207, 8314.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from dcrouter.config.targets import UpstreamTls
from dcrouter.errors import TlsError
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.tls.peer import Peer
from dcrouter.tls.profile import client_context


class Contexts:
    """`ca_files`: path -> PEM, of every `ca` of a rule."""

    def __init__(self, ca_files: Mapping[str, bytes]) -> None:
        self._ca_files = ca_files
        self._verifying: dict[str | None, SSL.Context] = {}
        self._any: SSL.Context | None = None

    def reload(self, ca_files: Mapping[str, bytes]) -> None:
        """From now on these; what is connected stays so."""
        for path in [path for path in self._verifying if path is not None]:
            if ca_files.get(path) != self._ca_files.get(path):
                del self._verifying[path]
        self._ca_files = ca_files

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
        self._context = context
        self._peer = Peer(name, verify=verify)

    @property
    def problem(self) -> str | None:
        """What was wrong with the next hop's certificates, once the handshake has failed for it."""
        return self._peer.problem

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self._peer.expect(connection)
        return connection

    def check(self, transport: Any) -> str:
        """After the handshake: `TLSv1.3 TLS_AES_256_GCM_SHA384`. TlsError where the peer is somebody else."""
        connection = transport.protocol.getHandle()
        self._peer.check(connection)
        return f"{connection.get_protocol_version_name()} {connection.get_cipher_name() or ''}".rstrip()
