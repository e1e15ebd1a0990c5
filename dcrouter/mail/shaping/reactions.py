"""email.on_reply: what the answer of a destination triggers, beside what becomes of the mail that heard it.

A reply that is heard again while its pause holds changes nothing: it ends when it was to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dcrouter.config.names import REGEX
from dcrouter.config.zones import LONGEST_REPLY, OnReply, reply_expression
from dcrouter.mail.shaping.pauses import Effect, Pause, Pauses

FOR = 3600.0
"""Seconds, where nothing is said."""

_EFFECTS: dict[str, Effect] = {"slow_down": "slow_down", "suspend": "pause", "rotate_source": "rotate"}


class Reactions:
    """`now`: UTC epoch seconds."""

    def __init__(self, pauses: Pauses, now: Callable[[], float]) -> None:
        self._pauses = pauses
        self._now = now
        self._rules: list[tuple[OnReply, Callable[[str], object]]] = []

    def reload(self, rules: Sequence[OnReply]) -> None:
        """As another configuration says; what was triggered stays."""
        self._rules = [(rule, _matcher(rule.match)) for rule in rules]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def rule_for(self, text: str) -> OnReply | None:
        """The one that such a refusal triggers."""
        text = text[:LONGEST_REPLY]
        return next((rule for rule, matches in self._rules if matches(text)), None)

    def heard(self, text: str, destination: str, source: str) -> OnReply | None:
        """A refusal, its lines joined by spaces, from a destination (the name of its gate) for mail that left from
        `source`, "" where the kernel chose. The rule that it has triggered, None: none.
        """
        rule = self.rule_for(text)
        if rule is None:
            return None
        text = text[:LONGEST_REPLY]
        if rule.action == "bounce":
            if rule.for_ is not None:
                self._add(destination, "bounce", rule, text)
        elif rule.action != "rotate_source":
            self._add(destination, _EFFECTS[rule.action], rule, text)
        elif source:
            self._add(f"source {source} for {destination}", "rotate", rule, text)
        return rule

    def _add(self, what: str, effect: Effect, rule: OnReply, text: str) -> None:
        if self._pauses.get(what, effect) is None:
            now = self._now()
            until = now + (rule.for_ or FOR)
            self._pauses.add(
                Pause(what=what, effect=effect, reason=text, since=now, until=until, by="on_reply", rate=rule.to)
            )


def _matcher(pattern: str) -> Callable[[str], object]:
    if pattern.startswith(REGEX):
        return reply_expression(pattern).search
    return lambda text: text.startswith(pattern)
