"""`security.min_rate` on http routes: what a client must move while a request of its is under way.

A period in which it waits for the target does not count: only one at whose end the rest of its request is due, or it
does not read what it is sent. Between requests `http.keep_alive` is the measure, and `http.request_timeout` for heads.
A connection that has become something else (Upgrade) is like one of a tcp route.
"""

from __future__ import annotations

from functools import partial

from dcrouter.config.security import MinRate
from dcrouter.net.engine import OUT
from dcrouter.net.floor import Floor
from dcrouter.proxy.http.exchange import Exchange


def floor(exchange: Exchange, least: MinRate) -> Floor:
    """For one exchange, from now on."""
    return Floor(
        exchange.connection.session.task, least, partial(_moved, exchange), partial(_waits_for_client, exchange)
    )


def _moved(exchange: Exchange) -> int:
    connection = exchange.connection
    under_way = (one.count for one in (connection.incoming, connection.outgoing) if one is not None)
    return exchange.received + exchange.sent + sum(under_way)


def _waits_for_client(exchange: Exchange) -> bool:
    connection = exchange.connection
    if exchange.upgraded or not connection.session.plain.ready & OUT:
        return True
    return connection.incoming is not None and not connection.incoming.done
