"""How much a rule takes (`limits`): messages in a time, recipients of one message. RFC 5321 4.5.3.1.10."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dcrouter.config.rules import Rule
from dcrouter.mail.server.denial import Denial
from dcrouter.net.limits import Bucket
from dcrouter.wire.smtp.said import TOO_MANY_RECIPIENTS, TOO_MUCH_MAIL


class Quotas:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rules: dict[str, Rule] = {}
        self._buckets: dict[str, Bucket] = {}

    def reload(self, rules: tuple[Rule, ...]) -> None:
        """What has been used up stays so, by the rule's name, where the limit is the same."""
        before, self._rules = self._rules, {rule.name: rule for rule in rules}
        buckets, self._buckets = self._buckets, {}
        for rule in rules:
            rate = rule.limits.messages
            if rate is not None:
                same = rule.name in before and before[rule.name].limits.messages == rate
                self._buckets[rule.name] = buckets[rule.name] if same else Bucket(rate, self._clock)

    def over(self, rule: Rule, taken: Mapping[str, int]) -> Denial | None:
        """The refusal of a rule that has taken enough. `taken`: of this message, by rule."""
        count = taken.get(rule.name, 0)
        most = rule.limits.max_recipients
        if most is not None and count >= most:
            return Denial("limited", TOO_MANY_RECIPIENTS, f"rule {rule.name}: limits.max_recipients")
        bucket = self._buckets.get(rule.name)
        if bucket is not None and not count and bucket.wait():
            return Denial("limited", TOO_MUCH_MAIL, f"rule {rule.name}: limits.messages")
        return None

    def take(self, rule: str, taken: dict[str, int], *, counts: bool = True) -> None:
        """One more recipient. A message counts with its first; not yet where `counts` is False."""
        if counts and not taken.get(rule):
            self.count(rule)
        taken[rule] = taken.get(rule, 0) + 1

    def count(self, rule: str) -> None:
        """One more message."""
        bucket = self._buckets.get(rule)
        if bucket is not None:
            bucket.take()
