"""TLS towards a target, on a connection that is there already (terminate-and-reencrypt, and checks by TLS)."""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL

from dcrouter.config.targets import UpstreamTls
from dcrouter.errors import TlsError
from dcrouter.net.stream import Plain, Tls
from dcrouter.tls.credential import Credential
from dcrouter.tls.peer import Peer
from dcrouter.tls.profile import client_context


class TargetTls:
    """How targets of a route are spoken to by TLS. Contexts are made when first needed, and anew when what they were
    made of has changed.
    """

    def __init__(
        self, upstream: UpstreamTls, ca: bytes | None = None, shown: Callable[[], Credential] | None = None
    ) -> None:
        """`ca`: the contents of `upstream.ca`; `shown`: gives what is loaded now of its client certificate. TlsError
        where `ca` holds no authority.
        """
        self._upstream = upstream
        self._ca = ca
        self._shown = shown
        self._credential: Credential | None = None
        self._contexts: dict[tuple[str, ...], SSL.Context] = {}
        # The client's certificate may not be loaded yet; all else must be good now, not at the first connection.
        without = client_context(upstream, ca)
        if shown is None:
            self._contexts[()] = without

    def believe(self, ca: bytes | None) -> None:
        """Other authorities from now on."""
        if ca != self._ca:
            self._ca = ca
            self._contexts.clear()

    async def secure(self, plain: Plain, host: str | None, alpn: tuple[str, ...] = ()) -> Tls:
        """TLS on a fresh connection to `host`; TlsError where it is not who it should be. `alpn`: what is offered."""
        verify = self._upstream.verify
        name = self._upstream.server_name or host
        if name is None and verify:
            raise TlsError("a unix socket has no name to verify: set tls.upstream.server_name")
        stream = Tls(plain, self._context(alpn))
        peer = Peer(name, verify=verify)
        peer.expect(stream.connection)
        try:
            await stream.handshake()
        except TlsError as error:
            raise TlsError(peer.problem or str(error)) from error
        peer.check(stream.connection)
        return stream

    def _context(self, alpn: tuple[str, ...]) -> SSL.Context:
        credential = None if self._shown is None else self._shown()
        if credential is not self._credential:
            self._credential = credential
            self._contexts.clear()
        found = self._contexts.get(alpn)
        if found is None:
            found = self._contexts[alpn] = client_context(self._upstream, self._ca, alpn, credential)
        return found
