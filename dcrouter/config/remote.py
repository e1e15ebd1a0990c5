"""The mail half apart from the edge: where it listens, and whom it believes."""

from __future__ import annotations

from attrs import field, frozen

from dcrouter.config.forms import Port, key
from dcrouter.config.match import Address, Network

ABOVE = 10_000
"""Added to a mail port for the one between the halves."""


@frozen(kw_only=True)
class Remote:
    """The mail half is a service of its own (`dcrouter run --only mail`), on another host or on this one."""

    host: Address = field(metadata=key("Where the mail half listens, and the edge sends."))
    from_: tuple[Network, ...] = field(
        metadata=key(
            "Networks of the edges, which begin with a PROXY header; others are turned away.",
            name="from",
            nonempty="no edge could send anything",
        )
    )
    ports: dict[Port, Port] = field(
        factory=dict,
        metadata=key("Mail port: the one between the halves, such as {25: 10025}.", default="10000 more for each"),
    )

    def port(self, outer: int) -> int:
        """The port between the halves for one that clients connect to."""
        return self.ports.get(outer, outer + ABOVE)
