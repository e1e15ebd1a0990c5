"""The effective routes as a table for people, in the order in which connections meet them, and as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dcrouter.admin.report import aligned
from dcrouter.config.actions import Block, Forward, Handler, MailHandover, MailRelay, Redirect, Respond, Static
from dcrouter.config.admin import Config
from dcrouter.config.effective import Protocols, effective_routes
from dcrouter.config.match import PortRange
from dcrouter.config.order import order_key, spots
from dcrouter.config.routes import Route
from dcrouter.config.targets import Target
from dcrouter.config.times import DAY, DAYS, TimeWindow, clock
from dcrouter.config.tls import CertificateFiles
from dcrouter.wire.hostport import bracketed, hostport

COLUMNS = ("order", "name", "protocol", "listen", "match", "tls", "action")


def rows(config: Config) -> list[dict[str, Any]]:
    """One dict of COLUMNS and `generated` for each enabled route, by the best place that one of its names has."""
    effective = effective_routes(config)
    written = {route.name for route in config.routes}
    protocols = Protocols(effective, config.listen)
    places = {
        route.name: min(order_key(route, spot, index) for spot in spots(route.match))
        for index, route in enumerate(effective)
    }
    routes = sorted(effective, key=lambda route: places[route.name])
    return [
        {
            "order": number,
            "name": route.name,
            "protocol": protocols.of(route),
            "listen": _listen(route),
            "match": _match(route),
            "tls": _tls(route),
            "action": _action(route, protocols.of(route)),
            "generated": route.name not in written,
        }
        for number, route in enumerate(routes, 1)
    ]


def draw(table: Iterable[dict[str, Any]]) -> str:
    """Aligned columns with a head; generated routes are marked with an asterisk, which is explained below."""
    lines = [COLUMNS] + [
        tuple(str(row[column]) + ("*" if column == "name" and row["generated"] else "") for column in COLUMNS)
        for row in table
    ]
    text = "\n".join(aligned(lines))
    if any(line[1].endswith("*") for line in lines):
        text += "\n* made from `email.ports`"
    return text


def _listen(route: Route) -> str:
    ports = ",".join(_range(given) for given in route.match.ports)
    if route.match.listen is None:
        return ports
    return f"{','.join(bracketed(str(address)) for address in route.match.listen)}:{ports}"


def _range(given: PortRange) -> str:
    return str(given.start) if given.start == given.end else f"{given.start}-{given.end}"


def _match(route: Route) -> str:
    match = route.match
    parts = [",".join(match.domains)] if match.domains is not None else []
    if match.path is not None:
        parts.append(",".join(match.path))
    if match.methods is not None:
        parts.append(",".join(match.methods))
    parts += [f"{name}: {value}" for name, value in (match.headers or {}).items()]
    if match.alpn is not None:
        parts.append("alpn " + ",".join(match.alpn))
    if match.tls_versions is not None:
        parts.append(",".join(match.tls_versions))
    if match.client_ips is not None:
        parts.append("from " + ",".join(map(str, match.client_ips)))
    if match.time is not None:
        parts.append(_time(match.time))
    if route.priority:
        parts.append(f"priority {route.priority}")
    return "; ".join(parts) or "any"


def _time(window: TimeWindow) -> str:
    days = [DAYS[first] if first == last else f"{DAYS[first]}-{DAYS[last]}" for first, last in window.days or ()]
    hours = f"{clock(window.start)}-{clock(window.end)}" if window.start or window.end != DAY else ""
    return " ".join(filter(None, (",".join(days), hours, window.zone)))


def _tls(route: Route) -> str:
    if isinstance(route.action, MailHandover):
        return "mail server's"
    if route.tls is None:
        return "-"
    if route.tls.mode == "passthrough":
        return "passthrough"
    choice, auth = route.tls.certificate, route.tls.client_auth
    clients = f"; clients: {auth.mode}" if auth is not None else ""
    return f"{route.tls.mode} ({choice.cert.name if isinstance(choice, CertificateFiles) else choice}{clients})"


def _action(route: Route, protocol: str) -> str:
    action, ports = route.action, route.match.ports
    if isinstance(action, Forward):
        text = "forward to " + ", ".join(_target(target) for target in action.targets)
        if action.select is not None:
            text = f"forward as {action.select} says" + (
                f", else {text.removeprefix('forward ')}" if action.targets else ""
            )
        if len(action.targets) > 1:
            text += f" ({action.balance})"
        if action.through is not None:
            text += f" through {action.through}"
        return text if action.source is None else f"{text} from {action.source}"
    if isinstance(action, Redirect):
        return f"redirect {action.status} to {action.to}"
    if isinstance(action, Static):
        return f"static {action.root}"
    if isinstance(action, Respond):
        return f"respond {action.status}"
    if isinstance(action, Block):
        return f"block {action.status}" if protocol == "http" else "block"
    if isinstance(action, Handler):
        return f"handler {action.factory}"
    if isinstance(action, MailRelay):
        outer = dict.fromkeys(port for given in ports for port in range(given.start, given.end + 1))
        inner = dict.fromkeys(map(action.remote.port, outer))
        return f"mail ({action.kind}) at {hostport(str(action.remote.host), ','.join(map(str, inner)))}"
    return f"mail ({action.kind})"


def _target(target: Target) -> str:
    weight = "" if target.weight == 1 else f" weight {target.weight}"
    return target.label + weight + (" backup" if target.backup else "") + (" match" if target.match is not None else "")
