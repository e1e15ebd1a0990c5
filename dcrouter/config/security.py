"""Who may connect, and how often."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from dcrouter.config.forms import Duration, counted, key
from dcrouter.config.match import Network
from dcrouter.config.rates import Rate


@frozen(kw_only=True)
class MinRate:
    """The least that a connection must move, both ways together, to be kept: a floor, not a total time."""

    bytes: Annotated[int, counted(1)] = field(metadata=key("Bytes in each period."))
    over: Duration = field(metadata=key("The period."))


@frozen(kw_only=True)
class Security:
    """Who may connect, and how often at once; `block` beats `allow`. IPv6 clients are counted by /64."""

    allow: tuple[Network, ...] | None = field(
        default=None,
        metadata=key("Networks that may connect.", nonempty="nobody could connect", default="everyone"),
    )
    block: tuple[Network, ...] = field(default=(), metadata=key("Networks that may not; lists of both places add up."))
    max_connections: Annotated[int, counted(1)] | None = field(
        default=None, metadata=key("Connections at once.", default="by the descriptor limit")
    )
    max_connections_per_ip: Annotated[int, counted(1)] | None = field(
        default=None, metadata=key("Connections at once from one address.", default="no limit")
    )
    connection_rate_per_ip: Rate | None = field(
        default=None,
        metadata=key("New connections from one address in a time; only those let in are counted.", default="no limit"),
    )
    min_rate: MinRate | None = field(
        default=None,
        metadata=key("A connection that moves less is ended; silence is below every floor.", default="no floor"),
    )
