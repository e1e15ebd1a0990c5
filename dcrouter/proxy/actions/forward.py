"""forward: bytes go to one of the targets, and back; as they are, or through TLS of our own
(terminate-and-reencrypt).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dcrouter.errors import TimedOut, TlsError, Unreachable, reason_of
from dcrouter.net.engine import FAILED
from dcrouter.net.floor import Floor
from dcrouter.net.relay import Direction, direction, relay
from dcrouter.net.stream import Stream, Tls
from dcrouter.proxy.introduction import introduction
from dcrouter.proxy.selection import Selection
from dcrouter.targets.reach import Reach
from dcrouter.targets.target import NO_ADDRESS, LiveTarget, Targets
from dcrouter.wire.proxyheader import Version

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session


class ForwardAction:
    """Connect to a target, the next one when that fails, and relay until both sides have ended."""

    def __init__(
        self,
        targets: Targets,
        reach: Reach,
        introduces: Version | None = None,
        selection: Selection | None = None,
        port: Callable[[int], int] = int,
    ) -> None:
        """`introduces`: the PROXY header that targets get. `selection`: who says which of them, None: nobody. `port`:
        what `preserve` makes of the port that the client connected to.
        """
        self.targets = targets
        self.reach = reach
        self._introduces = introduces
        self._selection = selection
        self._port = port

    async def run(self, session: Session) -> None:
        stream, target = await self._connect(session)
        state = target.state
        forth: Direction | None = None
        back: Direction | None = None
        floor: Floor | None = None
        try:
            pipes = session.edge.pipes
            forth = direction(session.stream, stream, pipes)
            back = direction(stream, session.stream, pipes)
            session.moving = forth, back
            assert session.route is not None
            timeouts = session.route.timeouts
            session.enter("relay", None)
            least = session.route.min_rate
            if least is not None:
                floor = Floor(session.task, least, partial(_moved, forth, back))
            try:
                by = await relay(session.task, forth, back, session.stream, stream, timeouts.idle, timeouts.half_closed)
            except TimedOut:
                raise
            except (OSError, TlsError) as error:
                self._broken(session, forth, back, stream, error)
            else:
                session.end("client" if by == "client" else "target", "closed")
        finally:
            if floor is not None:
                floor.lift()
            if forth is not None and back is not None:
                session.bytes_in, session.bytes_out = forth.count, back.count
                forth.release()
                back.release()
            stream.close()
            state.active -= 1

    async def _connect(self, session: Session) -> tuple[Stream, LiveTarget]:
        """A connection to the first target that takes it, where it counts as active from then on; Unreachable with the
        last reason where none does.
        """
        task, port = session.task, self._port(session.facts.local[1])
        if self._selection is None:
            order = self.targets.order(session.facts, task.engine.now)
        else:
            session.enter("select", 0)
            order = await self._selection.order(session)
        failed = "no target has a known address yet" if order else self.targets.why_none(session.facts)
        assert session.route is not None
        seconds = session.route.timeouts.connect
        alpn = _negotiated(session.stream) if self.reach.tls is not None else ()
        opening = b"" if self._introduces is None else introduction(session, self._introduces)
        speaks = session.heard and session.stream is session.plain
        for target in order:
            candidates = target.candidates(port)
            if not candidates:
                self.targets.broken(target, NO_ADDRESS, task.engine.now)
                continue
            session.target = candidates[0].label
            session.enter("connect", seconds)
            # As its `enter` and `leave`, which would cost two calls. One that keeps others waiting has them to do.
            target.state.active += 1
            try:
                stream, candidate = await self.reach.open(task, candidates, session.plain, opening, alpn, speaks=speaks)
            except BaseException as error:
                target.state.active -= 1
                if not _is_targets(error):
                    raise
                failed = reason_of(error)
                session.edge.connect_failed(candidates[0].label, failed)
                self.targets.broken(target, failed, task.engine.now, error)
            else:
                target.state.connections += 1
                session.target = candidate.label
                return stream, target
        raise Unreachable(f"{session.target or 'no target'}: {failed}")

    def _broken(self, session: Session, forth: Direction, back: Direction, target: Stream, error: Exception) -> None:
        """One side was reset: the other learns it by a reset too, so that what it has does not look complete."""
        by_client = forth.source_failed or (not back.source_failed and session.plain.ready & FAILED)
        session.end("client" if by_client else "target", reason_of(error))
        (target if by_client else session.stream).abort()


def _moved(forth: Direction, back: Direction) -> int:
    return forth.count + back.count


def _negotiated(stream: Stream) -> tuple[str, ...]:
    """By ALPN with the client, which is what the target is offered."""
    name = stream.connection.get_alpn_proto_negotiated() if isinstance(stream, Tls) else b""
    return (name.decode("latin-1"),) if name else ()


def _is_targets(error: BaseException) -> bool:
    """Whether an attempt has failed for itself, and the next target has its turn; else the session is over."""
    if isinstance(error, TimedOut):
        return error.phase == "connect"
    return isinstance(error, OSError | TlsError) and not isinstance(error, ConnectionAbortedError)
