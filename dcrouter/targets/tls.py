"""TLS towards a target, on a connection that is there already (terminate-and-reencrypt, and checks by TLS)."""

from __future__ import annotations

from OpenSSL import SSL

from dcrouter.errors import TlsError
from dcrouter.net.stream import Plain, Tls
from dcrouter.tls.peer import Peer


class TargetTls:
    """How targets of a route are spoken to by TLS. `server_name` None: the target's host."""

    def __init__(self, context: SSL.Context, verify: bool, server_name: str | None) -> None:
        self._context = context
        self._verify = verify
        self._server_name = server_name

    async def secure(self, plain: Plain, host: str | None) -> Tls:
        """TLS on a fresh connection to `host`; TlsError where it is not who it should be."""
        name = self._server_name or host
        if name is None and self._verify:
            raise TlsError("a unix socket has no name to verify: set tls.upstream.server_name")
        stream = Tls(plain, self._context)
        peer = Peer(name, verify=self._verify)
        peer.expect(stream.connection)
        try:
            await stream.connect()
        except TlsError as error:
            raise TlsError(peer.problem or str(error)) from error
        peer.check(stream.connection)
        return stream
