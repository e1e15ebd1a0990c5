"""What a certificate authority asks for to be convinced that a name is ours: answered before any route is looked for.

1. Only while the parent has an order under way, and only what that order gave out. Everything else goes on as routed,
   all its bytes still in the socket.
2. http-01 (RFC 8555 section 8.3): on the port that authorities ask, whatever that port's routes speak, the first
   request is looked at; one for a token of ours is answered, and that is the end of the connection.
3. tls-alpn-01 (RFC 8737): a ClientHello that offers nothing but `acme-tls/1`, for a name that we order, gets the
   certificate of the challenge. One whose route passes TLS through is the target's, who may order certificates too.
4. A port that the parent has opened for http-01 alone has no routes: it answers 404 to all else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from dcrouter.config.tls import TlsProfile
from dcrouter.errors import TimedOut
from dcrouter.net.stream import Tls
from dcrouter.proxy import peek
from dcrouter.proxy.table import MORE
from dcrouter.tls.acme.challenges import ALPN
from dcrouter.tls.credential import PrivateKey, make
from dcrouter.tls.profile import server_context
from dcrouter.wire.http1.answer import response

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

HTTP_PORT = 80
"""Where authorities ask for http-01."""
PATH = b"/.well-known/acme-challenge/"
LONGEST_HEAD = 4096
"""Octets of a request that are waited for; authorities send about 300."""
_BEGIN = b"GET " + PATH
_NOT_FOUND = response(404, b"404 Not Found\n")


class Challenges:
    """What is shown now. `http_port`: where http-01 is asked for. `shown`: whether there is anything to show."""

    __slots__ = ("_contexts", "_names", "_tokens", "http_port", "shown")

    def __init__(self) -> None:
        self.http_port = HTTP_PORT
        self.shown = False
        self._tokens: dict[bytes, bytes] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._contexts: dict[str, SSL.Context] = {}

    def update(self, fields: Mapping[str, Any]) -> None:
        """Show this and nothing else. `http`: token -> key authorization; `tls`: name -> (certificate, key), PEM."""
        self.http_port = fields["port"]
        self._tokens = {token.encode(): answer.encode() for token, answer in fields["http"].items()}
        self.shown = bool(fields["http"] or fields["tls"])
        before, self._names = self._names, {name: (cert, key) for name, (cert, key) in fields["tls"].items()}
        self._contexts = {
            name: context for name, context in self._contexts.items() if before.get(name) == self._names.get(name)
        }

    def answer(self, token: bytes) -> bytes | None:
        """To http-01; None: it is not ours."""
        return self._tokens.get(token)

    def context(self, name: str | None) -> SSL.Context | None:
        """Of tls-alpn-01; None: the name is not ordered now."""
        if name not in self._names or name is None:
            return None
        if name not in self._contexts:
            certificate, key = (text.encode() for text in self._names[name])
            private = load_pem_private_key(key, None)
            assert isinstance(private, PrivateKey)
            credential = make([x509.load_pem_x509_certificate(certificate)], private, source="acme")
            self._contexts[name] = server_context((credential,), TlsProfile(), (ALPN,))
        return self._contexts[name]

    @property
    def asks_http(self) -> bool:
        return bool(self._tokens)

    @property
    def asks_tls(self) -> bool:
        return bool(self._names)


async def answered(session: Session) -> bool:
    """Whether the connection was an authority's, and is over; else nothing has happened to it."""
    challenges, listener = session.edge.challenges, session.listener
    if listener.responds:
        await _respond(session)
        return True
    if challenges.asks_http and listener.port == challenges.http_port and await _by_http(session):
        return True
    return challenges.asks_tls and listener.table.expects_tls and await _by_tls(session)


async def _by_http(session: Session) -> bool:
    session.enter("hello", session.edge.hello_timeout)
    try:
        head = await peek.request_head(session.plain, _BEGIN, LONGEST_HEAD)
    except TimedOut:
        return False  # whoever waits for us to speak first is no authority
    answer = _answer(session.edge.challenges, head)
    if answer is None:
        return False
    _say(session, answer)
    return True


async def _respond(session: Session) -> None:
    """On a port without routes."""
    session.enter("hello", session.edge.hello_timeout)
    head = await peek.request_head(session.plain, b"", LONGEST_HEAD)
    _say(session, _answer(session.edge.challenges, head) or _NOT_FOUND)


def _answer(challenges: Challenges, head: bytes) -> bytes | None:
    """The response to a request for one of our tokens."""
    if not head.startswith(_BEGIN):
        return None
    found = challenges.answer(head.removeprefix(_BEGIN).partition(b" ")[0])
    return None if found is None else response(200, found, {"Content-Type": "application/octet-stream"})


def _say(session: Session, reply: bytes) -> None:
    peek.discard(session.plain)
    session.bytes_out += session.plain.send(reply)
    session.plain.finish()
    session.end("router", "closed")


async def _by_tls(session: Session) -> bool:
    facts, table = session.facts, session.listener.table
    if table.find(facts) is not MORE:
        return False
    session.enter("hello", session.edge.hello_timeout)
    hello = await peek.first_bytes(session)
    context = session.edge.challenges.context(hello.sni) if hello is not None and hello.alpn == (ALPN,) else None
    if hello is None or context is None:
        return False
    facts.sni, facts.hello = hello.sni, hello
    route = table.find_tls(facts)
    if route is not None and not route.terminates:
        return False
    session.enter("tls", session.edge.hello_timeout, "hello")
    stream = Tls(session.plain, context, serves=True)
    await stream.handshake()
    facts.alpn, facts.tls_version = ALPN, stream.connection.get_protocol_version_name()
    stream.finish()
    session.end("router", "closed")
    return True
