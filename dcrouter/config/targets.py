"""Where bytes go: targets, how one of several is picked, and how TLS towards them is spoken."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.forms import ReadPath, ServerName, TargetHost, TargetPort, key

Balance = Literal["round-robin", "failover"]


@frozen(kw_only=True)
class Target:
    """Where bytes go: {host, port} or {unix}.

    On a route `port` None means `preserve`.
    """

    host: TargetHost | None = field(
        default=None, metadata=key("Name or address; names are resolved again and again, and kept fresh.")
    )
    port: TargetPort = field(default=None, metadata=key("Port of the target.", default="required beside `host`"))
    unix: ReadPath | None = field(default=None, metadata=key("Path of a unix socket, instead of host and port."))


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
