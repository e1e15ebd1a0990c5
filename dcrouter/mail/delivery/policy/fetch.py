"""Small things by HTTPS from servers that must prove who they are: policies of MTA-STS, and who wants reports.

Names are found by our resolver; redirects are not followed (RFC 8461 3.3); an answer has a size and a time. Its
failures are TlsError, where the server is not whom it should be, and Unreachable.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as Late
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from dcrouter.config.targets import UpstreamTls
from dcrouter.errors import DcrouterError, TlsError, Unreachable
from dcrouter.net.fetch import body_of
from dcrouter.net.resolver import Resolver
from dcrouter.tls.peer import ClientSession, Peer
from dcrouter.tls.profile import client_context

HTTPS_PORT = 443
CONNECT = 15.0
"""Seconds for one address."""
MAX_ADDRESSES = 4


class Https:
    """`port`: instead of 443, where an URL has none."""

    def __init__(self, reactor: Any, resolver: Resolver, *, port: int = HTTPS_PORT) -> None:
        self._reactor = reactor
        self._places = _Places(reactor, resolver, port)
        self._agent = Agent.usingEndpointFactory(reactor, self._places)

    def get(self, url: str, *, within: float, most: int, media_type: str) -> Deferred[bytes]:
        """The body of an answer of that type; within so many seconds, with at most so many octets."""
        return self._asked(b"GET", url, within, most, media_type=media_type)

    def post(self, url: str, body: bytes, media_type: str, *, within: float) -> Deferred[bytes]:
        """Gives `body` to whoever is there; it was taken."""
        return self._asked(b"POST", url, within, 0, body=body, body_type=media_type)

    def _asked(self, method: bytes, url: str, within: float, most: int, **more: Any) -> Deferred[bytes]:
        asked = Deferred.fromCoroutine(self._exchange(method, url, most, **more))
        return asked.addTimeout(within, self._reactor).addErrback(_late, within)

    async def _exchange(
        self,
        method: bytes,
        url: str,
        most: int,
        *,
        media_type: str = "",
        body: bytes | None = None,
        body_type: str = "",
    ) -> bytes:
        headers = Headers({"user-agent": ["dcrouter"]})
        if body is not None:
            headers.setRawHeaders("content-type", [body_type])
        uri = URI.fromBytes(url.encode("ascii"))
        try:
            producer = FileBodyProducer(BytesIO(body)) if body is not None else None
            response = await self._agent.request(method, url.encode("ascii"), headers, producer)
        except (CancelledError, DcrouterError):
            raise
        except Exception as error:
            raise self._places.meaning(uri.host.decode("ascii"), error) from error
        problem = _problem(response, media_type)
        received = body_of(response, 0 if problem else most)
        if problem:
            raise Unreachable(problem)
        return await received


@implementer(IAgentEndpointFactory)
class _Places:
    def __init__(self, reactor: Any, resolver: Resolver, port: int) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._port = port
        self._context: SSL.Context | None = None
        self._problems: dict[str, Peer] = {}

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        if uri.scheme != b"https":
            raise Unreachable("it is no https URL")
        if self._context is None:
            self._context = client_context(UpstreamTls(verify=True), None)
        host = uri.host.decode("ascii")
        peer = self._problems[host] = Peer(host, verify=True, early=True)
        port = self._port if uri.port == HTTPS_PORT else uri.port
        return _Place(self._reactor, self._resolver, host, port, ClientSession(self._context, peer))

    def meaning(self, host: str, error: Exception) -> DcrouterError:
        """Twisted wraps what went wrong in errors of its own."""
        peer = self._problems.pop(host, None)
        for cause in (error, *(reason.value for reason in getattr(error, "reasons", ()) or ())):
            if isinstance(cause, DcrouterError):
                return cause
            if isinstance(cause, SSL.Error):
                return TlsError((peer.problem if peer is not None else None) or "the TLS handshake has failed")
        return Unreachable(str(error) or type(error).__name__)


@implementer(IStreamClientEndpoint)
class _Place:
    """One host, by TLS."""

    def __init__(self, reactor: Any, resolver: Resolver, host: str, port: int, session: ClientSession) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._host = host
        self._port = port
        self._session = session

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        reasons: list[str] = []
        for address in (await self._resolver.addresses(f"{self._host}."))[:MAX_ADDRESSES]:
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            endpoint = kind(self._reactor, address, self._port, timeout=CONNECT)
            try:
                return await wrapClientTLS(self._session, endpoint).connect(factory)
            except (ConnectError, OSError) as error:
                reasons.append(f"{address}: {error}".rstrip("."))
        raise Unreachable(", ".join(reasons))


def _problem(response: IResponse, media_type: str) -> str:
    """Why an answer is none, "" where it is one. `media_type`: of its body, "" for any."""
    if not 200 <= response.code < 300:
        return f"it was answered with {response.code}"
    given = (response.headers.getRawHeaders(b"content-type") or [b""])[0].partition(b";")[0].strip().lower()
    if media_type and given != media_type.encode("ascii"):
        return f"the answer is of type {given.decode('latin-1') or 'unknown'}, not {media_type}"
    return ""


def _late(failure: Failure, within: float) -> bytes:
    failure.trap(Late)
    raise Unreachable(f"no answer within {within:g} s")
