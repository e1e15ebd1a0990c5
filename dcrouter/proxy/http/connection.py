"""One client connection that speaks HTTP: requests one after another, each routed and answered on its own.

1. A head is read: `keep_alive` seconds for its first byte (`request_timeout` on a new connection), `request_timeout`
   for all of it. What comes behind it waits here, and in the socket.
2. The table of now gives its route; the connection is counted there as long as it stays with it.
3. Gates, edits, the action (features.py).
4. What the action left of the request's body is read away where it is little; else the connection ends, and the client
   gets time to read the answer first.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

from dcrouter.errors import Misdirected, NotAdmitted, TimedOut, TlsError, Unreachable, WireError
from dcrouter.net.engine import WAIT
from dcrouter.net.floor import Floor
from dcrouter.net.measured import Body, Framed, Measured, Nowhere, Sink
from dcrouter.net.relay import Direction
from dcrouter.net.stream import Plain
from dcrouter.proxy.http.errors import FileFailed, TargetFailed
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.http.forwarded import Introducer
from dcrouter.proxy.http.pace import floor
from dcrouter.proxy.linger import linger
from dcrouter.wire.hostport import hostport
from dcrouter.wire.http1.answer import response
from dcrouter.wire.http1.chunked import ChunkReader
from dcrouter.wire.http1.head import REMEMBERED, Block, HeadReader, RequestHead

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

LEFT_OVER = 65536
"""Octets of a request's body that are read away behind an answer that did not want them: more costs more than a new
connection."""

TURN = 8
"""Requests of one connection that are answered before others have their turn."""
FORBIDDEN = ("blocked", "not allowed")
"""What `security` says of whom it never lets in; others may come back later."""


class Connection:
    """`trusted`: the client is one of `http.trusted_proxies`. `rest`: octets that were read and not used yet.

    `incoming`, `outgoing`: what moves a body from and to the client now, whose octets the exchange does not count yet.
    `said`: how the last head that was sent on unchanged, `said_of`, was said to a target.
    """

    __slots__ = (
        "_began",
        "_floor",
        "_http",
        "_made",
        "_made_of",
        "_met",
        "_own",
        "_pipelined",
        "_reader",
        "_requests",
        "incoming",
        "introducer",
        "outgoing",
        "rest",
        "said",
        "said_of",
        "scheme",
        "session",
        "stream",
        "trusted",
        "trusted_proxies",
    )

    def __init__(self, session: Session) -> None:
        plan = session.edge.plan
        facts = session.facts
        peer = facts.peer[0]
        self.session = session
        self.stream = session.stream
        self.rest = b""
        self.scheme = _scheme(session)
        self.trusted_proxies = plan.trusted_proxies
        self.trusted = plan.trusted_proxies.covers(peer)
        self.introducer = Introducer(peer, self.scheme, self.trusted, facts.sni or hostport(*facts.local))
        self._http = plan.config.http
        self._met = session.route
        self._reader = HeadReader()
        self._requests = self._pipelined = 0
        self.incoming: Body | Direction | None = None
        self.outgoing: Body | Direction | None = None
        self._floor: Floor | None = None
        self._own: set[Hashable] = set()
        self._began = 0.0
        self.said = b""
        self.said_of: RequestHead | None = None
        self._made_of: Block | None = None
        self._made = b""

    @property
    def closing(self) -> bool:
        """Whether the request at hand is to be the last one."""
        return self.session.edge.is_draining

    async def serve(self) -> None:
        """Until one side has had enough. Raises what ends the session with a reason of its own."""
        session = self.session
        session.enter("http", self._http.request_timeout, "request_timeout")
        try:
            await self._serve(session)
        finally:
            for key in self._own:
                session.edge.plan.pool.forget(key)

    async def _serve(self, session: Session) -> None:
        try:
            while (head := await self._head()) is not None:
                self._requests += 1
                exchange = Exchange(self, head)
                try:
                    await self._answer(exchange)
                finally:
                    if self._floor is not None:
                        self._floor.lift()
                        self._floor = None
                    session.finished(exchange, self._requests, self._began)
                if not exchange.keeps:
                    session.end(exchange.ended_by or ("router" if head.keep_alive else "client"), exchange.reason)
                    if not exchange.upgraded:
                        await linger(session, self.stream)
                    return
        except WireError as error:
            session.end("router" if isinstance(error.__cause__, TimedOut) else "client", str(error))
            if error.reply is not None:
                session.task.within(self._http.request_timeout, "request_timeout")
                self.stream.send(error.reply)
                session.bytes_out += len(error.reply)
                await linger(session, self.stream)

    def own(self, key: Hashable) -> Hashable:
        """The key of target connections that serve nobody but this client; they go when it does."""
        key = (key, self.session.facts.session)
        self._own.add(key)
        return key

    def progressed(self) -> None:
        """Something has moved: the idle timeout begins anew."""
        session = self.session
        if session.route is not None and session.route.timeouts.idle:
            session.task.until(session.task.engine.now + session.route.timeouts.idle)

    def usual_fields(self, head: RequestHead) -> bytes:
        """What a target is told where no feature changes it; made once for requests that differ in their first line."""
        if self._made_of is head.block and not head.absolute:
            return self._made
        made = b"".join([line + b"\r\n" for _, line in self.introducer.lines(head)])
        if head.length <= REMEMBERED and not head.absolute:
            self._made, self._made_of = made, head.block
        return made

    # Bodies.

    def body(self, head: RequestHead, sink: Sink) -> Body:
        """The request's body on its way to `sink`; there is one. It begins with what has been read already."""
        rest = self.rest
        if head.block.chunked:
            self.rest = b""
            reader = ChunkReader()
            return Framed(self.stream, sink, reader, reader.feed(rest) if rest else b"")
        size = head.content_length or 0
        first = rest[:size]
        self.rest = rest[size:]
        return Measured(self.stream, sink, size - len(first), self.session.edge.pipes, first)

    def can_discard(self, head: RequestHead) -> bool:
        """Whether a body that nobody wants is little enough, and under way."""
        size = head.content_length
        return size is not None and (size <= len(self.rest) or (size <= LEFT_OVER and not head.block.expect))

    # Inside.

    async def _head(self) -> RequestHead | None:
        """The next request's head; None where the client has no more."""
        session, stream, reader = self.session, self.stream, self._reader
        task, http = session.task, self._http
        data: bytes | None = self.rest
        if data:
            self._pipelined += 1
            if self._pipelined % TURN == 0:  # so that who sends many at once does not hold up everybody else
                task.engine.again(task)
                await WAIT
        else:
            if self._requests:
                if self.closing:
                    session.end("router", "drained")
                    return None
                session.idle = True
                task.within(http.keep_alive, "keep_alive")
            while (data := stream.recv()) is None:
                await WAIT
            session.idle = False
            if not data:
                session.end("client", "closed")
                return None
        self.rest = b""
        if session.edge.observed:
            self._began = time.time()
        try:
            head = reader.feed(data)
        except WireError:
            session.bytes_in += len(data)
            raise
        if head is None:
            if self._requests:
                task.within(http.request_timeout, "request_timeout")
            head = await self._rest_of_head(len(data))
        self.rest = reader.rest
        task.within(http.request_timeout, "answer")
        return head

    async def _rest_of_head(self, fed: int) -> RequestHead | None:
        """`fed`: octets of it that are there. Those of a head that is none in the end are counted here."""
        stream, reader = self.stream, self._reader
        try:
            while True:
                while (data := stream.recv()) is None:
                    await WAIT
                if not data:
                    self.session.end("client", "closed before a whole request")
                    return None
                fed += len(data)
                head = reader.feed(data)
                if head is not None:
                    fed = 0
                    return head
        except TimedOut as error:
            if error.phase != "request_timeout":
                raise
            raise WireError(str(error), response(408, b"408 Request Timeout\n")) from error
        finally:
            self.session.bytes_in += fed

    async def _answer(self, exchange: Exchange) -> None:
        """Let the exchange be answered, by its route or by a page; afterwards the next head may be read, if it keeps.

        Raises where nothing good can be said to the client any more.
        """
        session = self.session
        try:
            route = session.listener.table.find_request(session.facts, exchange.head, self._met)
            route = route or session.edge.fallback
            if route is None or route.http is None:
                await exchange.refuse(404, "no route")
            else:
                if route is not session.route:
                    session.use(route)
                if route.min_rate is not None:
                    self._floor = floor(exchange, route.min_rate)
                exchange.route = route
                exchange.features = features = route.features
                for gate in features.gates:
                    exchange.phase = "gate"
                    if not await gate.admit(exchange):
                        break
                else:
                    for edit in features.request_edits:
                        edit(exchange)
                    await route.http.answer(exchange)
        except Misdirected as error:
            await exchange.refuse(421, str(error))
        except NotAdmitted as error:
            if session.route is None:
                raise  # nobody has let it in yet
            exchange.keeps = False
            await exchange.refuse(403 if str(error) in FORBIDDEN else 503, str(error))
        except WireError as error:
            await self._page(exchange, 400, "client", error)
        except TargetFailed as error:
            await self._page(exchange, 504 if error.timed_out else 502, "target", error)
        except FileFailed as error:
            await self._page(exchange, 500, "router", error)
        except Unreachable as error:
            await self._page(exchange, 503, "target", error)
        except TimedOut as error:
            if error.phase in ("lifetime", "request_timeout"):
                raise
            # The client was to send the rest of its request, or the target to answer.
            await self._page(exchange, 408 if error.phase == "request body" else 504, "router", error)
        if exchange.head.has_body and not exchange.body_taken and exchange.keeps:
            await self._discard(exchange)

    async def _page(self, exchange: Exchange, status: int, by: str, error: Exception) -> None:
        """Say that it failed; where an answer has begun, break it off, so that it does not look complete."""
        exchange.end("client" if by == "client" else "target" if by == "target" else "router", str(error))
        if exchange.started:
            self.session.end(exchange.ended_by or "router", str(error))
            exchange.keeps = False
            self.stream.abort()
            raise error
        if by == "client" or exchange.body_taken:
            exchange.keeps = False
        self.session.task.within(self._http.request_timeout, "request_timeout")
        await exchange.refuse(status, str(error))

    async def _discard(self, exchange: Exchange) -> None:
        body = self.body(exchange.head, Nowhere())
        self.session.task.within(self._http.request_timeout, "request_timeout")
        try:
            while not body.done:
                if body.pump():
                    self.session.task.engine.again(self.session.task)
                if not body.done:
                    await WAIT
        except (OSError, TlsError):
            exchange.keeps = False
            raise
        finally:
            exchange.received += body.count
            body.release()


def _scheme(session: Session) -> str:
    """What the client spoke: with us, or with the proxy that introduced it."""
    introduced = session.facts.introduction
    tls = not isinstance(session.stream, Plain) or (introduced is not None and introduced.told.tls_version is not None)
    return "https" if tls else "http"
