"""Where bytes go: targets, how one of several is picked, and how TLS towards them is spoken."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.conditions import Method
from dcrouter.config.forms import ReadPath, ServerName, TargetHost, TargetPort, counted, key
from dcrouter.config.match import CLIENT_IPS, HEADERS, METHODS, PATH, Network
from dcrouter.config.paths import PathText
from dcrouter.config.times import TimeWindow
from dcrouter.config.tls import CertificateFiles
from dcrouter.wire.hostport import hostport

Balance = Literal["round-robin", "least-connections", "hash-client-ip", "random-two", "failover"]
MailBalance = Literal["failover", "round-robin", "least-connections", "random-two"]


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
class TargetMatch:
    """Which connections and requests a target is for; all conditions hold together, within one any of its values.

    Where it holds, only targets that are meant in this way are used; where none is, those without `match`.
    """

    client_ips: tuple[Network, ...] | None = field(default=None, metadata=CLIENT_IPS)
    path: tuple[PathText, ...] | None = field(default=None, metadata=PATH)
    methods: tuple[Method, ...] | None = field(default=None, metadata=METHODS)
    headers: dict[str, str] | None = field(default=None, metadata=HEADERS)
    time: TimeWindow | None = field(
        default=None,
        metadata=key("When it is meant.", nonempty="leave it out to match at all times", default="always"),
    )


@frozen(kw_only=True)
class Target(SimpleTarget):
    """Where bytes of a route go: {host, port} or {unix}, how much of them, and which."""

    weight: Annotated[int, counted(1, 1000)] = field(
        default=1, metadata=key("Its share among the targets, as `balance` deals it out; failover takes no notice.")
    )
    backup: bool = field(default=False, metadata=key("Whether it stands in only while no other target will do."))
    match: TargetMatch | None = field(
        default=None, metadata=key("Which connections and requests it is for.", default="those that no other is for")
    )

    @property
    def label(self) -> str:
        """`app.internal:8080`, `192.0.2.1:preserve`, `unix:/run/app.sock`."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        return hostport(self.host or "", "preserve" if self.port is None else self.port)


@frozen(kw_only=True)
class UpstreamTls:
    """How the target is spoken to under terminate-and-reencrypt."""

    verify: bool = field(default=True, metadata=key("Whether the target must prove who it is."))
    server_name: ServerName | None = field(
        default=None, metadata=key("The name the target must prove, and its SNI.", default="the target's host")
    )
    ca: ReadPath | None = field(
        default=None, metadata=key("PEM file of the authorities to trust; watched.", default="the system's")
    )
    client_certificate: CertificateFiles | None = field(
        default=None, metadata=key("What we show a target that asks who we are; watched.", default="nothing")
    )
