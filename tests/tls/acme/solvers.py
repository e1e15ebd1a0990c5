"""Solvers of tests: small responders that show what a real one would, and remember what they were told."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from dcrouter.tls.acme.challenges import ALPN, tls_alpn_certificate
from tests.support.serving import listen


class Remembering:
    """`shown`: what is there now, `(name, token) -> key authorization`; `log`: every call, in order."""

    def __init__(self) -> None:
        self.shown: dict[tuple[str, str], str] = {}
        self.log: list[tuple[str, str]] = []

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        self.log.append(("present", name))
        self.shown[name, token] = key_authorization

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        self.log.append(("cleanup", name))
        self.shown.pop((name, token), None)


class Failing(Remembering):
    """Cannot present."""

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        await super().present(name, token, key_authorization)
        raise RuntimeError("no hands")


class Stuck(Remembering):
    """Never gets done."""

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        await super().present(name, token, key_authorization)
        await Deferred()


class HttpSolver(Remembering):
    """http-01 at `port`."""

    def __init__(self, port: int) -> None:
        super().__init__()
        site = Site(_Tokens(self))
        site.noisy = False
        self.listener = listen(site, port=port)


class AlpnSolver(Remembering):
    """tls-alpn-01 at `port`."""

    def __init__(self, port: int) -> None:
        super().__init__()
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        self.listener = listen(TLSMemoryBIOFactory(_Sessions(self), False, factory), port=port)

    def context(self, name: str) -> SSL.Context | None:
        """What proves `name`."""
        for (shown, _), key_authorization in self.shown.items():
            if shown == name:
                certificate, key = tls_alpn_certificate(name, key_authorization)
                context = SSL.Context(SSL.TLS_SERVER_METHOD)
                context.use_certificate(x509.load_pem_x509_certificate(certificate))
                private = load_pem_private_key(key, None)
                assert isinstance(private, EllipticCurvePrivateKey)
                context.use_privatekey(private)
                context.set_alpn_select_callback(_acme_alone)
                return context
        return None


class _Tokens(Resource):
    isLeaf = True

    def __init__(self, solver: HttpSolver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._solver = solver

    def render_GET(self, request: Any) -> bytes:
        name, token = request.getRequestHostname().decode(), request.path.decode().rpartition("/")[2]
        if request.path.decode() == f"/.well-known/acme-challenge/{token}" and (name, token) in self._solver.shown:
            return self._solver.shown[name, token].encode()
        request.setResponseCode(404)
        return b"no such token"


@implementer(IOpenSSLServerConnectionCreator)
class _Sessions:
    """One context serves the one client that comes for it: the name is read in the servername callback."""

    def __init__(self, solver: AlpnSolver) -> None:
        self._solver = solver

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_alpn_select_callback(_acme_alone)

        def named(connection: SSL.Connection) -> None:
            other = self._solver.context((connection.get_servername() or b"").decode())
            if other is not None:
                connection.set_context(other)

        context.set_tlsext_servername_callback(named)
        return SSL.Connection(context, None)


def _acme_alone(connection: SSL.Connection, offer: list[bytes]) -> Any:
    """What ALPN agrees on."""
    return ALPN.encode() if ALPN.encode() in offer else SSL.NO_OVERLAPPING_PROTOCOLS
