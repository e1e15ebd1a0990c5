"""The targets of rules that forward: which of them comes first, and what is known of each.

What is known stays over a reload, by the names of rule and target. A target that is down (`health`, checks.py) gets no
mail; one that is ejected for its failures gets some while nothing better is there, as on the edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.logger import Logger

from dcrouter.config.rules import MailForward, Rule
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.egress.egress import Leg
from dcrouter.mail.delivery.nexthop import NextHop, hops_of
from dcrouter.mail.delivery.sending import Trouble
from dcrouter.targets.balance import Order, order_of, seed_of
from dcrouter.targets.state import TargetState, Turn


class MailTarget:
    """One target of one rule."""

    weight = 1

    def __init__(self, hop: NextHop, state: TargetState) -> None:
        self.hop = hop
        self.leg = Leg(hop)
        self.label = hop.target
        self.seed = seed_of(self.label)
        self.state = state
        self.trouble: Trouble | None = None  # the last one that was counted


class RuleTargets:
    """Those of one rule. `now`: the reactor's seconds."""

    _log = Logger()

    def __init__(
        self,
        rule: str,
        action: MailForward,
        state_of: Callable[[str], TargetState],
        turn: Turn,
        now: Callable[[], float],
    ) -> None:
        self.rule = rule
        self.action = action
        self.all = [MailTarget(hop, state_of(hop.target)) for hop in hops_of(action)]
        self._now = now
        self._checked = action.health is not None and action.health.type is not None
        self.plain = len(self.all) == 1 and action.health is None  # there is nothing to choose or to learn
        self._order: Order[MailTarget] = order_of(action.balance, False, turn)

    def order(self) -> Sequence[MailTarget]:
        """Those to try, best first; empty where checks have found all down."""
        found: Sequence[MailTarget] = self.all
        if self.action.health is not None:
            now = self._now()
            up = [one for one in found if not one.state.down]
            found = [one for one in up if one.state.ejected_until <= now] or up
        return self._order(found, "") if len(found) > 1 else found

    def best(self, destinations: list[Destination]) -> list[Destination]:
        """Of their destinations, in that order: those that an attempt tries."""
        if len(destinations) > 1:
            destinations.sort(key=lambda destination: destination.down)
        return destinations[: 1 + self.action.retries]

    def why_none(self) -> str:
        """Why there are none to try."""
        return "no target is up (" + ", ".join(f"{one.label} is down: {one.state.reason}" for one in self.all[:3]) + ")"

    def observe(self, destinations: Iterable[Destination]) -> None:
        """After an attempt: what it has met there. A failure that many met counts once."""
        health = self.action.health
        for destination in destinations if health is not None and health.passive is not None else ():
            trouble = destination.trouble
            target = next((one for one in self.all if one.label == destination.target), None)
            if trouble is None or target is None or target.trouble is trouble:
                continue
            target.trouble = trouble
            assert health is not None and health.passive is not None
            if target.state.broken(health.passive, trouble.reason, self._now()):
                self._log.warn(
                    "target {target} of rule {rule} is ejected for {seconds:g} s: {reason}",
                    target=target.label,
                    rule=self.rule,
                    seconds=health.passive.eject,
                    reason=target.state.reason,
                )

    def status(self) -> dict[str, Any]:
        """label -> its state, JSON-ready."""
        now = self._now()
        return {one.label: one.state.status(now, checked=self._checked) for one in self.all}


class MailTargets:
    """Of all rules that forward."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._states: dict[tuple[str, str], TargetState] = {}
        self._turns: dict[str, Turn] = {}
        self._rules: dict[str, RuleTargets] = {}

    def reload(self, rules: Iterable[Rule]) -> None:
        """Those that there are from now on."""
        before, self._rules = self._rules, {}
        for rule in rules:
            if isinstance(rule.action, MailForward):
                known = before.get(rule.name)
                same = known is not None and known.action == rule.action
                self._rules[rule.name] = known if known is not None and same else self._made(rule.name, rule.action)
        kept = {(name, target.label) for name, one in self._rules.items() for target in one.all}
        self._states = {key: state for key, state in self._states.items() if key in kept}
        self._turns = {name: turn for name, turn in self._turns.items() if name in self._rules}

    def of(self, rule: str) -> RuleTargets:
        return self._rules[rule]

    def all(self) -> Iterable[RuleTargets]:
        return self._rules.values()

    def status(self) -> dict[str, Any]:
        """rule -> label -> its state, of rules that have `health`; JSON-ready."""
        return {name: one.status() for name, one in self._rules.items() if one.action.health is not None}

    def _made(self, rule: str, action: MailForward) -> RuleTargets:
        def state_of(label: str) -> TargetState:
            return self._states.setdefault((rule, label), TargetState())

        return RuleTargets(rule, action, state_of, self._turns.setdefault(rule, Turn()), self._now)
