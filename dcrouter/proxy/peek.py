"""The first bytes of a connection, looked at and left in the socket: PROXY header, ClientHello.

Law 7: only what is new is parsed, SO_RCVLOWAT lets the engine sleep until it is worth another look, and it ends when
the client does. The deadline is the caller's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dcrouter.errors import WireError
from dcrouter.facts import Introduction
from dcrouter.net.engine import ENDED, IN, WAIT
from dcrouter.net.stream import Plain
from dcrouter.wire import clienthello, proxyheader
from dcrouter.wire.clienthello import MAX_HELLO, ClientHello

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

FIRST_LOOK = 4096
"""Today's ClientHello is about 1.7 KB."""


async def proxy_header(session: Session) -> None:
    """Read the PROXY header and take it out of the socket, byte for byte; the peer in the facts is the true one then.

    WireError where there is none: a peer that must introduce its clients and does not is not let in.
    """
    plain, facts = session.plain, session.facts
    data = b""
    while (header := proxyheader.parse(data) if data else None) is None:
        data = await _more(plain, len(data), FIRST_LOOK)
    _consume(plain, header.length)
    facts.via = facts.peer[0]
    if header.source is not None:
        facts.peer = header.source
        facts.introduction = Introduction(header.destination, header.told)
    # LOCAL and UNKNOWN speak for the proxy itself (its health checks): the peer is the proxy then.


async def first_bytes(session: Session) -> ClientHello | None:
    """What the client begins with, all of it still in the socket: a ClientHello, or something else."""
    plain = session.plain
    data = await _more(plain, 0, FIRST_LOOK)
    if clienthello.looks_like_tls(data):
        return clienthello.parse(data) or await _rest_of_hello(plain, data)
    return None


async def request_head(plain: Plain, begin: bytes, most: int) -> bytes:
    """The head of a request from its method on, all of it still in the socket, or its first `most` bytes; b"" as soon
    as it begins otherwise than with `begin`. ConnectionError at the client's end.
    """
    data = b""
    while True:
        data = await _more(plain, len(data), most)
        if not data.startswith(begin[: len(data)]):
            return b""
        if len(data) >= max(len(begin), 1) and (b"\r\n\r\n" in data or len(data) >= most):
            return data


async def _rest_of_hello(plain: Plain, data: bytes) -> ClientHello:
    low_water = 1
    while (hello := clienthello.parse(data)) is None:
        needed = clienthello.needed(data)
        if needed > len(data) + 1:
            plain.wake_at(needed)
            low_water = needed
        data = await _more(plain, len(data), min(MAX_HELLO + 5, max(needed, FIRST_LOOK)))
    if low_water != 1:
        plain.wake_at(1)
        plain.ready |= IN  # the hello itself is still to be read
    return hello


async def _more(plain: Plain, seen: int, size: int) -> bytes:
    """Everything from the first byte on, once there is more than `seen` of it. ConnectionError at the client's end."""
    while True:
        data = plain.peek(size)
        if data is not None:
            if len(data) > seen:
                return data
            if plain.ready & ENDED or not data:
                raise ConnectionResetError(0, "closed before it said what it wants")
            if len(data) >= size:
                raise WireError("too many bytes before a decision")
            plain.ready &= ~IN
        await WAIT


def _consume(plain: Plain, size: int) -> None:
    """Take `size` bytes that were peeked out of the socket."""
    while size:
        data = plain.sock.recv(size)
        size -= len(data)
    plain.ready |= IN


def discard(plain: Plain) -> None:
    """Read away what was peeked, so that closing sends an end and not a reset, which would swallow our last word."""
    with contextlib.suppress(OSError):
        plain.sock.recv(MAX_HELLO)
