"""TLS on a mail connection, the same way for STARTTLS and for port 465.

The ClientHello is collected before TLS starts, because it says which certificate is wanted and a pyOpenSSL Context
cannot be exchanged safely later; then TLS is put on the transport and fed with what was collected. RFC 3207, 8314.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLServerConnectionCreator
from zope.interface import alsoProvides, implementer

from dcrouter.net.openssl import had_last_word
from dcrouter.tls.chooser import Chooser
from dcrouter.wire.clienthello import ClientHello, needed, parse

NO_TLS = b"454 4.7.0 TLS is not available now\r\n"
TLS_READY = b"220 2.0.0 Ready to start TLS\r\n"
ACCESS_DENIED = b"\x15\x03\x03\x00\x02\x02\x31"
"""The alert (RFC 8446 6) that a client of port 465 is told that is banned."""


@implementer(IOpenSSLServerConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Handshake:
    """The first bytes of a client that is about to speak TLS.

    `ended`, where given, is called when the client ends its side without a goodbye of TLS, and can still be told
    something; else the connection is over then.
    """

    def __init__(self, chooser: Chooser, ended: Callable[[], None] | None = None) -> None:
        self._chooser = chooser
        self._ended = ended
        self._collected = bytearray()
        self._needed = 0  # octets before another look makes sense: a dribbled hello must not be parsed for each of them

    def receive(self, data: bytes, transport: Any) -> ClientHello | None:
        """Starts TLS on `transport` once the hello is whole, and gives it. Raises WireError (reply: an alert),
        TlsError.
        """
        self._collected += data
        if len(self._collected) < self._needed:
            return None
        collected = bytes(self._collected)
        hello = parse(collected)
        if hello is None:
            self._needed = needed(collected)
            return None
        context = self._chooser.mail_context(hello.sni)
        transport.startTLS(_Creator(context))
        if self._ended is not None:  # Twisted asks the protocol for its half-close, and its TLS has none
            transport.protocol.readConnectionLost = self._ended
            alsoProvides(transport.protocol, IHalfCloseableProtocol)
        transport.protocol.dataReceived(collected)
        return hello


def negotiated(transport: Any) -> tuple[str, str]:
    """What the handshake of a transport has come to: its version, such as `TLSv1.3`, and all of it as Received tells
    it: `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 key-exchange X25519MLKEM768` (the group where OpenSSL names it).
    """
    connection = transport.protocol.getHandle()
    version = connection.get_protocol_version_name()
    group = None
    with suppress(AttributeError, NotImplementedError):  # an older pyOpenSSL, an older OpenSSL
        group = connection.get_group_name()
    return version, f"{version} with cipher {connection.get_cipher_name()}" + (
        f" key-exchange {group}" if group else ""
    )


def acknowledge(transport: Any) -> None:
    """Tell a client that had the last word of the handshake at once that it has arrived: Nagle's algorithm may hold its
    EHLO back until then, and there is nothing to send that would carry it (TCP_QUICKACK, tcp(7)).
    """
    if had_last_word(transport.protocol.getHandle()):
        with suppress(OSError):
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
