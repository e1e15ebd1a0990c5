"""forward: bytes go to one of the targets, and back; as they are, or through TLS of our own
(terminate-and-reencrypt).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL

from dcrouter.errors import TimedOut, TlsError, Unreachable
from dcrouter.net.engine import FAILED
from dcrouter.net.relay import Direction, direction, relay
from dcrouter.net.stream import Plain, Stream, Tls, connect, open_socket
from dcrouter.targets.target import Candidate, Targets
from dcrouter.tls.peer import Peer

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class Upstream:
    """How targets are spoken to under terminate-and-reencrypt. `server_name` None: the target's host."""

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


class ForwardAction:
    """Connect to a target, the next one when that fails, and relay until both sides have ended."""

    def __init__(self, targets: Targets, upstream: Upstream | None = None) -> None:
        self._targets = targets
        self._upstream = upstream

    async def run(self, session: Session) -> None:
        target = await self._connect(session)
        forth: Direction | None = None
        back: Direction | None = None
        try:
            pipes = session.edge.pipes
            forth = direction(session.stream, target, pipes)
            back = direction(target, session.stream, pipes)
            assert session.route is not None
            timeouts = session.route.timeouts
            session.enter("relay", timeouts.idle, "idle")
            try:
                by = await relay(session.task, forth, back, session.stream, target, timeouts.idle, timeouts.half_closed)
            except TimedOut:
                raise
            except (OSError, TlsError) as error:
                self._broken(session, forth, back, target, error)
            else:
                session.end("client" if by == "client" else "target", "closed")
        finally:
            if forth is not None and back is not None:
                session.bytes_in, session.bytes_out = forth.count, back.count
                forth.release()
                back.release()
            target.close()

    async def _connect(self, session: Session) -> Stream:
        """A connection to the first target that takes it; Unreachable with the last reason where none does."""
        candidates = self._targets.candidates(session.facts.local[1])
        failed = "no target has a known address yet"
        assert session.route is not None
        seconds = session.route.timeouts.connect
        for candidate in candidates:
            session.target = candidate.label
            session.enter("connect", seconds)
            try:
                return await self._open(session, candidate)
            except ConnectionAbortedError:
                raise
            except (OSError, TlsError, TimedOut) as error:
                if isinstance(error, TimedOut) and error.phase != "connect":
                    raise
                failed = getattr(error, "strerror", None) or str(error)
                session.edge.connect_failed(candidate.label, failed)
        raise Unreachable(f"{session.target or 'no target'}: {failed}")

    async def _open(self, session: Session, candidate: Candidate) -> Stream:
        plain = open_socket(session.task, candidate.family)
        try:
            await connect(plain, candidate.address, session.plain)
            return plain if self._upstream is None else await self._upstream.secure(plain, candidate.host)
        except BaseException:
            plain.close()
            raise

    def _broken(self, session: Session, forth: Direction, back: Direction, target: Stream, error: Exception) -> None:
        """One side was reset: the other learns it by a reset too, so that what it has does not look complete."""
        by_client = forth.source_failed or (not back.source_failed and session.plain.ready & FAILED)
        session.end("client" if by_client else "target", getattr(error, "strerror", None) or str(error))
        (target if by_client else session.stream).abort()
