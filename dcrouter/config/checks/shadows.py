"""Rules that are never asked: each of their patterns, with all their conditions, is matched by a rule before them.

A rule stands before another only where each of its conditions is at least as wide: recipients, clients, senders,
networks, kinds, headers and size. As far as that can be told by looking: two rules that together cover a third's
networks are not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

from attrs import frozen

from dcrouter.config.match import Network
from dcrouter.config.patterns import ANY, RecipientPattern, covering, parse_all
from dcrouter.config.read import Reader
from dcrouter.config.rules import Rule, RuleMatch

EVERY = (RecipientPattern(ANY, ANY),)
MOST_BEFORE = 100
"""Rules with the same recipients that are compared: thousands of them would take minutes, for a warning."""

_WIDER_CLIENTS = {
    "any": ("any",),
    "may_relay": ("any", "may_relay"),
    "authenticated": ("any", "may_relay", "authenticated"),
    "strangers": ("any", "strangers"),
}


@frozen(eq=False)
class _Before:
    """A rule's conditions beside its recipients. `senders`: None for all, `<>` included."""

    rule: Rule
    senders: frozenset[RecipientPattern] | None

    def covers(self, other: _Before) -> bool:
        match, narrow = self.rule.match, other.rule.match
        return (
            match.clients in _WIDER_CLIENTS[narrow.clients]
            and every_kind(match, narrow.kinds)
            and _every_network(match.client_ips, narrow.client_ips)
            and self._every_sender(other)
            and _every_message(match, narrow)
        )

    def _every_sender(self, other: _Before) -> bool:
        if self.senders is None or other.senders is None:
            return self.senders is None
        return all(any(wider in self.senders for wider in covering(one)) for one in other.senders)


def check_shadows(rules: Sequence[Rule], reader: Reader) -> None:
    """Warn of each rule that is never asked."""
    first: dict[RecipientPattern, list[_Before]] = {}
    for rule in rules:
        senders = patterns_of(rule.match.senders)
        this = _Before(rule, None if EVERY[0] in senders else frozenset(senders))
        by: list[Rule] = []
        patterns = patterns_of(rule.match.recipients)
        for pattern in patterns:
            shadow = next(
                (one.rule for wider in covering(pattern) for one in first.get(wider, ()) if one.covers(this)), None
            )
            if shadow is not None:
                by.append(shadow)
        if len(by) == len(patterns):
            names = " and ".join(dict.fromkeys(repr(shadow.name) for shadow in by))
            reader.place(rule).warn(f"is never asked: all that it matches is matched by rule {names} before it")
        for pattern in patterns:
            before = first.setdefault(pattern, [])
            if len(before) < MOST_BEFORE and (not before or before[-1] is not this):
                before.append(this)


def patterns_of(texts: Sequence[str] | None) -> tuple[RecipientPattern, ...]:
    """Of `match.recipients` or `match.senders`."""
    return EVERY if texts is None else parse_all(texts)


def every_kind(match: RuleMatch, kinds: Sequence[str] | None) -> bool:
    """Whether a rule meets all of `kinds` (None: all there are)."""
    wide = match.kinds
    return wide is None or set(kinds or ("smtp", "submission", "smtps")) <= set(wide)


def _every_message(wide: RuleMatch, narrow: RuleMatch) -> bool:
    """Whether one rule's headers and size hold for every message for which the other's do."""
    if wide.size_over is not None and (narrow.size_over is None or narrow.size_over < wide.size_over):
        return False
    asked = {(name.lower(), value) for name, value in (narrow.headers or {}).items()}
    return all((name.lower(), value) in asked for name, value in (wide.headers or {}).items())


def everyone(networks: Sequence[Network] | None) -> bool:
    """Whether networks leave nobody out, as far as that can be told by looking."""
    return networks is None or {network.version for network in networks if not network.prefixlen} == {4, 6}


def _every_network(wide: Sequence[Network] | None, narrow: Sequence[Network] | None) -> bool:
    if everyone(wide) or wide is None:
        return True
    return narrow is not None and all(any(_within(one, other) for other in wide) for one in narrow)


def _within(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return not isinstance(other, IPv4Network) and one.subnet_of(other)
