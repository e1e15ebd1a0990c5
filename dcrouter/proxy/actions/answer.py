"""redirect, respond and block on http routes: one HTTP/1.1 request is read, answered well-formed, and the connection
ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dcrouter.config.actions import Block, Redirect, Respond
from dcrouter.net.engine import WAIT
from dcrouter.net.stream import Plain, Stream, send_all
from dcrouter.wire.http1.answer import response
from dcrouter.wire.http1.head import HeadReader, RequestHead
from dcrouter.wire.http1.redirect import expand

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

LINGER = 2.0
"""Seconds in which a client may read our answer while it still sends: a close with unread bytes would reset it away."""
LINGER_BYTES = 1 << 20

Answer = Callable[[RequestHead, int], bytes]
"""(head, local port) -> the whole response."""


class AnswerAction:
    """Read the head of one request, send `answer` to it, close."""

    def __init__(self, answer: Answer, request_timeout: float) -> None:
        self._answer = answer
        self._request_timeout = request_timeout

    async def run(self, session: Session) -> None:
        stream = session.stream
        session.enter("request", self._request_timeout, "request_timeout")
        reader = HeadReader()
        while True:
            data = stream.recv()
            if data is None:
                await WAIT
                continue
            if not data:
                session.end("client", "closed before a whole request")
                return
            session.bytes_in += len(data)
            head = reader.feed(data)
            if head is not None:
                break
        reply = self._answer(head, session.facts.local[1])
        session.enter("response", self._request_timeout, "request_timeout")
        await send_all(stream, reply)
        session.bytes_out = len(reply)
        session.end("router", "answered")
        await linger(session, stream)


class CloseAction:
    """block on tcp routes: the connection ends before a byte is exchanged."""

    async def run(self, session: Session) -> None:
        session.end("router", "blocked")


def redirect(action: Redirect) -> Answer:
    """The answer of `action`; a `to` that cannot be filled in for a request is its 400 (see wire/http1_redirect)."""

    def answer(head: RequestHead, port: int) -> bytes:
        location = expand(action.to, head, port)
        return response(action.status, headers={"Location": location}, method=head.method)

    return answer


def respond(action: Respond) -> Answer:
    body = action.body.encode()
    return lambda head, port: response(action.status, body, action.headers, method=head.method)


def block(action: Block) -> Answer:
    return lambda head, port: response(action.status, b"blocked\n", method=head.method)


async def linger(session: Session, stream: Stream) -> None:
    """End our side, and read until the client ends its own or has had time enough to read the answer."""
    session.enter("linger", LINGER)
    stream.finish()
    plain = stream if isinstance(stream, Plain) else stream.plain
    if not isinstance(stream, Plain):
        plain.finish()
    left = LINGER_BYTES
    while left > 0:
        data = plain.recv()
        if data is None:
            await WAIT
        elif not data:
            return
        else:
            left -= len(data)
