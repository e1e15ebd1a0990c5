"""HTTPS to a CA, by treq: whom we believe, how long we wait, how much we read.

1. At most AT_ONCE requests run together, over connections that are kept; a request has `patience.answer` for all of it.
2. Gone is told apart: a kept connection may have been closed meanwhile, and then asking once more helps.
3. The CA's certificate is checked for its host, which may be an address, within the handshake.

RFC 8555 section 6.1.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from hyperlink import URL
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
)
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from dcrouter import __version__
from dcrouter.config.targets import UpstreamTls
from dcrouter.config.urls import told_url
from dcrouter.errors import AcmeUnreachable, TlsError, Unreachable
from dcrouter.net.fetch import body_of
from dcrouter.net.stream import failure
from dcrouter.net.waits import cancellable, within
from dcrouter.tls.acme.answers import Answer, absolute, seconds_of
from dcrouter.tls.acme.problems import plain
from dcrouter.tls.acme.waiting import Patience
from dcrouter.tls.peer import ClientSession, Peer
from dcrouter.tls.profile import client_context
from dcrouter.tls.trust import certificates_of

AT_ONCE = 8
"""Requests to one directory that run together, over as many connections."""
LARGEST = 1024 * 1024
"""Octets of an answer."""


class Transport:
    """`trust`: PEM, instead of the system's; TlsError where it holds no certificate."""

    def __init__(self, reactor: Any, trust: bytes | None, patience: Patience) -> None:
        self._reactor = reactor
        self._patience = patience
        self._trust = _Trust(trust)
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = AT_ONCE
        self._gate = DeferredSemaphore(AT_ONCE)
        self._client = HTTPClient(Agent(reactor, self._trust, connectTimeout=patience.connect, pool=self._pool))

    async def request(self, method: str, url: str, body: bytes | None = None) -> Answer:
        """Whatever is answered; AcmeUnreachable where nothing is, and Gone. `body`: a JWS."""
        if not url.startswith("https://"):
            raise AcmeUnreachable(f"{plain(url)!r} is no https URL, and ACME is spoken over nothing else")
        await self._gate.acquire()
        try:
            return await within(self._reactor, self._patience.answer, self._exchange(method, url, body))
        except TimeoutError as error:
            raise AcmeUnreachable(f"{told_url(url)}: no answer within {self._patience.answer:g} s") from error
        finally:
            self._gate.release()

    def close(self) -> Deferred[None]:
        """Of connections that nobody uses, and of the others after their requests; fires when the first are closed."""
        self._pool.persistent = False
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    async def _exchange(self, method: str, url: str, body: bytes | None) -> Answer:
        headers = Headers({"User-Agent": [f"dcrouter/{__version__}"], "Accept-Language": ["en"]})
        if body is not None:
            headers.setRawHeaders("Content-Type", ["application/jose+json"])
        try:
            asked = self._client.request(
                method,
                _Url.from_text(url),
                data=body,
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            response = await cancellable(asked)
        except CancelledError:
            raise
        except Exception as error:
            raise self._meaning(url, error) from error
        try:
            data = b"" if method == "HEAD" else await body_of(response, LARGEST)
        except Unreachable as error:
            raise AcmeUnreachable(f"{told_url(url)}: {error}") from None

        def header(name: str) -> str | None:
            values = response.headers.getRawHeaders(name.encode())
            return values[0].decode("latin-1") if values else None

        location = header("location")
        return Answer(
            url=url,
            status=response.code,
            body=data,
            location=None if location is None else absolute(url, location),
            retry_after=seconds_of(header("retry-after"), time.time()),
            nonce=header("replay-nonce"),
        )

    def _meaning(self, url: str, error: Exception) -> Exception:
        """Twisted wraps what went wrong in errors of its own."""
        where = told_url(url)
        if isinstance(error, TlsError):
            return AcmeUnreachable(f"{where}: {error}")
        for cause in (error, *(reason.value for reason in getattr(error, "reasons", ()) or ())):
            if isinstance(cause, SSL.Error):
                problem = self._trust.problem(urlsplit(url).hostname or "")
                return AcmeUnreachable(f"{where}: {problem or f'TLS failed: {failure(cause)}'}")
            if isinstance(cause, DNSLookupError):
                return AcmeUnreachable(f"{where}: its host has no address")
            if isinstance(cause, ConnectError):
                return AcmeUnreachable(f"{where}: no connection: {cause}".rstrip("."))
            if isinstance(cause, ConnectionDone | ConnectionLost):
                return Gone(f"{where}: the connection ended before the answer")
        return AcmeUnreachable(f"{where}: no answer: {plain(str(error))}")


class _Url(URL):
    """hyperlink sends addresses of IPv6 through IDNA, which refuses them."""

    def to_uri(self) -> URL:
        return self if ":" in self.host else super().to_uri()


class Gone(AcmeUnreachable):
    """The connection ended before the answer."""


@implementer(IPolicyForHTTPS)
class _Trust:
    def __init__(self, pem: bytes | None) -> None:
        if pem is not None:
            certificates_of(pem)
        self._pem = pem
        self._context: SSL.Context | None = None
        self._peers: dict[str, Peer] = {}

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        if self._context is None:
            self._context = client_context(UpstreamTls(verify=True), self._pem)
        name = hostname.decode("ascii")
        peer = self._peers[name] = Peer(name, verify=True, early=True)
        return ClientSession(self._context, peer)

    def problem(self, host: str) -> str | None:
        """What was wrong with the certificate of `host`, last."""
        peer = self._peers.get(host)
        return None if peer is None else peer.problem
