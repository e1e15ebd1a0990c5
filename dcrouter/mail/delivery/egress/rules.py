"""Which rule of `email.egress` decides about a connection: the first that is enabled and whose conditions all hold.

A rule with `select` asks the operator's code, and where that leaves it open the rules behind decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from dcrouter.config.egress import EgressMatch, EgressRule
from dcrouter.config.names import is_address, normalise
from dcrouter.interfaces import Departure
from dcrouter.mail.delivery.egress.way import DIRECT, Way
from dcrouter.match.addresses import Networks
from dcrouter.match.names import NameIndex
from dcrouter.match.recipients import RecipientPatterns
from dcrouter.match.times import Times


class Conditions:
    """One rule, ready to match. `number`: its place in the file, from 0. `way`: where it asks nobody."""

    def __init__(self, number: int, rule: EgressRule) -> None:
        self.number = number
        self.rule = rule
        self.way = way_of(rule)
        match = rule.match
        self._recipients = RecipientPatterns(match.recipient) if match.recipient is not None else None
        self._networks = Networks(match.destination_ips) if match.destination_ips is not None else None
        self._times = Times(match.time) if match.time is not None else None
        self._hosts: NameIndex[bool] | None = None
        self._addresses: set[str] = set()
        if match.host is not None:
            self._hosts = NameIndex()
            for pattern in match.host:
                if is_address(pattern):
                    self._addresses.add(str(ip_address(pattern)))
                else:
                    self._hosts.add(pattern, True)

    def why_not(self, departure: Departure, now: float) -> str:
        """The first condition that does not hold, "" where all do."""
        match = self.rule.match
        if not self.rule.enabled:
            return "enabled: false"
        if match.zone is not None and departure.zone not in match.zone:
            return f"zone: {', '.join(match.zone)}"
        if self._recipients is not None and not self._recipients.matches(departure.recipient):
            return f"recipient: {', '.join(match.recipient or ())}"
        if match.attempts_over is not None and departure.attempts <= match.attempts_over:
            return f"attempts_over: {match.attempts_over}"
        return self.why_not_there(departure, now)

    def why_not_there(self, departure: Departure, now: float) -> str:
        """The same of the conditions that ask for the server and the time, and not for the mail."""
        match = self.rule.match
        if not self.rule.enabled:
            return "enabled: false"
        if self._hosts is not None and not self._meets_host(departure.host):
            return f"host: {', '.join(match.host or ())}"
        if self._networks is not None and (departure.address is None or not self._networks.covers(departure.address)):
            return f"destination_ips: {', '.join(map(str, match.destination_ips or ()))}"
        if self._times is not None and not self._times.hold(now):
            return "time"
        return ""

    def _meets_host(self, host: str) -> bool:
        assert self._hosts is not None
        if is_address(host):
            return str(ip_address(host)) in self._addresses
        name = normalise(host)
        return bool(self._hosts.candidates(name)) or any(fits(name) for fits, _ in self._hosts.expressions)


class EgressRules:
    """`clock`: UTC epoch seconds. `asks_addresses`, `asks_recipients`: whether some rule asks for them; `asks_code`:
    whether some rule has `select`. Without rules all goes straight.
    """

    def __init__(self, rules: Sequence[EgressRule], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = [Conditions(number, rule) for number, rule in enumerate(rules)]
        enabled = [one.rule for one in self._all if one.rule.enabled]
        self.some = bool(enabled)
        self.asks_addresses = any(rule.match.destination_ips is not None for rule in enabled)
        self.asks_code = any(rule.select is not None for rule in enabled)
        self.asks_recipients = self.asks_code or any(_per_recipient(rule.match) for rule in enabled)
        self.proxies = frozenset(proxy for rule in enabled for proxy in rule.through)

    def first(self, departure: Departure, behind: int = -1) -> Conditions | None:
        """The rule that decides, among those behind that number; None: nobody, it goes straight."""
        now = self._clock()
        for one in self._all[behind + 1 :]:
            if not one.why_not(departure, now):
                return one
        return None

    def for_checks(self, departure: Departure) -> Way | None:
        """How a server is connected to only to find out whether it is there. No mail is at hand, so that every rule
        counts which may be asked of any to it: a check must not show an address that mail would not show. None: only
        the operator's code knows.
        """
        now = self._clock()
        for one in self._all:
            if not one.why_not_there(departure, now):
                return None if one.rule.select is not None else one.way
        return DIRECT

    def explain(self, departure: Departure) -> dict[str, Any]:
        """What decides about a connection and why, JSON-ready: `way` (direct, proxy, select), with `through`, `balance`
        and `on_failure`, or the code's name; `rule`: its number, None: none matches; `passed`: the rules before it, and
        which of their conditions does not hold.
        """
        now = self._clock()
        passed: list[dict[str, Any]] = []
        for one in self._all:
            why = one.why_not(departure, now)
            if not why:
                how = one.way.shown() if one.rule.select is None else {"way": "select", "select": one.rule.select}
                return {"rule": one.number, **how, "passed": passed}
            passed.append({"rule": one.number, "why_not": why})
        return {"rule": None, **DIRECT.shown(), "passed": passed}


def way_of(rule: EgressRule) -> Way:
    """What a rule with `through` means."""
    return Way(proxies=rule.through, balance=rule.balance, on_failure=rule.on_failure)


def _per_recipient(match: EgressMatch) -> bool:
    return match.zone is not None or match.recipient is not None or match.attempts_over is not None
