"""Which patterns mean a recipient or a sender, by look-ups; regular expressions only where there are some.

The patterns are those of config/patterns.py; the sender of bounces is the empty address, which `<>` and `*` mean. An
address longer than 320 characters (RFC 5321 section 4.5.3.1) matches nothing, so that no expression ever sees more;
those that could explode on less are refused by the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.config.names import wildcards
from dcrouter.config.patterns import ANY, DETAIL, LONGEST_ADDRESS, detailed, parse_all, split, whole


class RecipientPatterns:
    """`match.recipients` or `match.senders` of a mail rule."""

    __slots__ = ("_details", "_patterns", "_regexes", "_wild")

    def __init__(self, patterns: Iterable[str]) -> None:
        """ValueError where one of `patterns` is none."""
        parsed = parse_all(patterns)
        self._patterns = {(pattern.local, pattern.domain) for pattern in parsed if pattern.regex is None}
        self._regexes = [pattern.regex for pattern in parsed if pattern.regex is not None]
        self._wild = any(is_wild(domain) for _, domain in self._patterns)
        self._details = max((details_in(local) for local, _ in self._patterns), default=0)

    def matches(self, address: str) -> bool:
        """`address`: `local@domain` without brackets, its local part without quotes it does not need."""
        if len(address) > LONGEST_ADDRESS:
            return False
        local, domain = split(address)
        if self._patterns and not self._patterns.isdisjoint(
            keys_of(local, domain, wild=self._wild, details=self._details)
        ):
            return True
        if not self._regexes:
            return False
        text = whole(local, domain)
        return any(regex.fullmatch(text) is not None for regex in self._regexes)


class PatternIndex:
    """Numbers under the patterns that they were added with: which of many rules can mean an address at all."""

    __slots__ = ("_details", "_expressions", "_plain", "_wild")

    def __init__(self) -> None:
        self._plain: dict[tuple[str, str], list[int]] = {}
        self._expressions: list[int] = []
        self._wild = False
        self._details = 0

    def add(self, patterns: Iterable[str], number: int) -> None:
        """Numbers are added in ascending order. ValueError where one of `patterns` is none."""
        parsed = parse_all(patterns)
        for key in {(pattern.local, pattern.domain) for pattern in parsed if pattern.regex is None}:
            self._plain.setdefault(key, []).append(number)
            self._wild = self._wild or is_wild(key[1])
            self._details = max(self._details, details_in(key[0]))
        if any(pattern.regex is not None for pattern in parsed):
            self._expressions.append(number)

    def candidates(self, address: str) -> list[list[int]]:
        """Ascending numbers, perhaps in several of the lists: those with a pattern that matches `address`, and those
        with an expression, which is not tried here. The lists are the index's own.
        """
        found = [self._expressions] if self._expressions else []
        if self._plain:
            plain = self._plain
            local, domain = split(address)
            keys = keys_of(local, domain, wild=self._wild, details=self._details)
            found += [plain[key] for key in keys if key in plain]
        return found


def is_wild(domain: str) -> bool:
    """Whether the domain of a pattern stands for names under it."""
    return domain.startswith(("*.", "**."))


def details_in(local: str) -> int:
    """How many `+` the local part of a pattern with a detail has, that of the detail included; 0 for any other."""
    return local.count("+") if local.endswith(DETAIL) else 0


def keys_of(local: str, domain: str, *, wild: bool, details: int = 0) -> list[tuple[str, str]]:
    """The patterns, as (local part, domain), that mean this address. `wild`: those of `*.` and `**.` too; `details`:
    of `user+*` those with up to so many `+`.
    """
    if not domain:
        return [(ANY, ANY), (local, domain)]
    domains = [domain, *wildcards(domain)] if wild else [domain]
    keys = [(ANY, ANY), *((local, one) for one in domains), *((ANY, one) for one in domains), (local, ANY)]
    if details and "+" in local:
        for shorter in detailed(local, details):
            keys += [*((shorter, one) for one in domains), (shorter, ANY)]
    return keys
