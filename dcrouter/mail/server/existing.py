"""Whether a recipient is worth a message: it exists by its rule's list (`recipients_file`), or as the rule's target
says (`verify`); and out in the world it is not suppressed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.rules import Mta, Rule
from dcrouter.mail.bounces.suppression import refusal
from dcrouter.mail.envelope import Client
from dcrouter.mail.server.denial import Denial
from dcrouter.mail.server.known import KnownRecipients
from dcrouter.mail.server.verify import Ask, Verdict, Verifier
from dcrouter.mail.server.watched import InThread

NOBODY = b"550 5.1.1 No such user here\r\n"
_NOT_KNOWN = b"450 4.1.1 Recipient cannot be verified now, try again later\r\n"


class Existing:
    """`clock`: the reactor. `suppressed`: why nothing is sent to an address. `asked`: questions that were put to
    targets so far.
    """

    def __init__(self, clock: Any, in_thread: InThread, ask: Ask, suppressed: Callable[[str], str | None]) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._verifier = Verifier(ask, clock)
        self._suppressed = suppressed
        self._rules: dict[str, Rule] = {}
        self._known: dict[Path, KnownRecipients] = {}

    @property
    def asked(self) -> int:
        return self._verifier.asked

    def reload(self, rules: tuple[Rule, ...]) -> None:
        """Lists that were read stay so; what targets have said stays where the rule is the same."""
        before, self._rules = self._rules, {rule.name: rule for rule in rules}
        self._verifier.forget({name for name, rule in before.items() if self._rules.get(name) != rule})
        known, self._known = self._known, {}
        for path in {rule.recipients_file for rule in rules if rule.recipients_file is not None}:
            self._known[path] = known.get(path) or KnownRecipients(path, self._in_thread, self._clock.seconds)

    def denial(self, rule: Rule, address: str, client: Client) -> Denial | Deferred[Denial | None] | None:
        """Why a recipient that `rule` takes is refused, None: it exists. The Deferred never fails."""
        if isinstance(rule.action, Mta):
            why = self._suppressed(address)
            if why is not None:
                return Denial("suppressed", f"{refusal(address, why)}\r\n".encode(), f"rule {rule.name}: suppressed")
        if rule.recipients_file is not None:
            known = self._known.get(rule.recipients_file)  # a reload may have come while somebody waited
            exists = known.has(address) if known is not None else None
            if isinstance(exists, Deferred):
                return exists.addCallback(_by_list, rule)
            return _by_list(exists, rule)
        if rule.verify is not None:
            verdict = self._verifier.verdict(rule, address, client)
            if isinstance(verdict, Deferred):
                return verdict.addCallback(_by_target, rule)
            return _by_target(verdict, rule)
        return None


def _by_list(found: bool | None, rule: Rule) -> Denial | None:
    if found is None:
        return Denial("unverified", _NOT_KNOWN, f"rule {rule.name}: recipients_file cannot tell now")
    return None if found else Denial("unknown", NOBODY, f"rule {rule.name}: not in recipients_file")


def _by_target(verdict: Verdict, rule: Rule) -> Denial | None:
    if verdict is Verdict.UNKNOWN:
        return Denial("unverified", _NOT_KNOWN, f"rule {rule.name}: the target could not be asked")
    if verdict is Verdict.ABSENT:
        return Denial("unknown", NOBODY, f"rule {rule.name}: the target has no such user")
    return None
