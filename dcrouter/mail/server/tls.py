"""TLS on a mail connection, the same way for STARTTLS and for port 465.

The ClientHello is collected before TLS starts, because it says which certificate is wanted and a pyOpenSSL Context
cannot be exchanged safely later; then TLS is put on the transport and fed with what was collected. RFC 3207, 8314.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from dcrouter.tls.chooser import Chooser
from dcrouter.wire.clienthello import ClientHello, parse


@implementer(IOpenSSLServerConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Handshake:
    """The first bytes of a client that is about to speak TLS."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._collected = b""

    def receive(self, data: bytes, transport: Any) -> ClientHello | None:
        """Starts TLS on `transport` once the hello is whole, and gives it. Raises WireError (reply: an alert),
        TlsError.
        """
        self._collected += data
        hello = parse(self._collected)
        if hello is not None:
            context = self._chooser.mail_context(hello.sni)
            transport.startTLS(_Creator(context))
            transport.protocol.dataReceived(self._collected)
        return hello


def negotiated(transport: Any) -> tuple[str, str]:
    """(version, cipher) of a transport whose handshake is complete, as in `TLSv1.3` and `TLS_AES_256_GCM_SHA384`."""
    connection = transport.protocol.getHandle()
    return connection.get_protocol_version_name(), connection.get_cipher_name() or ""
