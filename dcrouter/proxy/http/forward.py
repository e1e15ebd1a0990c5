"""forward on http routes: each request goes to one of the targets, on a connection that waited for it or a new one.

1. The target: by the route's balance, as for tcp. Where it cannot be reached, the next one, up to `retries` others.
2. The connection: one that waits in the pool, else a new one.
3. A connection that waited may have been closed by the target a moment before the request came. Where nothing was heard
   of it, the request is sent again, once, on a new connection, if it may be (RFC 9112 section 9.3.1: idempotent
   methods) and can be (nothing of its body has been passed on). For all others the kernel is asked before.
"""

from __future__ import annotations

from collections.abc import Hashable

from dcrouter.errors import EXHAUSTED, TimedOut, TlsError, Unreachable, reason_of
from dcrouter.net.engine import WAIT
from dcrouter.net.stream import Stream
from dcrouter.proxy.http.converse import Conversation
from dcrouter.proxy.http.errors import TargetFailed
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.http.pool import Kept, Pool
from dcrouter.proxy.http.upgrade import offered
from dcrouter.proxy.introduction import introduction
from dcrouter.proxy.selection import Selection
from dcrouter.targets.reach import Reach
from dcrouter.targets.target import NO_ADDRESS, Candidate, LiveTarget, Targets
from dcrouter.wire.http1.head import REMEMBERED
from dcrouter.wire.proxyheader import Version

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND"))
"""RFC 9110 section 9.2.2."""


class HttpForward:
    """`settings`: what connections to a target must have in common to serve one another's requests. `introduces`: the
    PROXY header that they begin with; such a one serves the client that it names, and nobody else. `selection`: who
    says which target a request is for, None: nobody.
    """

    def __init__(
        self,
        targets: Targets,
        reach: Reach,
        pool: Pool,
        settings: Hashable,
        introduces: Version | None = None,
        selection: Selection | None = None,
    ) -> None:
        self.targets = targets
        self.reach = reach
        self._pool = pool
        self._settings = settings
        self._introduces = introduces
        self._selection = selection

    async def answer(self, exchange: Exchange) -> None:
        session = exchange.connection.session
        engine = session.task.engine
        port = exchange.facts.local[1]
        request = _usual(exchange) if exchange.is_unchanged else request_bytes(exchange)
        problem: TargetFailed | None = None
        if self._selection is None:
            order = self.targets.order(exchange.facts, engine.now, exchange.head)
        else:
            exchange.phase = "select"
            order = await self._selection.order(session, exchange.head, exchange.client_ip)
        for target in order:
            candidates = target.candidates(port)
            if not candidates:
                self.targets.broken(target, NO_ADDRESS, engine.now)
                continue
            target.state.enter()
            try:
                await self._ask(exchange, target, candidates, request)
                return
            except _Unreached as error:
                session.edge.connect_failed(candidates[0].label, str(error))
                problem = TargetFailed(f"{candidates[0].label}: {error}", timed_out=error.timed_out)
                self.targets.broken(target, str(error), engine.now, error.__cause__)
            except TargetFailed as error:
                self.targets.broken(target, str(error), engine.now)
                raise
            finally:
                target.state.leave()
        if problem is not None:
            raise problem
        raise Unreachable(
            "no target has a known address yet" if order else self.targets.why_none(exchange.facts, exchange.head)
        )

    async def _ask(self, exchange: Exchange, target: LiveTarget, candidates: list[Candidate], request: bytes) -> None:
        """One target. _Unreached where there is no connection to it, TargetFailed where there was one."""
        assert exchange.route is not None
        session = exchange.connection.session
        # Where it is now: when its name has other addresses, what waits for the old ones is left to end.
        key: Hashable = (target.where(exchange.facts.local[1]), self._settings)
        if self._introduces is not None:
            key = exchange.connection.own(key)
        idempotent = exchange.head.method in IDEMPOTENT
        kept = self._pool.take(key, session.task, sure=not idempotent or exchange.head.has_body)
        while True:
            if kept is None:
                kept = await self._connect(exchange, candidates, key)
            else:
                session.target = exchange.target = kept.label
            session.task.within(exchange.route.timeouts.idle, "idle")
            conversation = Conversation(exchange, kept, request)
            try:
                await conversation.run()
                return
            except TargetFailed as error:
                if not error.unheard or not idempotent or exchange.body_taken:
                    raise
            finally:
                if conversation.reusable:
                    self._pool.give(kept)
                else:
                    kept.close()
            kept = None  # it was dead: once more, on a new one, which cannot be unheard

    async def _connect(self, exchange: Exchange, candidates: list[Candidate], key: Hashable) -> Kept:
        assert exchange.route is not None
        session = exchange.connection.session
        session.target = exchange.target = candidates[0].label
        exchange.phase = "connect"
        session.task.within(exchange.route.timeouts.connect, "connect")
        try:
            stream, candidate = await self._open(exchange, candidates)
        except ConnectionAbortedError:
            raise
        except TimedOut as error:
            if error.phase != "connect":
                raise
            raise _Unreached(str(error), timed_out=True) from error
        except (OSError, TlsError) as error:
            raise _Unreached(reason_of(error)) from error
        session.target = exchange.target = candidate.label
        return self._pool.new(key, stream, session.task, candidate.label)

    async def _open(self, exchange: Exchange, candidates: list[Candidate]) -> tuple[Stream, Candidate]:
        session = exchange.connection.session
        task = session.task
        opening = b"" if self._introduces is None else introduction(session, self._introduces)
        try:
            return await self.reach.open(task, candidates, session.plain, opening, speaks=True)
        except OSError as error:
            if error.errno not in EXHAUSTED or not self._pool.waiting:
                raise
        # Descriptors have run out: those that only wait are given up, and are closed when we have given way.
        self._pool.clear()
        task.engine.again(task)
        await WAIT
        return await self.reach.open(task, candidates, session.plain, opening, speaks=True)


class _Unreached(Exception):
    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


def _usual(exchange: Exchange) -> bytes:
    """`request_bytes`, made once for a request that is said again and again on its connection."""
    connection = exchange.connection
    if connection.said_of is exchange.head:
        return connection.said
    said = request_bytes(exchange)
    if exchange.head.length <= REMEMBERED:
        connection.said, connection.said_of = said, exchange.head
    return said


def request_bytes(exchange: Exchange) -> bytes:
    """The head of the request as a target gets it."""
    head = exchange.head
    block = head.block
    framing = b""
    if block.chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif head.content_length is not None:
        framing = b"Content-Length: %d\r\n" % head.content_length
    if block.upgrade and (offer := offered(head)):
        framing += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % offer.encode("latin-1")
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (
        head.method.encode("ascii"),
        exchange.uri.encode("latin-1"),
        exchange.field_bytes,
        framing,
    )
