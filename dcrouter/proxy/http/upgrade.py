"""Upgrade: what a client offers, what of it a target hears, and the raw relay behind a 101 (RFC 9110 section 7.8).

Only WebSocket and protocols like it pass, that begin with the bytes behind the 101. `h2c` is not offered to targets:
its requests would be seen by nobody here, neither routed nor refused.
"""

from __future__ import annotations

from dcrouter.errors import TimedOut, TlsError, reason_of
from dcrouter.net.engine import FAILED
from dcrouter.net.relay import direction, relay
from dcrouter.net.stream import Stream
from dcrouter.proxy.http.errors import TargetFailed
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.wire.http1.head import RequestHead
from dcrouter.wire.http1.responsehead import ResponseHead

_NEVER = frozenset(("h2c", "h2", "http", "http/1.1", "http/2", "http/2.0", "http/3", "tls"))


def offered(head: RequestHead) -> str:
    """What of the client's offer a target is told, "" for nothing: no offer with a body, none of HTTP/1.0."""
    if not head.block.upgrade or head.has_body or head.version == "1.0":
        return ""
    protocols = [one.strip() for one in head.block.upgrade.split(",")]
    return ", ".join(one for one in protocols if one and one.partition("/")[0] not in _NEVER and one not in _NEVER)


async def upgrade(exchange: Exchange, target: Stream, head: ResponseHead, first: bytes) -> None:
    """Pass the 101 on, and then every byte; `first`: what came behind it. TargetFailed where nobody asked for it."""
    connection = exchange.connection
    session = connection.session
    offer = offered(exchange.head).split(", ")
    if not head.upgrade or head.upgrade.lower() not in offer:
        raise TargetFailed("a 101 that nobody asked for")
    exchange.status, exchange.started, exchange.keeps, exchange.upgraded = 101, True, False, True
    exchange.phase = "upgraded"
    lines = [head.first, *(line for _, line in head.lines)]
    lines += [b"Connection: Upgrade", b"Upgrade: " + head.upgrade.encode("latin-1"), b"\r\n"]
    assert exchange.route is not None
    timeouts = exchange.route.timeouts
    rest, connection.rest = connection.rest, b""
    forth = direction(connection.stream, target, session.edge.pipes, rest or None)
    back = direction(target, connection.stream, session.edge.pipes, b"\r\n".join(lines) + first)
    session.moving = forth, back
    connection.incoming, connection.outgoing = forth, back
    try:
        by = await relay(session.task, forth, back, connection.stream, target, timeouts.idle, timeouts.half_closed)
        exchange.answered = True
        session.end("client" if by == "client" else "target", "closed")
    except TimedOut:
        raise
    except (OSError, TlsError) as error:
        by_client = forth.source_failed or (not back.source_failed and session.plain.ready & FAILED)
        why = reason_of(error)
        exchange.end("client" if by_client else "target", why)
        session.end("client" if by_client else "target", why)
        (target if by_client else connection.stream).abort()
    finally:
        session.moving = None
        connection.incoming = connection.outgoing = None
        exchange.received += forth.count
        exchange.sent += back.count
        forth.release()
        back.release()
