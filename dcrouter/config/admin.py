"""What the operator wrote about running it: the admin socket, logs, and the whole file as one value."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from attrs import Factory, field, frozen

from dcrouter.config.forms import LogFile, ReadPath, Share, WrittenPath, key
from dcrouter.config.lines import Group, User
from dcrouter.config.mail import Email
from dcrouter.config.match import Address
from dcrouter.config.resolver import Resolver
from dcrouter.config.routes import Defaults, Http, ProxyProtocol, Route
from dcrouter.config.tls import Certificates, TlsProfile

LogLevel = Literal["debug", "info", "warn", "error"]


@frozen(kw_only=True)
class Log:
    """What happens, for the operator."""

    level: LogLevel = field(default="info", metadata=key("The least important lines that are written."))
    format: Literal["json", "text"] = field(default="json", metadata=key("For machines, or for people."))
    file: LogFile = field(default=None, metadata=key("Where to; opened anew on SIGUSR1.", default="stdout"))


@frozen(kw_only=True)
class AccessLog:
    """One JSON line for each finished connection and each delivery."""

    file: WrittenPath = field(metadata=key("Where to; opened anew on SIGUSR1."))
    sample: Share = field(default=1.0, metadata=key("The share of them that gets a line."))


@frozen(kw_only=True)
class Admin:
    """The door of the command line."""

    socket: WrittenPath = field(
        default=Path("admin.sock"), metadata=key("Unix socket, for its owner only.", default="state_dir/admin.sock")
    )


@frozen(kw_only=True)
class Config:
    """Everything that routes.yaml says.

    The value is checked; its paths are absolute, and all defaults are applied.
    """

    version: Literal[1] = field(default=1, metadata=key("Version of this format."))
    state_dir: ReadPath = field(
        metadata=key("Certificates, the mail queue, the admin socket; for its owner only (0700).", default="./state")
    )
    user: User | None = field(
        default=None, metadata=key("Whom to become after binding.", default="nobody else: no change")
    )
    group: Group | None = field(
        default=None, metadata=key("Which group to become after binding.", default="the user's own")
    )
    listen: tuple[Address, ...] = field(
        default=(IPv4Address("0.0.0.0"), IPv6Address("::")),
        metadata=key("Addresses on which every port of every route is bound.", nonempty="nothing would be bound"),
    )
    resolver: Resolver = field(
        factory=Resolver,
        metadata=key("Whom to ask for the addresses of targets, and for those and MX records of mail."),
    )
    admin: Admin = field(
        default=Factory(lambda self: Admin(socket=self.state_dir / "admin.sock"), takes_self=True),
        metadata=key("The door of the command line."),
    )
    log: Log = field(factory=Log, metadata=key("What happens, for the operator."))
    access_log: AccessLog | None = field(
        default=None,
        metadata=key("One JSON line for each finished connection and each delivery.", default="none is written"),
    )
    tls: TlsProfile = field(factory=TlsProfile, metadata=key("The profile of every TLS session that is ended here."))
    certificates: Certificates = field(factory=Certificates, metadata=key("Where certificates come from."))
    proxy_protocol: tuple[ProxyProtocol, ...] = field(
        default=(), metadata=key("Who must begin with a PROXY header.", default="nobody")
    )
    http: Http = field(factory=Http, metadata=key("What holds for HTTP on every route."))
    defaults: Defaults = field(factory=Defaults, metadata=key("What holds where a route does not say otherwise."))
    routes: tuple[Route, ...] = field(default=(), metadata=key("Where connections go."))
    email: Email | None = field(default=None, metadata=key("The mail half.", default="no mail is taken"))
