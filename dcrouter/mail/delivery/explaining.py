"""How mail to one recipient would leave now, and why: rule, zone, source, hosts, way, TLS, limits and pauses.

Nothing is connected to and nothing is counted; DNS is asked as it is for mail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.rules import Mta
from dcrouter.config.units import shown
from dcrouter.config.zones import Source
from dcrouter.errors import WireError
from dcrouter.interfaces import Departure
from dcrouter.mail.bounces.suppression import refusal
from dcrouter.mail.delivery.course import Stage, versions_of
from dcrouter.mail.delivery.egress.egress import Egress, Leg
from dcrouter.mail.delivery.exchange import ascii_or_as_it_is
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.outbound import Outbound
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Failed
from dcrouter.mail.envelope import Client
from dcrouter.mail.message import parse_name
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.lane import Lane
from dcrouter.mail.shaping.pauses import ALL
from dcrouter.mail.shaping.shaping import Shaping
from dcrouter.mail.shaping.sources import rendezvous
from dcrouter.mail.shaping.zones import Zones
from dcrouter.wire.smtp.address import parse_path, split

OURSELVES = Client(address="127.0.0.1", kind="smtp", trusted=True)
"""Whose mail it is, for rules and zones: that of a client that may relay, on this host."""

Plain = dict[str, Any]


class Explainer:
    """Of one mail process."""

    def __init__(self, shaping: Shaping, outbound: Outbound, egress: Egress, rules: Rules, zones: Zones) -> None:
        self._shaping = shaping
        self._outbound = outbound
        self._egress = egress
        self._rules = rules
        self._zones = zones

    def ask(self, fields: Mapping[str, Any]) -> Deferred[Plain]:
        """For {"recipient": address, "sender": address or "", "zone": name or None, "message": id or None}."""
        return Deferred.fromCoroutine(self._ask(fields))

    async def _ask(self, fields: Mapping[str, Any]) -> Plain:
        try:
            recipient = _address(str(fields.get("recipient", "")))
            sender = _address(str(fields.get("sender") or ""), empty=True)
            zone = fields.get("zone")
            if zone is not None and zone not in self._shaping.limits.zone_names():
                raise ValueError(f"there is no zone {shown(str(zone))}")
            message = parse_name(str(fields["message"])) if fields.get("message") else None
        except ValueError as error:
            return {"error": str(error), "status": 400}
        decision = self._rules.decide(recipient, OURSELVES, sender)
        rule = decision.rule
        answer: Plain = {"recipient": recipient, "rule": rule.name if rule is not None else None}
        answer["action"] = rule.action.type if rule is not None else "reject"
        if rule is None or not isinstance(rule.action, Mta):
            return {**answer, "leaves": False, "why": "no rule of type mta takes it"}
        if zone is not None:
            name, why = str(zone), "asked for"
        elif rule.action.zone is not None:
            name, why = rule.action.zone, f"rule {rule.name}"
        else:
            name = self._zones.of(OURSELVES, sender, b"")(recipient)
            name, why = (name, "its match") if name else ("default", "no other")
        return await self._leaving(answer, decision.address, self._shaping.limits.zone_name(name), why, message)

    async def _leaving(self, answer: Plain, recipient: str, zone: str, why: str, message: int | None) -> Plain:
        limits, pauses = self._shaping.limits, self._shaping.pauses
        domain = ascii_or_as_it_is(split(recipient)[1].lower())
        entry = limits.domain(domain)
        pool = limits.zone(zone).pool
        course = [ALL, f"zone {zone}", f"domain {domain}"]
        names = list(course)
        answer |= {"zone": zone, "zone_by": why, "pool": pool, "domain": domain, "hosts": []}
        gates: list[Gate] = []
        found = await self._outbound.exchangers.of(domain)
        suppressed = self._outbound.suppressed(recipient)
        if suppressed is not None:
            problem: str | None = refusal(recipient, suppressed)
        else:
            problem = found.reply if isinstance(found, Later | Failed) else self._stopped(course)
        for exchanger in () if isinstance(found, Later | Failed) else found:
            hop = self._outbound.hop(exchanger, entry)
            stage = self._outbound.stage(Leg(hop, exchanger.addresses), domain, entry)
            gates += limits.gates(hop, Lane(zone=zone, domain=entry)).all
            names += stage.gates
            departure = Departure(host=exchanger.host, port=hop.port, zone=zone, recipient=recipient)
            way = self._egress.explain(departure, exchanger.addresses)
            answer["hosts"].append(
                {
                    "host": exchanger.host,
                    "preference": exchanger.preference,
                    "addresses": list(exchanger.addresses),
                    "against": self._against(pool, stage, way),
                    "tls": _tls(hop),
                    "limits": list(stage.gates),
                    "way": way,
                    "sources": self._sources(pool, stage, message) if _leaves_straight(way) else [],
                }
            )
        names += [f"source {source.address}" for source in self._shaping.sources.pool(pool or "")]
        held = [pause for pause in pauses.all() if pause.what in names or pause.what.partition(" for ")[2] in names]
        answer["limits"] = [_limit(gate) for gate in dict.fromkeys(gates)]
        answer["pauses"] = [{**pause.plain(), "seconds": pauses.remaining(pause)} for pause in held]
        against = [host["against"] for host in answer["hosts"]]
        if problem is None and all(against):
            problem = "; ".join(dict.fromkeys(against))
        answer["leaves"] = problem is None
        answer["why"] = problem
        return answer

    def _stopped(self, names: Sequence[str]) -> str | None:
        """Why nothing goes to what has one of these names."""
        pauses = self._shaping.pauses
        pause = pauses.first(names, "bounce") or pauses.first(names)
        return None if pause is None else str(pause)

    def _against(self, pool: str | None, stage: Stage, way: Plain) -> str | None:
        """Why nothing goes to a host now."""
        stopped = self._stopped(stage.gates)
        if stopped is not None or pool is None or way["way"] != "direct":
            return stopped
        if self._shaping.sources.usable(pool, stage.gates, versions_of(stage)):
            return None
        return f"no source of pool {pool} can be used"

    def _sources(self, pool: str | None, stage: Stage, message: int | None) -> list[Plain]:
        """In the order in which the message would take them; without one, as the pool has them."""
        sources = self._shaping.sources
        own: list[Source] = list(sources.pool(pool or ""))
        chosen = None
        if message is not None and pool is not None:
            own = rendezvous(f"{message:x}", own)
            chosen = sources.choose(pool, message, "", stage.gates, versions_of(stage), stage.provider)
        begun = [source for source in own if sources.has_begun(source)] or own
        weights = sum(source.weight for source in begun)
        told = []
        for source in own:
            left = sources.left(source, stage.provider)
            told.append(
                {
                    "address": str(source.address),
                    "name": source.name,
                    "share": round(source.weight / weights, 4) if source in begun else 0.0,
                    "begins": None if source.warmup is None or sources.has_begun(source) else source.warmup.start,
                    "left_today": None if left == inf else max(0, int(left)),
                    "against": sources.against(source, stage.gates, versions_of(stage)) or None,
                    "chosen": source is chosen if message is not None else None,
                }
            )
        return told


def _leaves_straight(way: Plain) -> bool:
    """Whether some of it has, or may have, an address of ours."""
    ways = [way, *way.get("by_address", {}).values()]
    return any(one["way"] not in ("proxy", "endpoint") or one.get("on_failure") == "direct" for one in ways)


def _limit(gate: Gate) -> Plain:
    """What a gate lets through now."""
    rates = [rate for rate in (gate.rate, gate.brake) if rate is not None]
    return {
        "name": gate.name,
        "connections": None if gate.size == inf else int(gate.size),
        "used": gate.used,
        "messages_per_connection": None if gate.messages == inf else int(gate.messages),
        "connection_time": None if gate.seconds == inf else gate.seconds,
        "rates": [{"count": rate.rate[0], "seconds": rate.rate[1], "burst": rate.burst} for rate in rates],
        "free": None if gate.free() == inf else int(gate.free()),
        "next_in": round(gate.wait(), 3),
        "waiting": gate.waiting,
    }


def _tls(hop: NextHop) -> Plain:
    """What a session must have."""
    policy = "dane" if hop.dane is not None else "mta-sts" if hop.tested else None
    return {"tls": hop.tls, "policy": policy, "records": len(hop.dane.records) if hop.dane is not None else None}


def _address(text: str, *, empty: bool = False) -> str:
    if empty and text in ("", "<>"):
        return ""
    try:
        address, rest = parse_path(f"<{text.removeprefix('<').removesuffix('>')}>", utf8=True)
    except WireError as error:
        raise ValueError(f"{shown(text)} is not a mail address: {error}") from None
    if rest:
        raise ValueError(f"{shown(text)} is not a mail address")
    return address
