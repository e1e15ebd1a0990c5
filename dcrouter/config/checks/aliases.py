"""The file of aliases: its own problems, aliases that nobody can write to, and addresses that get nothing by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dcrouter.config.aliases import Aliases, load_aliases
from dcrouter.config.checks.shadows import patterns_of
from dcrouter.config.mail import Email
from dcrouter.config.patterns import RecipientPattern, matches
from dcrouter.config.place import Place
from dcrouter.config.rules import Reject, Rule
from dcrouter.errors import ConfigError

MOST_LOOKS = 1_000_000
"""Comparisons of an address with a pattern: beyond, the warnings are not worth the time."""
MOST_SHOWN = 3
"""Addresses in one warning."""


def check_aliases(email: Email, root: Place) -> Aliases | None:
    """What the file says, None where there is none that can be used. `root`: the document."""
    if email.aliases_file is None or root.findings.touch(("email", "aliases_file")):
        return None
    place = root.at("email", "aliases_file")
    try:
        found = load_aliases(email.aliases_file, email.hostname)
    except ConfigError as error:
        place.tell_of_file(error.problems)
        return None
    if not root.findings.touch(("email", "rules")):
        _warn(found, email, place)
    return found


def _warn(found: Aliases, email: Email, place: Place) -> None:
    ends = {end: None for alias in found.targets for end in found.expand(alias) or ()}
    rules = [(rule, patterns_of(rule.match.recipients)) for rule in email.rules if not isinstance(rule.action, Reject)]
    if (len(found) + len(ends)) * sum(len(patterns) for _, patterns in rules) > MOST_LOOKS:
        return
    unreached = _not_taken(found.targets, rules, lambda rule: True)
    if unreached:
        place.warn(f"no rule takes mail to {_some(unreached)}: nobody reaches such an alias")
    lost = _not_taken(ends, rules, lambda rule: rule.match.clients in ("any", "may_relay"))
    if lost:
        place.warn(f"no rule takes mail to {_some(lost)}, for whom aliases stand")


def _not_taken(
    addresses: Iterable[str],
    rules: list[tuple[Rule, tuple[RecipientPattern, ...]]],
    may: Callable[[Rule], bool],
) -> list[str]:
    those = [patterns for rule, patterns in rules if may(rule)]
    return sorted(
        address
        for address in addresses
        if not any(matches(pattern, address) for patterns in those for pattern in patterns)
    )


def _some(addresses: list[str]) -> str:
    more = f" and {len(addresses) - MOST_SHOWN} more" if len(addresses) > MOST_SHOWN else ""
    return ", ".join(addresses[:MOST_SHOWN]) + more
