"""The gates of one mail process: of its zones, of providers and domains that have entries, of single hosts, of all.

Their names are what operators read: `zone default`, `provider google`, `domain example.net`, `host mx.example.org:25`.
What a gate knows outlives a reload; a host's is forgotten with the next hop, once nothing is lost by that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime

from dcrouter.config.mail import Email
from dcrouter.config.names import hostname
from dcrouter.config.rates import Rate
from dcrouter.config.rules import OutboundTls
from dcrouter.config.zones import DEFAULT, Shape, Zone
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.gates import Gates
from dcrouter.mail.shaping.lane import Lane
from dcrouter.mail.shaping.spent import Spent

MOST_CONNECTIONS = 1000
"""To all next hops at once; each is a descriptor, and a session for somebody else."""

FORWARDED = 20
"""Connections to one next hop that a rule names, which are nobody else's."""

CARRIED = 100
"""Messages on one connection; then it is opened anew, so that a next hop behind a balancer gets its share."""

STANDARD = Shape(connections=10, messages_per_connection=CARRIED, tls="opportunistic", dane=True, mta_sts=True)
"""What a destination bears of which nothing is said."""


@frozen(kw_only=True)
class Bearing:
    """What is said of a destination. `name`: that of its gate."""

    name: str
    shape: Shape


class Limits:
    """`clock` has the timers, `now` gives seconds that never go back. `recovered` hears the name of a gate behind which
    too many have waited. `size`: connections in all. `braked`: the rate that a gate of this name is slowed down to.
    `spent`: what has left by rates before a restart.
    """

    def __init__(
        self,
        clock: IReactorTime,
        recovered: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        size: int = MOST_CONNECTIONS,
        spent: Spent | None = None,
    ) -> None:
        self._clock = clock
        self._now = now
        self.braked: Callable[[str], Rate | None] = lambda name: None
        self._recovered = recovered
        self._spent = spent
        self._zones: dict[str, Zone] = {}
        self._default = STANDARD
        self._domains: dict[str, Shape] = {}
        self._providers: dict[str, Shape] = {}
        self._suffixes: dict[str, str] = {}
        self._kept: dict[str, Gate] = {}
        self._hosts: WeakValueDictionary[str, Gate] = WeakValueDictionary()
        self._all = self._gate("all connections")
        self._all.size = size
        self._all.kept = True

    def reload(self, email: Email) -> None:
        """As another configuration says, from now on and for the connections that there are."""
        self._zones = email.zones
        self._default = _filled(email.destinations.get(DEFAULT, STANDARD), STANDARD)
        named = {name: shape for name, shape in email.destinations.items() if name != DEFAULT}
        self._providers = {name: _filled(one, self._default) for name, one in named.items() if one.mx is not None}
        self._domains = {hostname(name): _filled(one, self._default) for name, one in named.items() if one.mx is None}
        self._suffixes = {suffix: name for name, shape in self._providers.items() for suffix in shape.mx or ()}
        for name in (*self._zones, DEFAULT):
            self._limit_zone(self._named(f"zone {name}"), self.zone(name))
        for kind, shapes in (("provider", self._providers), ("domain", self._domains)):
            for name, shape in shapes.items():
                _limit(self._named(f"{kind} {name}"), shape)
        for gate in list(self._hosts.values()):
            _limit(gate, self._default)

    def close(self) -> None:
        for gate in (*self._kept.values(), *self._hosts.values()):
            gate.stop()

    def zone(self, name: str) -> Zone:
        """The zone of that name; `default`, where there is none of it any more."""
        return self._zones.get(name) or self._zones.get(DEFAULT) or Zone()

    def zone_names(self) -> list[str]:
        """All that there are."""
        return list(dict.fromkeys((*self._zones, DEFAULT)))

    def provider_names(self) -> list[str]:
        return list(self._providers)

    def zone_name(self, name: str) -> str:
        """The one that mail of a zone has, whatever has become of that."""
        return name if name in self._zones else DEFAULT

    def provider(self, host: str) -> str | None:
        """Whose host it is: the entry with the longest suffix."""
        if not self._suffixes:
            return None
        labels = host.lower().split(".")
        suffixes = (".".join(labels[at:]) for at in range(len(labels)))
        return next((self._suffixes[one] for one in suffixes if one in self._suffixes), None)

    def domain(self, domain: str) -> str:
        """The domain, in lower case and as A-labels, if it has an entry; else ""."""
        return domain if domain in self._domains else ""

    def bearings(self, host: str, target: str, domain: str) -> Iterator[Bearing]:
        """What is said of a host for recipients of a domain (with an entry, or ""), the most special first."""
        if domain in self._domains:
            yield Bearing(name=f"domain {domain}", shape=self._domains[domain])
        provider = self.provider(host)
        if provider is not None:
            yield Bearing(name=f"provider {provider}", shape=self._providers[provider])
        elif domain not in self._domains:
            yield Bearing(name=f"host {target}", shape=self._default)

    def tls(self, host: str, domain: str) -> OutboundTls:
        """How a host is spoken to; what is stricter counts."""
        said = {bearing.shape.tls for bearing in self.bearings(host, "", domain)}
        return "required" if "required" in said else "opportunistic" if "opportunistic" in said else "none"

    def obeyed(self, host: str, domain: str) -> tuple[bool, bool]:
        """Whether DANE and MTA-STS are, for an exchanger of a domain (any)."""
        shapes = [bearing.shape for bearing in self.bearings(host, "", domain)]
        return all(shape.dane for shape in shapes), all(shape.mta_sts for shape in shapes)

    def gates(self, hop: NextHop, lane: Lane | None) -> Gates:
        """Those of a next hop; `lane` None: a rule names it."""
        if lane is None:
            own = self._gate(f"host {hop.target}")
            own.limit(FORWARDED, CARRIED, float("inf"), None)
            return Gates((self._all, own))
        assert hop.host is not None
        found = [self._all, self._named(f"zone {lane.zone}")]
        for bearing in self.bearings(hop.host, hop.target, lane.domain):
            if bearing.name.startswith("host "):
                gate = self._hosts.get(bearing.name)
                if gate is None:
                    gate = self._hosts[bearing.name] = self._gate(bearing.name)
                    _limit(gate, bearing.shape)
                found.append(gate)
            else:
                found.append(self._named(bearing.name))
        return Gates(found)

    def find(self, name: str) -> Gate | None:
        """The gate of that name, if there is one now."""
        return self._kept.get(name) or self._hosts.get(name)

    def _named(self, name: str) -> Gate:
        gate = self._kept.get(name)
        if gate is None:
            gate = self._kept[name] = self._gate(name)
            gate.kept = True
            if name.startswith("zone "):
                self._limit_zone(gate, self.zone(name.removeprefix("zone ")))
        return gate

    def _gate(self, name: str) -> Gate:
        gate = Gate(name, self._clock, self._now, self._recovered, self._spent)
        gate.slow_down(self.braked(name))
        return gate

    def _limit_zone(self, gate: Gate, zone: Zone) -> None:
        gate.limit(zone.connections, zone.messages_per_connection, zone.connection_time, zone.rate)


def _limit(gate: Gate, shape: Shape) -> None:
    assert shape.connections is not None and shape.messages_per_connection is not None
    gate.limit(shape.connections, shape.messages_per_connection, float("inf"), shape.rate)


def _filled(shape: Shape, default: Shape) -> Shape:
    """What the shape does not say is as in `default`."""
    return evolve(
        shape,
        connections=shape.connections or default.connections,
        messages_per_connection=shape.messages_per_connection or default.messages_per_connection,
        rate=shape.rate or default.rate,
        tls=shape.tls or default.tls,
        dane=default.dane if shape.dane is None else shape.dane,
        mta_sts=default.mta_sts if shape.mta_sts is None else shape.mta_sts,
    )
