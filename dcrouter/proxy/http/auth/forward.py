"""security.forward_auth: somebody else is asked, before each request, whether it may go on.

It gets the request's head as a GET, with X-Forwarded-Method and -Uri beside the other X-Forwarded-*. A 2xx lets the
request through, with the headers of `copy_headers` as it says them; 3xx and 4xx go to the client as they are.
Everything else, and no answer in time, is a 503: nobody gets in because it is down.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from dcrouter.config.security import ForwardAuth
from dcrouter.config.targets import Target, UpstreamTls
from dcrouter.config.urls import split_url
from dcrouter.errors import TimedOut, TlsError, WireError, reason_of
from dcrouter.net.engine import FAILED, WAIT
from dcrouter.net.stream import send_all
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.http.pool import Kept, Pool
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.reach import Reach
from dcrouter.targets.state import TargetState
from dcrouter.targets.target import LiveTarget
from dcrouter.targets.tls import TargetTls
from dcrouter.wire.http1.chunked import ChunkReader
from dcrouter.wire.http1.fields import Line
from dcrouter.wire.http1.responsehead import CHUNKED, UNTIL_CLOSE, ResponseHead, read_response

LARGEST = 65536
"""Octets of an answer's body."""
MOST_INTERIM = 8

_NOT_ASKED = frozenset(
    (
        "content-length",
        "expect",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "x-forwarded-method",
        "x-forwarded-uri",
    )
)
"""What is about the request's own content, or said by us."""


class _Failed(Exception):
    """There is no answer. `unheard`: not an octet of one, on a connection that had waited."""

    def __init__(self, message: str, *, unheard: bool = False) -> None:
        super().__init__(message)
        self.unheard = unheard


class ForwardGate:
    def __init__(self, auth: ForwardAuth, addresses: Addresses, pool: Pool) -> None:
        url = split_url(auth.url)
        self._timeout = auth.timeout
        self._copied = tuple(name.lower() for name in auth.copy_headers)
        self._away = frozenset(name.replace("_", "-") for name in self._copied)
        self._pool = pool
        self._key: Hashable = ("forward_auth", url.scheme, url.host, url.port)
        self._target = LiveTarget(Target(host=url.host, port=url.port), TargetState(), addresses)
        self._reach = Reach(TargetTls(UpstreamTls()) if url.scheme == "https" else None)
        self._first = f"GET {url.path} HTTP/1.1\r\nHost: {url.authority}\r\n".encode("latin-1")

    async def admit(self, exchange: Exchange) -> bool:
        task = exchange.connection.session.task
        task.within(self._timeout, "forward_auth")
        try:
            head, body = await self._ask(exchange)
        except (_Failed, TimedOut) as error:
            if isinstance(error, TimedOut) and error.phase != "forward_auth":
                raise
            task.within(self._timeout, "forward_auth")
            await exchange.refuse(503, f"forward_auth: {error}", [("Retry-After", "1")])
            return False
        if 200 <= head.status < 300:
            self._copy(exchange, head.lines)
            return True
        if not 300 <= head.status < 500 or head.status == 304:
            await exchange.refuse(503, f"forward_auth answered {head.status}")
            return False
        exchange.end("router", f"forward_auth answered {head.status}")
        lines = [line for line in head.lines if line[0] != "content-length"]
        await exchange.respond_with(head.status, body, lines)
        return False

    def _copy(self, exchange: Exchange, lines: list[Line]) -> None:
        """What it says of the client, for the target; the client cannot say it."""
        if self._copied:
            fields = exchange.fields
            fields.lines = [line for line in fields.lines if line[0].replace("_", "-") not in self._away]
            fields.lines += [line for line in lines if line[0] in self._copied]

    def _request(self, exchange: Exchange) -> bytes:
        lines = [line for name, line in exchange.fields.lines if name.replace("_", "-") not in _NOT_ASKED]
        lines.append(b"X-Forwarded-Method: " + exchange.head.method.encode("latin-1"))
        lines.append(b"X-Forwarded-Uri: " + exchange.uri.encode("latin-1"))
        return self._first + b"\r\n".join([*lines, b"", b""])

    async def _ask(self, exchange: Exchange) -> tuple[ResponseHead, bytes]:
        session = exchange.connection.session
        request = self._request(exchange)
        kept = self._pool.take(self._key, session.task)
        if kept is not None:
            try:
                return await self._converse(exchange, kept, request)
            except _Failed as error:
                if not error.unheard:
                    raise
        candidates = self._target.candidates(0)
        if not candidates:
            raise _Failed("its name has no known address")
        try:
            stream, candidate = await self._reach.open(session.task, candidates, session.plain, speaks=True)
        except ConnectionAbortedError:
            raise
        except (OSError, TlsError) as error:
            raise _Failed(reason_of(error)) from error
        return await self._converse(exchange, self._pool.new(self._key, stream, session.task, candidate.label), request)

    async def _converse(self, exchange: Exchange, kept: Kept, request: bytes) -> tuple[ResponseHead, bytes]:
        talk = _Talk(exchange, kept)
        whole = False
        try:
            head, body, whole = await talk.run(request)
        finally:
            if whole:
                self._pool.give(kept)
            else:
                kept.close()
        return head, body


class _Talk:
    """One request and its answer, which is small."""

    def __init__(self, exchange: Exchange, kept: Kept) -> None:
        self._client = exchange.connection.session.plain
        self._kept = kept
        self._data = b""

    async def run(self, request: bytes) -> tuple[ResponseHead, bytes, bool]:
        """(head, body, whether the connection may be used again)."""
        try:
            await send_all(self._kept.stream, request)
        except (OSError, TlsError) as error:
            raise _Failed(reason_of(error), unheard=self._kept.used) from error
        try:
            head = await self._head()
            body = await self._body(head)
        except WireError as error:
            raise _Failed(str(error)) from error
        return head, body, head.keep_alive and head.body != UNTIL_CLOSE and not self._data

    async def _head(self) -> ResponseHead:
        for _ in range(MOST_INTERIM):
            seen = 0
            while (head := read_response(self._data, "GET", seen)) is None:
                seen = len(self._data)
                if not await self._more():
                    raise _Failed("it ended without an answer", unheard=self._kept.used and not self._data)
            self._data = self._data[head.length :]
            if head.status >= 200:
                return head
        raise _Failed("it answered with nothing but 1xx")

    async def _body(self, head: ResponseHead) -> bytes:
        if head.body == CHUNKED:
            reader, body = ChunkReader(decode=True), b""
            while True:
                if self._data:
                    data, self._data = self._data, b""
                    body += reader.feed(data)
                if reader.done:
                    self._data = reader.rest
                    return body
                await self._demand(len(body))
        if head.body == UNTIL_CLOSE:
            while await self._more():
                self._bound(len(self._data))
            body, self._data = self._data, b""
            return body
        self._bound(head.body)
        while len(self._data) < head.body:
            await self._demand(0)
        body, self._data = self._data[: head.body], self._data[head.body :]
        return body

    async def _demand(self, size: int) -> None:
        self._bound(size)
        if not await self._more():
            raise _Failed("it broke off its answer")

    def _bound(self, size: int) -> None:
        if size > LARGEST:
            raise _Failed("its answer is too large")

    async def _more(self) -> bool:
        """Whether there is more, which is in `_data` then."""
        while True:
            try:
                some: Any = self._kept.stream.recv()
            except (OSError, TlsError) as error:
                raise _Failed(reason_of(error), unheard=self._kept.used and not self._data) from error
            if some is not None:
                self._data += some
                return bool(some)
            if self._client.ready & FAILED:
                raise ConnectionResetError("gone before the answer")
            await WAIT
