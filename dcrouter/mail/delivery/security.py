"""TLS towards next hops: with anybody who offers it, or only with whom authorities, or DNS, prove to be the right one.

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
from dcrouter.mail.delivery.nexthop import Dane, NextHop
from dcrouter.tls import dane
from dcrouter.tls.peer import Peer
from dcrouter.tls.profile import client_context
from dcrouter.wire.tlsrpt import FailureType


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
        if hop.dane is not None or (hop.tls != "required" and not hop.tested):
            if self._any is None:
                self._any = client_context(UpstreamTls(verify=False), None)
            return Session(self._any, hop.host, verify=False, records=hop.dane)
        if hop.host is None:
            raise TlsError("a unix socket has no name that a certificate could be for")
        return self.verified(hop.host, hop.ca, lenient=hop.tested)

    def verified(self, host: str, ca: str | None = None, *, lenient: bool = False) -> Session:
        """For one connection with a peer that proves to be `host`, to the authorities of the file `ca`, or the
        system's. `lenient`: as of Session.
        """
        context = self._verifying.get(ca)
        if context is None:
            context = client_context(UpstreamTls(verify=True), self._ca_files[ca] if ca is not None else None)
            self._verifying[ca] = context
        return Session(context, host, verify=True, lenient=lenient)


@implementer(IOpenSSLClientConnectionCreator)
class Session:
    """TLS on one connection: given to its transport, asked when the handshake is over. `records`: what its certificate
    is held against instead of the authorities. `lenient`: what is wrong with it is only remembered.
    """

    def __init__(
        self,
        context: SSL.Context,
        name: str | None,
        *,
        verify: bool,
        records: Dane | None = None,
        lenient: bool = False,
    ) -> None:
        self._context = context
        self._dane = records
        self._lenient = lenient
        self._peer = Peer(name, verify=verify, lenient=lenient)
        self._problem: str | None = None
        self._mismatch = False

    @property
    def problem(self) -> str | None:
        """What was wrong with the next hop's certificates, once the handshake has failed for it, or has not."""
        return self._problem or self._peer.problem

    @property
    def failure(self) -> FailureType | None:
        """The same as a report has it (RFC 8460 4.3), None where there is no problem."""
        if self.problem is None:
            return None
        if self._peer.problem is not None:
            return "certificate-expired" if self._peer.expired else "certificate-not-trusted"
        return "certificate-host-mismatch" if self._mismatch else "validation-failure"

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self._peer.expect(connection)
        return connection

    def check(self, transport: Any) -> str:
        """After the handshake: `TLSv1.3 TLS_AES_256_GCM_SHA384`. TlsError where the peer is somebody else."""
        connection = transport.protocol.getHandle()
        self.prove(connection)
        return f"{connection.get_protocol_version_name()} {connection.get_cipher_name() or ''}".rstrip()

    def prove(self, connection: SSL.Connection) -> None:
        """After the handshake: TlsError where the peer is somebody else."""
        try:
            self._peer.check(connection)
            if self._dane is not None and self._dane.records:
                chain = connection.get_peer_cert_chain(as_cryptography=True) or ()
                dane.verify(self._dane.records, chain, self._dane.names)
        except TlsError as error:
            self._problem = str(error)
            self._mismatch = self._peer.verifies and self._peer.problem is None
            if not self._lenient:
                raise
