"""What must hold within one value of the file, whatever stands around it; run while the file is read.

Each function gets a value and its place, tells what is wrong, and gives the value on: as it was, or completed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from dcrouter.config.actions import Block, Forward, MailHandover, Redirect, Respond, Static
from dcrouter.config.admin import Config
from dcrouter.config.checks.acme import ACME
from dcrouter.config.checks.egress import EGRESS
from dcrouter.config.checks.http import HTTP, check_http
from dcrouter.config.checks.knowable import check_knowable, check_tls_alpn
from dcrouter.config.checks.upstreams import UPSTREAMS, check_upstreams, targets_of
from dcrouter.config.match import PortRange
from dcrouter.config.place import Place
from dcrouter.config.resolver import Resolver
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.security import MinRate
from dcrouter.config.targets import SimpleTarget, Target
from dcrouter.config.times import TimeWindow

Within = Callable[[Any, Place], Any]

LONGEST_SOCKET = 107
"""Bytes of a unix socket's path (unix(7))."""


def _ports(ports: PortRange, place: Place) -> PortRange:
    if ports.start > ports.end:
        place.fail(f"goes from {ports.start} down to {ports.end}")
    return ports


def _target(target: SimpleTarget, place: Place) -> SimpleTarget:
    if (target.host is None) == (target.unix is None):
        place.fail("needs either 'host' or 'unix'" + ("" if target.host is None else ", not both"))
    if target.unix is not None and place.says("port"):
        place.at("port").fail("a unix socket has no port")
    if target.unix is not None:
        check_socket(target.unix, place.at("unix"))
    return target


def check_socket(path: Path, place: Place) -> None:
    """Tells of a path that no unix socket can have."""
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        place.tell(f"{path} is longer than the {LONGEST_SOCKET} bytes that a unix socket's path may have")


def check_admin(config: Config, root: Place) -> None:
    """The admin socket, which is in state_dir unless the file says otherwise."""
    admin = root.at("admin")
    check_socket(config.admin.socket, admin.at("socket") if admin.says("socket") else root.at("state_dir"))


def _forward(forward: Forward, place: Place) -> Forward:
    for target, where in targets_of(forward, place):
        if target.host is not None and not where.says("port"):
            where.tell("'port' is missing (a number, or preserve)")
    return forward


def _respond(respond: Respond, place: Place) -> Respond:
    if respond.body and respond.status in (204, 205, 304):
        place.at("body").tell(f"an answer with status {respond.status} has no body (RFC 9110 section 6.4.1)")
    return respond


def _block(block: Block, place: Place) -> Block:
    return evolve(block, answers=place.says("status"))


def _route_tls(tls: RouteTls, place: Place) -> RouteTls:
    if tls.mode == "passthrough" and place.says("certificate"):
        place.at("certificate").tell("a passthrough route shows the target's certificate and has none of its own")
    if tls.mode == "passthrough" and place.says("client_auth"):
        place.at("client_auth").tell("a passthrough route leaves clients' certificates to the target")
    if tls.mode != "terminate-and-reencrypt" and place.says("upstream"):
        place.at("upstream").tell("only terminate-and-reencrypt speaks TLS to the target")
    check_tls_alpn(tls, place)
    return tls


def _route(route: Route, place: Place) -> Route:
    action, tls = route.action, route.tls
    check_knowable(route, place)
    check_upstreams(route, place)
    check_http(route, place)
    if isinstance(action, MailHandover):
        if tls is not None:
            place.at("tls").tell("TLS of a mail route is the mail server's: leave it out")
    elif tls is not None and tls.mode == "passthrough":
        if isinstance(action, Redirect | Respond | Static):
            place.at("action", "type").tell(f"{action.type} cannot answer inside TLS that is passed through")
        elif isinstance(action, Block) and action.answers:
            place.at("action", "status").tell("block cannot answer inside TLS that is passed through")
    elif tls is not None and tls.mode == "terminate-and-reencrypt":
        if not isinstance(action, Forward):
            place.at("tls", "mode").tell(f"{action.type} has no target to re-encrypt for: terminate is enough")
        elif tls.upstream.verify and tls.upstream.server_name is None:
            for target, where in targets_of(action, place.at("action")):
                if target.unix is not None:
                    where.tell("a unix socket has no name to verify: say tls.upstream.server_name")
    return route


def _time(time: TimeWindow, place: Place) -> TimeWindow:
    if time.start == time.end:
        place.at("from" if place.says("from") else "to").tell("there is no time between `from` and `to`")
    return time


def _resolver(resolver: Resolver, place: Place) -> Resolver:
    if resolver.timeout <= 0:
        place.at("timeout").fail("no server could answer in no time")
    return resolver


def _min_rate(rate: MinRate, place: Place) -> MinRate:
    if rate.over < 1:
        place.at("over").tell("a period shorter than 1s says nothing about a client")
    return rate


def _config(config: Config, place: Place) -> Config:
    if config.state_dir.exists() and not config.state_dir.is_dir():
        place.at("state_dir").tell(f"{config.state_dir} is not a directory")
    return config


WITHIN: Mapping[type, Within] = {
    **ACME,
    **EGRESS,
    **HTTP,
    **UPSTREAMS,
    Block: _block,
    Config: _config,
    Forward: _forward,
    MinRate: _min_rate,
    PortRange: _ports,
    Resolver: _resolver,
    Respond: _respond,
    Route: _route,
    RouteTls: _route_tls,
    SimpleTarget: _target,
    Target: _target,
    TimeWindow: _time,
}
"""What must hold within a value of a class."""
