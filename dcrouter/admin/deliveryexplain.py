"""`dcrouter explain delivery`: how mail to a recipient would leave now. The service answers: it knows what holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from dcrouter.admin.client import ask
from dcrouter.admin.pauses import pause_lines
from dcrouter.admin.places import mail_socket
from dcrouter.admin.report import duration, word


def explained_delivery(arguments: argparse.Namespace) -> int:
    """The command. Exit status 1 where it would not leave now."""
    wanted = {"recipient": arguments.address, "sender": arguments.sender}
    wanted |= {name: value for name, value in (("zone", arguments.zone), ("message", arguments.message)) if value}
    answer = ask(mail_socket(arguments), "GET", f"/delivery?{urlencode(wanted)}")
    print(json.dumps(answer, indent=1) if arguments.json else "\n".join(delivery_lines(answer)))
    return 0 if answer["leaves"] else 1


def delivery_lines(answer: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield word(f"{answer['recipient']}: rule {answer['rule'] or 'default_action'}, {answer['action']}")
    if "zone" not in answer:
        yield word(answer["why"])
        return
    pool = f", pool {answer['pool']}" if answer["pool"] is not None else ", from the host's own address"
    yield word(f"zone {answer['zone']} ({answer['zone_by']}){pool}")
    if answer["why"] is not None:
        yield word(f"does not leave now: {answer['why']}")
    for host in answer["hosts"]:
        against = f", not now: {host['against']}" if host["against"] else ""
        yield word(f"{host['preference']} {host['host']}: {', '.join(host['addresses'])}{against}")
        yield word(f"  TLS {host['tls']['tls']}" + (f" by {host['tls']['policy']}" if host["tls"]["policy"] else ""))
        yield word(f"  {_way(host['way'])}")
        for address, way in host["way"].get("by_address", {}).items():
            yield word(f"    {address}: {_way(way)}")
        for source in host["sources"]:
            yield word(f"  {_source(source)}")
    for limit in answer["limits"]:
        yield word(f"{limit['name']}: {', '.join(_numbers(limit))}")
    if answer["pauses"]:
        yield from pause_lines(answer["pauses"])


def _way(way: dict[str, Any]) -> str:
    by = f" (egress[{way['rule']}])" if way["rule"] is not None else ""
    if way["way"] == "proxy":
        down = f", down: {way['down']}" if way.get("down") else ""
        straight = "; else straight" if way["on_failure"] == "direct" else ""
        return f"through {', '.join(way['through'])}{by}, from its address{down}{straight}"
    if way["way"] == "direct":
        return f"straight{by}"
    return f"by {way.get('endpoint') or way.get('select')}{by}"


def _source(source: dict[str, Any]) -> str:
    parts = [f"from {source['address']}" + (f" as {source['name']}" if source["name"] else "")]
    parts.append(f"{source['share']:.0%} of the mail")
    if source["begins"] is not None:
        parts.append(f"warming up from {source['begins']} on")
    elif source["left_today"] is not None:
        parts.append(f"warming up, {source['left_today']} more today")
    if source["against"]:
        parts.append(f"not now: {source['against']}")
    if source["chosen"]:
        parts.append("this message")
    return ", ".join(parts)


def _numbers(limit: dict[str, Any]) -> Iterator[str]:
    most = f" of {limit['connections']}" if limit["connections"] is not None else ""
    yield f"{limit['used']}{most} connections"
    if limit["messages_per_connection"] is not None:
        yield f"{limit['messages_per_connection']} messages on each"
    if limit["connection_time"] is not None:
        yield f"{duration(limit['connection_time'])} each"
    for rate in limit["rates"]:
        burst = f", {rate['burst']} at once" if rate["burst"] is not None else ""
        yield f"{rate['count']} messages in {duration(rate['seconds'])}{burst}"
    if limit["rates"]:
        yield f"{limit['free']} now" if limit["free"] else f"the next in {duration(limit['next_in'])}"
    if limit["waiting"]:
        yield f"{limit['waiting']} waiting"
