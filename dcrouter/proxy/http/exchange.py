"""One request and its response, as the action and the features of its route see them.

Reading is by attributes. Answering is one of:

- `respond(status, body, fields)`: a whole response;
- `begin(status, fields, size)`, then `send` or `send_file` until `size` octets have left;
- what proxy/http/converse.py does for targets.

Whoever answers, the head goes through `head_of`: there the route's response_edits see it, and the connection says
whether it goes on. A response leaves with as few sends as it can.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dcrouter.events import EndedBy, RequestDone
from dcrouter.facts import ConnectionFacts
from dcrouter.net.engine import OUT, WAIT
from dcrouter.net.stream import BULK, Plain
from dcrouter.proxy.http.errors import FileFailed
from dcrouter.proxy.http.features import NO_FEATURES
from dcrouter.proxy.http.forwarded import client_of
from dcrouter.proxy.http.pages import page
from dcrouter.wire.http1.answer import date, reason
from dcrouter.wire.http1.fields import Fields, Line, field
from dcrouter.wire.http1.head import RequestHead
from dcrouter.wire.http1.responsehead import BODILESS, CHUNKED

if TYPE_CHECKING:
    from dcrouter.proxy.bound import BoundRoute
    from dcrouter.proxy.http.connection import Connection

FILE_PIECE = 65536
"""Octets of a file read at once where sendfile(2) cannot be used."""


class Exchange:
    """One request of a connection.

    `head`: the request's; `route`: whose it is (None: nobody's), `features`: its; `facts`: the connection's. `uri`:
    what a target is asked for. `user`: who has logged in, "" for nobody. `status`: of the response, 0 before its head
    is made. `started`: some of it has left; `answered`: all of it. `keeps`: the connection goes on behind it.
    `upgraded`: it has become something else (101). `body_taken`: something of the request's body has left here.
    `received`, `sent`: octets from and to the client. `target`: who was asked, for the log. `phase`: what is being done
    (request, gate, select, connect, wait, response, upgraded); `ended_by`, `reason` and `termination`: how it ended,
    where that is not as it should be.
    """

    __slots__ = (
        "_fields",
        "answered",
        "body_taken",
        "connection",
        "ended_by",
        "facts",
        "features",
        "head",
        "keeps",
        "phase",
        "reason",
        "received",
        "route",
        "sent",
        "started",
        "status",
        "target",
        "termination",
        "upgraded",
        "uri",
        "user",
    )

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self.connection = connection
        self.facts: ConnectionFacts = connection.session.facts
        self.head = head
        self.route: BoundRoute | None = None
        self.features = NO_FEATURES
        self.uri = head.target if not head.absolute else _origin_form(head)
        self.status = 0
        self.started = self.answered = self.body_taken = self.upgraded = False
        self.keeps = head.keep_alive
        self.received = head.length
        self.sent = 0
        self.target: str | None = None
        self.phase = "request"
        self.ended_by: EndedBy | None = None
        self.reason = ""
        self.termination = "done"
        self.user = ""
        self._fields: Fields | None = None

    # The request.

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the client of this connection speaks."""
        return self.connection.scheme

    @property
    def client_ip(self) -> str:
        """The client's address; behind `http.trusted_proxies` the one that they tell."""
        connection = self.connection
        peer = self.facts.peer[0]
        return client_of(peer, self.head, connection.trusted_proxies) if connection.trusted else peer

    @property
    def is_unchanged(self) -> bool:
        """Whether a target is asked and told what the client says, with nothing of ours but what all requests get."""
        return self._fields is None and self.uri is self.head.target

    @property
    def fields(self) -> Fields:
        """What a target is told, to be changed: the request's fields without those for this connection only (and
        without Content-Length, which is not to be changed), with X-Forwarded-* and Forwarded.
        """
        if self._fields is None:
            self._fields = Fields(self.connection.introducer.lines(self.head))
        return self._fields

    @property
    def field_bytes(self) -> bytes:
        """`fields` as on the wire."""
        if self._fields is not None:
            return self._fields.to_bytes()
        return self.connection.usual_fields(self.head)

    # The response.

    def head_of(self, first: bytes, status: int, lines: Sequence[Line], framing: int = 0) -> bytes:
        """The head of the final response, as it leaves. `first`: its status line; `framing`: CHUNKED where it is.

        From here on `status` is set, and `keeps` is decided.
        """
        self.status = status
        self.phase = "response"
        edits = self.features.response_edits
        if edits:
            fields = Fields(lines)
            for edit in edits:
                edit(self, status, fields)
            lines = fields.lines
        parts = [first]
        parts += [line for _, line in lines]
        if framing == CHUNKED:
            parts.append(b"Transfer-Encoding: chunked")
        connection = self.connection
        if self.head.has_body and not self.body_taken and not connection.can_discard(self.head):
            self.keeps = False
        if not self.keeps or connection.closing:
            self.keeps = False
            parts.append(b"Connection: close")
        elif self.head.version == "1.0":
            parts.append(b"Connection: keep-alive")
        parts.append(b"\r\n")
        return b"\r\n".join(parts)

    async def respond(self, status: int, body: bytes = b"", fields: Iterable[tuple[str, str]] = ()) -> None:
        """Answer with all of this; `fields`: (name, value), Date, Content-Type (plain text) and Content-Length are
        added where they are missing. HEAD, 204 and 304 get no body. ValueError for what can be no field.
        """
        lines = [field(name, text) for name, text in fields]
        await self.respond_with(status, body, lines)

    async def respond_with(self, status: int, body: bytes, lines: list[Line]) -> None:
        """The same with fields that are lines already."""
        head = self._own_head(status, len(body), lines)
        await self.send(head if self._has_no_body(status) else head + body)
        self.answered = True

    async def begin(self, status: int, fields: Iterable[tuple[str, str]], size: int) -> bool:
        """The head of a response of `size` octets, which `send` and `send_file` are to bring; False: none are wanted
        (HEAD, 204, 304).
        """
        await self.send(self._own_head(status, size, [field(name, text) for name, text in fields]))
        return not self._has_no_body(status)

    async def send_file(self, fd: int, offset: int, size: int) -> None:
        """`size` octets of an open file from `offset` on; by sendfile(2) where the client's side is plain.

        FileFailed where the file ends too early: the client has been promised more.
        """
        connection = self.connection
        stream, task = connection.stream, connection.session.task
        end = offset + size
        while offset < end:
            if not isinstance(stream, Plain):
                data = os.pread(fd, min(FILE_PIECE, end - offset), offset)
                if not data:
                    raise FileFailed("the file has become shorter")
                await self.send(data)
                offset += len(data)
                continue
            if not stream.ready & OUT:
                await WAIT
                continue
            try:
                moved = os.sendfile(stream.fd, fd, offset, min(BULK, end - offset))
            except BlockingIOError:
                stream.blocked()
                continue
            if not moved:
                raise FileFailed("the file has become shorter")
            offset += moved
            self.sent += moved
            connection.progressed()
            task.engine.again(task)
            await WAIT

    async def send(self, data: bytes) -> None:
        """Send all of `data` to the client; the deadline moves with every octet."""
        connection = self.connection
        stream = connection.stream
        self.started = True
        size = stream.send(data)
        self.sent += size
        if size == len(data):
            return
        rest = memoryview(data)[size:]
        connection.progressed()
        while rest:
            size = stream.send(rest)
            if size:
                self.sent += size
                rest = rest[size:]
                connection.progressed()
            else:
                await WAIT

    async def refuse(self, status: int, why: str, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Answer with a short plain page; `why` is for the log."""
        self.end("router", why)
        await self.respond_with(status, page(status), [field(name, text) for name, text in fields])

    def end(self, ended_by: EndedBy, why: str) -> None:
        """Say who ended it and why, where it is no regular end; the first word counts."""
        if self.ended_by is None:
            self.ended_by = ended_by
            self.reason = why
            self.termination = f"{ended_by}:{self.phase}"

    def done(self, number: int, began: float) -> RequestDone:
        """What is told of it when it is over. `number`: of the connection's requests; `began`: UTC epoch seconds."""
        head = self.head
        if self.ended_by is None and not self.answered:
            self.end("client", "gone")
        return RequestDone(
            session=self.facts.session,
            request=number,
            route=self.facts.route if self.route is not None else None,
            began=began,
            seconds=round(max(time.time() - began, 0.0), 6),
            peer=self.facts.peer,
            client=self.client_ip,
            user=self.user or None,
            method=head.method,
            host=head.host,
            path=head.path,
            version=head.version,
            status=self.status,
            target=self.target,
            bytes_in=self.received,
            bytes_out=self.sent,
            termination=self.termination,
            reason=self.reason or None,
        )

    def _own_head(self, status: int, size: int, lines: list[Line]) -> bytes:
        given = {name for name, _ in lines}
        own: list[Line] = []
        if "date" not in given:
            own.append(("date", b"Date: " + date(int(time.time())).encode()))
        if status >= 200 and status not in BODILESS:
            if "content-type" not in given:
                own.append(("content-type", b"Content-Type: text/plain; charset=utf-8"))
            own.append(("content-length", b"Content-Length: %d" % size))
        return self.head_of(b"HTTP/1.1 %d %b" % (status, reason(status).encode()), status, own + lines)

    def _has_no_body(self, status: int) -> bool:
        return self.head.method == "HEAD" or status in BODILESS


def _origin_form(head: RequestHead) -> str:
    """RFC 9112 section 3.2.1: what an origin is asked for where the client named it in the target."""
    return f"{head.path}?{head.query}" if head.query or head.target.endswith("?") else head.path
