"""What the operator wrote about running it: the admin socket, logs, and the whole file as one value."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from dcrouter.config.mail import Email
from dcrouter.config.routes import Address, Defaults, Http, ProxyProtocol, Route
from dcrouter.config.tls import Certificates, TlsProfile

LogLevel = Literal["debug", "info", "warn", "error"]


@frozen(kw_only=True)
class Log:
    """`file`: a path, or None for standard output."""

    level: LogLevel = "info"
    format: Literal["json", "text"] = "json"
    file: Path | None = None


@frozen(kw_only=True)
class AccessLog:
    """`sample`: the share of finished connections that get a line, 0 to 1."""

    file: Path
    sample: float = 1.0


@frozen(kw_only=True)
class Admin:
    """`socket`: the unix socket of the command line, 0600."""

    socket: Path


@frozen(kw_only=True)
class Config:
    """routes.yaml, checked, with all paths absolute and all defaults applied."""

    version: Literal[1] = 1
    state_dir: Path
    user: str | None = None
    group: str | None = None
    listen: tuple[Address, ...] = (IPv4Address("0.0.0.0"), IPv6Address("::"))
    admin: Admin
    log: Log = field(factory=Log)
    access_log: AccessLog | None = None
    tls: TlsProfile = field(factory=TlsProfile)
    certificates: Certificates = field(factory=Certificates)
    proxy_protocol: tuple[ProxyProtocol, ...] = ()
    http: Http = field(factory=Http)
    defaults: Defaults = field(factory=Defaults)
    routes: tuple[Route, ...] = ()
    email: Email | None = None
