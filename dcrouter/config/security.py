"""Who may connect, and how often."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from dcrouter.config.forms import counted, key
from dcrouter.config.match import Network


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
