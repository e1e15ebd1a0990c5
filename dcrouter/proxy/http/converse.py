"""One request to one target, and its response back to the client, both at once where they overlap.

The request's body moves while the response is awaited and while it comes (an early answer does not wait for the rest of
it). Nothing of either is kept but what the other side does not take. Where a response is small enough to come whole, it
leaves with one send.
"""

from __future__ import annotations

import errno

from dcrouter.errors import TimedOut, TlsError, WireError, reason_of
from dcrouter.net.engine import ENDED, FAILED, WAIT
from dcrouter.net.measured import Body, Framed, Measured
from dcrouter.net.relay import Direction, direction
from dcrouter.net.stream import Plain
from dcrouter.proxy.http.errors import TargetFailed
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.http.pool import Kept
from dcrouter.proxy.http.upgrade import upgrade
from dcrouter.wire.http1.chunked import ChunkReader
from dcrouter.wire.http1.responsehead import CHUNKED, UNTIL_CLOSE, ResponseHead, read_response

MOST_INTERIM = 64
"""Responses 1xx to one request: who says more of them talks nonsense."""

_BROKEN = (OSError, TlsError)


class Conversation:
    """`reusable`: afterwards, whether the connection to the target may be given to another request."""

    __slots__ = (
        "_client",
        "_data",
        "_exchange",
        "_forth",
        "_half",
        "_kept",
        "_out",
        "_refused",
        "_target",
        "_task",
        "reusable",
    )

    def __init__(self, exchange: Exchange, kept: Kept, request: bytes) -> None:
        self._exchange = exchange
        self._client = exchange.connection.stream
        self._kept = kept
        self._target = kept.stream
        self._task = exchange.connection.session.task
        self._out: bytes = request
        self._forth: Body | None = None
        self._refused = self._half = False
        self._data = b""
        self.reusable = False

    async def run(self) -> None:
        """All of it. TargetFailed before anything has left to the client, or after: `exchange.started` tells.

        What else it raises is the client's: OSError, TlsError, WireError (its body), TimedOut.
        """
        exchange = self._exchange
        try:
            head = await self._head()
            if head.status == 101:
                await self._upgrade(head)
            else:
                await self._response(head)
        finally:
            forth = self._forth
            if forth is not None:
                exchange.received += forth.count
                exchange.connection.incoming = None
                forth.release()

    # The request.

    def _push(self) -> bool:
        """Send what can be sent of the request; True if there may be more at once."""
        out = self._out
        if out:
            try:
                while out and (size := self._target.send(out)):
                    out = out[size:]
            except _BROKEN:
                self._refuse()
                return False
            self._out = out
            if out:
                return False
            head = self._exchange.head
            if head.has_body:
                # The exchange's own body begins behind the head: from here on it cannot be sent again.
                self._exchange.body_taken = True
                self._forth = self._exchange.connection.body(head, self._target)
                self._exchange.connection.incoming = self._forth
        forth = self._forth
        if forth is None or forth.done or self._refused:
            return False
        try:
            before = forth.count
            again = forth.pump()
            if forth.count != before:
                self._exchange.connection.progressed()
        except WireError:
            raise  # the client's
        except _BROKEN:
            if forth.source_failed:
                raise
            self._refuse()
            return False
        if forth.done and forth.rest:
            self._exchange.connection.rest = forth.rest
        return again

    def _refuse(self) -> None:
        """The target takes no more. It may have said why before: that is read, and the request is not sent on."""
        self._refused = True
        self._out = b""

    def _is_sent(self) -> bool:
        return not self._out and not self._refused and (self._forth is None or self._forth.done)

    # The response.

    async def _head(self) -> ResponseHead:
        """The head of the final response; those before it have been passed on."""
        exchange, target, task = self._exchange, self._target, self._task
        exchange.phase = "wait"
        method = exchange.head.method
        interim = seen = 0
        data = b""
        client = exchange.connection.session.plain
        try:
            while True:
                again = self._push()
                try:
                    some = target.recv()
                except _BROKEN as error:
                    raise self._failed(error, data) from error
                if some is None:
                    if client.ready & ENDED:
                        self._client_ended(client)
                    if again:
                        task.engine.again(task)
                    await WAIT
                    continue
                if not some:
                    raise self._failed(None, data)
                data = data + some if data else some
                while True:
                    try:
                        head = read_response(data, method, seen)
                    except WireError as error:
                        raise TargetFailed(str(error)) from error
                    if head is None:
                        seen = len(data)
                        break
                    if head.status >= 200 or head.status == 101:
                        self._data = data[head.length :]
                        return head
                    interim += 1
                    if interim > MOST_INTERIM:
                        raise TargetFailed("too many interim responses")
                    await self._pass_interim(head)
                    data = data[head.length :]
                    seen = 0
                    if not data:
                        break
        except TimedOut as error:
            if error.phase not in ("idle", "half_closed"):
                raise
            if not self._is_sent():
                raise TimedOut("request body") from error
            raise TargetFailed("no response in time", timed_out=True) from error

    def _client_ended(self, client: Plain) -> None:
        """Reset, it needs no response. Half-closed it may wait for one, but not for ever: most are just gone."""
        if client.ready & FAILED:
            raise ConnectionResetError(errno.ECONNRESET, "gone before the response")
        if not self._half:
            self._half = True
            route = self._exchange.route
            assert route is not None
            self._task.within(route.timeouts.half_closed, "half_closed")

    def _failed(self, error: Exception | None, data: bytes) -> TargetFailed:
        why = "closed" if error is None else reason_of(error)
        where = "in the head of its response" if data else "without a response"
        return TargetFailed(f"the target ended {where}: {why}", unheard=not data and self._kept.used)

    async def _pass_interim(self, head: ResponseHead) -> None:
        """1xx: to HTTP/1.1 clients (RFC 9110 section 15.2)."""
        if self._exchange.head.version == "1.0":
            return
        lines = [head.first, *(line for _, line in head.lines), b"\r\n"]
        await self._exchange.send(b"\r\n".join(lines))
        self._exchange.started = False

    async def _response(self, head: ResponseHead) -> None:
        exchange = self._exchange
        size, data = head.body, self._data
        if not self._is_sent() and (head.status >= 300 or not head.keep_alive):
            exchange.keeps = False  # a verdict, or a farewell, before the request was heard to its end
        old = exchange.head.version == "1.0"
        if size == UNTIL_CLOSE or (old and size == CHUNKED):
            exchange.keeps = False
        start = exchange.head_of(head.first, head.status, head.lines, CHUNKED if size == CHUNKED and not old else 0)
        if 0 <= size <= len(data):
            surplus = len(data) > size
            await exchange.send(start + data[:size] if surplus else start + data)
        else:
            back = self._back(size, start, data, decode=old)
            await self._relay(back)
            surplus = size == UNTIL_CLOSE or _surplus(back)
        exchange.answered = True
        may_go_on = head.keep_alive and not surplus
        if not self._is_sent() and may_go_on and exchange.keeps:
            await self._rest_of_request()
        if self._is_sent():
            self.reusable = may_go_on
        else:
            exchange.keeps = False

    async def _rest_of_request(self) -> None:
        """Behind an early answer: until the target has it all, or takes no more."""
        exchange, task = self._exchange, self._task
        client = exchange.connection.session.plain
        try:
            while True:
                again = self._push()
                if self._refused or self._is_sent() or self._is_over():
                    return
                if client.ready & FAILED:
                    raise ConnectionResetError(errno.ECONNRESET, "gone before the end of its request")
                if again:
                    task.engine.again(task)
                await WAIT
        except TimedOut as error:
            if error.phase != "idle":
                raise
        except _BROKEN as error:
            exchange.end("client", reason_of(error))
            raise

    def _is_over(self) -> bool:
        """Whether the target has ended, or says what nobody has asked for."""
        try:
            return self._target.recv() is not None
        except _BROKEN:
            return True

    def _back(self, size: int, start: bytes, data: bytes, *, decode: bool) -> Body | Direction:
        """The body on its way to the client, behind its head."""
        client, target = self._client, self._target
        pipes = self._exchange.connection.session.edge.pipes
        if size == UNTIL_CLOSE:
            return direction(target, client, pipes, start + data)
        if size == CHUNKED:
            reader = ChunkReader(decode=decode)
            try:
                return Framed(target, client, reader, start + (reader.feed(data) if data else b""))
            except WireError as error:
                raise TargetFailed(f"malformed response: {error}") from error
        return Measured(target, client, size - len(data), pipes, start + data)

    async def _relay(self, back: Body | Direction) -> None:
        """Until `back` is done; the request's body goes on meanwhile."""
        exchange, task = self._exchange, self._task
        client = exchange.connection.session.plain
        exchange.started = True
        ends = isinstance(back, Measured | Framed)
        exchange.connection.outgoing = back
        sent = 0
        try:
            while True:
                again = self._push()
                try:
                    again |= back.pump() if ends else back.pump(True)  # type: ignore[call-arg]
                except (*_BROKEN, WireError) as error:
                    if back.source_failed:
                        raise TargetFailed(reason_of(error)) from error
                    raise
                if back.count != sent:
                    sent = back.count
                    exchange.connection.progressed()
                if back.done:
                    return
                if client.ready & FAILED:
                    raise ConnectionResetError(errno.ECONNRESET, "gone before the end of the response")
                if again:
                    task.engine.again(task)
                await WAIT
        finally:
            exchange.sent += back.count
            exchange.connection.outgoing = None
            back.release()

    async def _upgrade(self, head: ResponseHead) -> None:
        """The two speak something else from now on: bytes, as they come."""
        await upgrade(self._exchange, self._target, head, self._data)


def _surplus(back: Body | Direction) -> bool:
    return bool(getattr(back, "rest", b""))
