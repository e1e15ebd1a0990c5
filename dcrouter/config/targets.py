"""Where bytes go: targets, how one of several is picked, and how TLS towards them is spoken."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.forms import ReadPath, ServerName, TargetHost, TargetPort, counted, key

Balance = Literal["round-robin", "least-connections", "hash-client-ip", "random-two", "failover"]
MailBalance = Literal["round-robin", "failover"]


@frozen(kw_only=True)
class SimpleTarget:
    """Where bytes go: {host, port} or {unix}.

    On a route `port` None means `preserve`.
    """

    host: TargetHost | None = field(
        default=None, metadata=key("Name or address; names are resolved again and again, and kept fresh.")
    )
    port: TargetPort = field(default=None, metadata=key("Port of the target.", default="required beside `host`"))
    unix: ReadPath | None = field(default=None, metadata=key("Path of a unix socket, instead of host and port."))


@frozen(kw_only=True)
class Target(SimpleTarget):
    """Where bytes of a route go: {host, port} or {unix}, and how much of them."""

    weight: Annotated[int, counted(1, 1000)] = field(
        default=1, metadata=key("Its share among the targets, as `balance` deals it out; failover takes no notice.")
    )
    backup: bool = field(default=False, metadata=key("Whether it stands in only while no other target will do."))


@frozen(kw_only=True)
class UpstreamTls:
    """How the target is spoken to under terminate-and-reencrypt."""

    verify: bool = field(default=True, metadata=key("Whether the target must prove who it is."))
    server_name: ServerName | None = field(
        default=None, metadata=key("The name the target must prove, and its SNI.", default="the target's host")
    )
    ca: ReadPath | None = field(
        default=None, metadata=key("PEM file of the authorities to trust.", default="the system's")
    )
