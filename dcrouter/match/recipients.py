"""Whether a recipient is meant by any of a rule's patterns, by look-ups; regular expressions only where there are some.

The patterns are those of config/patterns.py. An address longer than 320 characters (RFC 5321 section 4.5.3.1) matches
nothing, so that no expression ever sees more; those that could explode on less are refused by the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.config.names import wildcards
from dcrouter.config.patterns import ANY, LONGEST_ADDRESS, parse_all, split, whole


class RecipientPatterns:
    """`match.recipients` of a mail rule."""

    __slots__ = ("_patterns", "_regexes")

    def __init__(self, patterns: Iterable[str]) -> None:
        """ValueError where one of `patterns` is none."""
        parsed = parse_all(patterns)
        self._patterns = {(pattern.local, pattern.domain) for pattern in parsed if pattern.regex is None}
        self._regexes = [pattern.regex for pattern in parsed if pattern.regex is not None]

    def matches(self, address: str) -> bool:
        """`address`: `local@domain` without brackets, its local part without quotes it does not need."""
        if len(address) > LONGEST_ADDRESS:
            return False
        local, domain = split(address)
        if self._patterns and self._plainly(local, domain):
            return True
        if not self._regexes:
            return False
        text = whole(local, domain)
        return any(regex.fullmatch(text) is not None for regex in self._regexes)

    def _plainly(self, local: str, domain: str) -> bool:
        patterns = self._patterns
        if (ANY, ANY) in patterns:
            return True
        if not domain:
            return False
        if not patterns.isdisjoint(((local, domain), (ANY, domain), (local, ANY))):
            return True
        return any((ANY, above) in patterns or (local, above) in patterns for above in wildcards(domain))
