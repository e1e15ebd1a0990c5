"""What the operator wrote about DNS."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.forms import Duration, ServerAddress, key

AddressOrder = Literal["ipv4-first", "ipv6-first", "ipv4", "ipv6"]


@frozen(kw_only=True)
class Resolver:
    """Whom to ask for the addresses of targets, and for what mail needs.

    `servers` None: those of /etc/resolv.conf.
    """

    servers: tuple[ServerAddress, ...] | None = field(
        default=None,
        metadata=key(
            "Addresses of servers, as `192.0.2.53` or `127.0.0.1:5353`.",
            nonempty="nobody could be asked",
            default="the system's",
        ),
    )
    trust_ad: Literal["auto", "true", "false"] = field(
        default="auto",
        metadata=key("Whether the servers' word that an answer is DNSSEC-valid counts; `auto`: of loopback ones."),
    )
    timeout: Duration = field(default=5.0, metadata=key("For a whole answer, all servers tried."))
    addresses: AddressOrder = field(
        default="ipv4-first", metadata=key("Which addresses of a host are tried, and first.")
    )
