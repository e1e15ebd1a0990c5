"""HTTPS hosts on loopback, and a test that trusts the authority behind them as the system's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site
from zope.interface import implementer

from dcrouter.config.tls import TlsProfile
from dcrouter.tls.credential import Credential
from dcrouter.tls.profile import server_context
from dcrouter.tls.trust import system_trust
from tests.support.certificates import Authority
from tests.support.serving import listen


def trust(case: TestCase, authority: Authority) -> None:
    """Until the end of the test it is the only one."""
    path = case.mktemp()
    with open(path, "wb") as file:
        file.write(authority.root_pem)
    case.patch(os, "environ", {**os.environ, "SSL_CERT_FILE": path})
    system_trust.cache_clear()
    case.addCleanup(system_trust.cache_clear)


class HttpsHost:
    """`site`: a twisted.web resource that answers, with a certificate for `names`."""

    def __init__(self, case: TestCase, authority: Authority, names: Sequence[str], site: Any) -> None:
        self.authority = authority
        self.site = site
        factory = Site(site)
        factory.noisy = False
        secured = TLSMemoryBIOFactory(ServerTls(authority.credential(names)), False, factory)
        port = listen(secured)
        self.port: int = port.getHost().port
        case.addCleanup(port.stopListening)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """Twisted's way to begin TLS as a server."""

    def __init__(self, credential: Credential) -> None:
        self._context = server_context([credential], TlsProfile())

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)
