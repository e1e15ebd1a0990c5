"""The way of one message to recipients that share their exchangers: which lane to take next, and what answers mean.

1. The exchangers in their order, those that were just found down last; none that is paused.
2. From the source that the pool has for the message; where that turns out to be of no use, the next one to the same
   host. A host that cannot be reached by one version of IP is tried by the other (RFC 5321 5.1).
3. Through proxies, which speak for us, it has no source; where none works and the rule wants it straight then, it
   leaves from the pool's source, or waits.
4. What a destination answers may pause it, or the source (on_reply): then the mail goes from another source at once,
   waits, or fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import evolve, frozen

from dcrouter.config.zones import Source
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.egress.egress import Leg
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Failed, Outcome, Postponed
from dcrouter.mail.delivery.sending import NO_ANSWER, Trouble
from dcrouter.mail.shaping.lane import Lane
from dcrouter.mail.shaping.pauses import Pause
from dcrouter.mail.shaping.shaping import Shaping

MAX_EXCHANGERS = 5
"""Hosts of a domain that one attempt tries; the others have their turn when these are known to be down."""

AT_ONCE = 1.0
"""Seconds until mail whose source was turned away tries the next one."""

Connect = Callable[[Leg, Lane], Destination]
"""The next hop in a lane."""


@frozen(kw_only=True)
class Stage:
    """A host at hand: the names of its gates, the most special first, and whom a warmup counts for."""

    leg: Leg
    gates: tuple[str, ...]
    provider: str


@frozen(kw_only=True)
class Step:
    """What was tried. `source`: it left from there; `spare`: it would, if no proxy works."""

    stage: Stage
    source: Source | None
    spare: Source | None = None


class Course:
    """`pool`: of the zone, or None. `kept`: the source that the message left from before."""

    def __init__(
        self,
        shaping: Shaping,
        connect: Connect,
        *,
        message: int,
        kept: str,
        zone: str,
        domain: str,
        stages: list[Stage],
    ) -> None:
        self._shaping = shaping
        self._connect = connect
        self._message = message
        self._kept = kept
        self._zone = zone
        self._domain = domain
        self._stages = stages
        self._pool = shaping.limits.zone(zone).pool
        self._steps: dict[Destination, Step] = {}
        self._bounced = ""
        self._unreached: dict[Stage, set[int]] = {}

    def closed(self) -> Outcome | None:
        """What becomes of the mail where nothing can be tried now; None: something can."""
        reasons: list[str] = []
        pauses: list[Pause] = []
        for stage in self._stages:
            failing = self._shaping.pauses.first(stage.gates, "bounce")
            if failing is not None:
                return Failed(f"{_code(failing.reason)} {failing.what}: {failing.reason}")
            pause = self._shaping.pauses.first(stage.gates)
            if pause is not None:
                pauses.append(pause)
            elif not self._needs(stage) or self._choose(stage) is not None:
                return None
            else:
                reasons += self._against(stage)
        if pauses:
            return self._shaping.postponed(pauses[0])
        found = self._shaping.source_pause(self._pool or "")
        if found is not None:
            return self._shaping.postponed(found)
        return Later(f"4.4.4 No source of pool {self._pool} can be used: {'; '.join(dict.fromkeys(reasons))}")

    def __iter__(self) -> Iterator[Destination]:
        ready = [(stage, self._to(stage, self._choose(stage))) for stage in self._stages if not self._paused(stage)]
        ready.sort(key=lambda one: one[1] is not None and one[1].down)
        for stage, _ in ready[:MAX_EXCHANGERS]:
            yield from self._from_sources(stage)

    def judge(self, outcome: Outcome, destination: Destination) -> Outcome:
        """What becomes of a recipient whose destination has answered so."""
        step = self._steps.get(destination)
        said = not isinstance(outcome, Delivered) and outcome.reply[:3].isdecimal()  # and not our own words
        if step is None or not said or not self._shaping.reactions:
            return self._with_source(outcome, step)
        rule = self._shaping.reactions.heard(outcome.reply, step.stage.gates[0], _text(step.source))
        if rule is not None and rule.action == "bounce" and isinstance(outcome, Later):
            return Failed(outcome.reply, outcome.target, outcome.tls, outcome.address)
        if rule is not None and rule.action == "rotate_source" and self._choose(step.stage) is not None:
            return Postponed(outcome.reply, "", AT_ONCE)
        return self._with_source(outcome, step)

    def minds(self, reply: str) -> bool:
        """Whether such words trigger something."""
        return self._shaping.reactions.rule_for(reply) is not None

    def heard(self, trouble: Trouble, destination: Destination) -> None:
        """A destination could not be used."""
        step = self._steps.get(destination)
        if step is None:
            return
        source = step.source or step.spare
        if trouble.unbound and source is not None:
            self._shaping.cannot_bind(source, trouble.reason)
        elif trouble.status == NO_ANSWER and not trouble.said and step.source is not None:
            self._unreached.setdefault(step.stage, set()).add(step.source.address.version)
        if trouble.said and self._shaping.reactions:
            rule = self._shaping.reactions.heard(trouble.said, step.stage.gates[0], _text(step.source))
            if rule is not None and rule.action == "bounce":
                self._bounced = trouble.said

    def unreached(self, outcome: Outcome) -> Outcome:
        """What becomes of the mail that nobody could be given, if nothing of it speaks against `outcome`."""
        if self._bounced:
            return Failed(f"{_code(self._bounced)} {self._bounced}" if self._bounced[:1] != "5" else self._bounced)
        if not self._steps:
            return self.closed() or outcome
        return outcome

    def ended(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Nothing left from a source that mail was only told to wait for."""
        if outcomes and all(isinstance(outcome, Postponed) for outcome in outcomes) and self._steps:
            last = list(self._steps.values())[-1]
            self._count(last, -1)
        return outcomes

    # ------------------------------------------------------------------ sources

    def _from_sources(self, stage: Stage) -> Iterator[Destination]:
        tried: set[str] = set()
        while not self._paused(stage):
            source, spare = self._choose(stage), self._spare(stage)
            if (source is None and self._needs(stage)) or _text(source or spare) in tried:
                return
            tried.add(_text(source or spare))
            destination = self._to(stage, source)
            if destination is None:
                return
            step = self._steps[destination] = Step(stage=stage, source=source, spare=spare)
            self._count(step, 1)
            yield destination
            self._count(step, -1)  # or nobody would ask for the next one
            if source is None and spare is None:
                return

    def _needs(self, stage: Stage) -> bool:
        """Whether mail to a host leaves from a source of the pool: not where a proxy speaks for us."""
        return self._pool is not None and not stage.leg.hop.way.proxies and stage.leg.hop.way.endpoint is None

    def _choose(self, stage: Stage) -> Source | None:
        return self._best(stage) if self._needs(stage) else None

    def _may_be_straight(self, stage: Stage) -> bool:
        """Whether mail with a pool leaves straight where no proxy works."""
        way = stage.leg.hop.way
        return self._pool is not None and bool(way.proxies) and way.on_failure == "direct"

    def _spare(self, stage: Stage) -> Source | None:
        """From where it does, None: from nowhere."""
        return self._best(stage) if self._may_be_straight(stage) else None

    def _best(self, stage: Stage) -> Source | None:
        assert self._pool is not None
        sources = self._shaping.sources
        versions = versions_of(stage) - self._unreached.get(stage, set())
        return sources.choose(self._pool, self._message, self._kept, stage.gates, versions, stage.provider)

    def _against(self, stage: Stage) -> list[str]:
        sources = self._shaping.sources
        return [sources.against(source, stage.gates, versions_of(stage)) for source in sources.pool(self._pool or "")]

    def _to(self, stage: Stage, source: Source | None) -> Destination | None:
        leg, plain = stage.leg, Lane(zone=self._zone, domain=self._domain)
        if source is None and self._needs(stage):
            return None
        if source is None and self._may_be_straight(stage):
            source = self._spare(stage)
            if source is None:
                leg = leg._replace(hop=evolve(leg.hop, way=evolve(leg.hop.way, on_failure="defer")))
        if source is None:
            return self._connect(leg, plain)
        lane = evolve(plain, source=str(source.address), name=source.name or "")
        own = tuple(one for one in leg.addresses or () if (6 if ":" in one else 4) == source.address.version)
        return self._connect(leg._replace(addresses=own), lane)

    def _paused(self, stage: Stage) -> bool:
        return self._shaping.pauses.first(stage.gates) is not None

    def _count(self, step: Step, messages: int) -> None:
        if step.source is not None:
            self._shaping.sources.count(step.source, step.stage.provider, messages)

    def _with_source(self, outcome: Outcome, step: Step | None) -> Outcome:
        if isinstance(outcome, Later) and step is not None and step.source is not None:
            return outcome._replace(source=str(step.source.address))
        return outcome


def versions_of(stage: Stage) -> set[int]:
    """Those of IP that a host has addresses of."""
    return {6 if ":" in address else 4 for address in stage.leg.addresses or ()}


def _text(source: Source | None) -> str:
    return str(source.address) if source is not None else ""


def _code(reply: str) -> str:
    """What our own words for a failure begin with."""
    return "550 5.7.1" if reply[:1] != "5" else "550 5.0.0"
