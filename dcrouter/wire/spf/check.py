"""`check_host`: what the SPF record of a domain says of a client's address. Sans-io: it asks DNS by yielding questions.

Bounded: 10 terms that ask DNS, 2 of their answers may be empty, 10 names of an MX or PTR. Never raises: what goes wrong
in DNS is "temperror", what is wrong in records "permerror". RFC 7208 4, 5, 6.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal, NamedTuple

from dcrouter.errors import Unreachable, WireError
from dcrouter.wire.asking import Asking, Found, Kind, Question, is_askable
from dcrouter.wire.mapped import unmapped
from dcrouter.wire.spf.macros import UNKNOWN, expand, expand_domain, needs_name, values_of
from dcrouter.wire.spf.record import Mechanism, Record, check_macros, parse, records_among

MAX_LOOKUPS = 10
MAX_VOID = 2
MAX_NAMES = 10
"""RFC 7208 4.6.4."""

MAX_EXPLANATION = 400
"""Characters of an explanation that a reply can take."""

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]


class Spf(NamedTuple):
    """`explanation`: why, in the words of the domain, with "fail" only. `problem`: what went wrong, for logs."""

    result: Result
    explanation: str = ""
    problem: str = ""


class _Permanent(Exception):
    """The records cannot be used: permerror."""


def check_host(
    address: str, domain: str, sender: str, helo: str, *, hostname: str, now: float | None = None
) -> Asking[Spf]:
    """`domain`: of `sender`, which is `postmaster@helo` where MAIL FROM is null. `now`: UTC epoch seconds."""
    local, at, origin = sender.rpartition("@")
    if not at or not local:
        sender = f"postmaster@{origin}"
    check = _Check(ip_address(unmapped(address)), sender, helo, hostname, now)
    try:
        result, explanation = yield from check.evaluate(domain.removesuffix("."))
        return Spf(result, explanation)
    except _Permanent as error:
        return Spf("permerror", problem=str(error))
    except Unreachable as error:
        return Spf("temperror", problem=str(error))


class _Check:
    def __init__(
        self, address: IPv4Address | IPv6Address, sender: str, helo: str, hostname: str, now: float | None
    ) -> None:
        self._address = address
        self._kind: Kind = "AAAA" if address.version == 6 else "A"
        self._sender = sender
        self._helo = helo
        self._hostname = hostname
        self._now = now
        self._lookups = 0
        self._void = 0
        self._names: tuple[str, ...] | None = None

    def evaluate(self, domain: str, *, explained: bool = True) -> Asking[tuple[Result, str]]:
        """(result, explanation); raises _Permanent and Unreachable."""
        if "." not in domain or not is_askable(domain):
            return "none", ""
        found = yield from _ask(Question(domain, "TXT"))
        records = records_among(found.values)
        if not records:
            return "none", ""
        if len(records) > 1:
            raise _Permanent(f"{domain} has several records")
        try:
            record = parse(records[0])
        except WireError as error:
            raise _Permanent(f"{domain}: {error}") from error
        for mechanism in record.mechanisms:
            if (yield from self._matches(mechanism, domain)):
                words = ""
                if mechanism.qualifier == "fail" and explained and record.explanation is not None:
                    words = yield from self._explanation(record, domain)
                return mechanism.qualifier, words
        if record.redirect is None:
            return "neutral", ""
        self._count_lookup()
        target = yield from self._expanded(record.redirect, domain)
        result, words = yield from self.evaluate(target, explained=explained)
        if result == "none":
            raise _Permanent(f"{domain} redirects to {target}, which has no record")
        return result, words

    # ------------------------------------------------------------------ mechanisms

    def _matches(self, mechanism: Mechanism, domain: str) -> Asking[bool]:
        name = mechanism.name
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            assert mechanism.domain is not None
            return self._within(mechanism.domain, mechanism)
        self._count_lookup()
        target = domain if mechanism.domain is None else (yield from self._expanded(mechanism.domain, domain))
        if name == "include":
            return (yield from self._include(target))
        if name == "ptr":
            return (yield from self._named_below(target))
        if not is_askable(target):
            return False
        if name == "exists":
            found = yield from self._counted(Question(target, "A"))
            return bool(found.values)
        if name == "a":
            return (yield from self._has(target, mechanism, counted=True))
        exchangers = yield from self._counted(Question(target, "MX"))
        if len(exchangers.values) > MAX_NAMES:
            raise _Permanent(f"{target} has more than {MAX_NAMES} MX")
        for host in exchangers.values:
            if is_askable(host) and (yield from self._has(host, mechanism, counted=False)):
                return True
        return False

    def _include(self, target: str) -> Asking[bool]:
        result, _ = yield from self.evaluate(target, explained=False)
        if result == "none":
            raise _Permanent(f"{target} is included and has no record")
        return result == "pass"

    def _has(self, host: str, mechanism: Mechanism, *, counted: bool) -> Asking[bool]:
        """Whether one of the host's addresses is in the client's network."""
        question = Question(host, self._kind)
        found = yield from (self._counted(question) if counted else _ask(question))
        return any(self._within(address, mechanism) for address in found.values)

    def _within(self, address: str, mechanism: Mechanism) -> bool:
        six = ":" in address
        if six != (self._address.version == 6):
            return False
        return self._address in ip_network(f"{address}/{mechanism.six if six else mechanism.four}", strict=False)

    def _named_below(self, target: str) -> Asking[bool]:
        names = yield from self._validated(counted=True)
        target = target.lower()
        return any(name == target or name.endswith("." + target) for name in names)

    # ------------------------------------------------------------------ names

    def _validated(self, *, counted: bool = False) -> Asking[tuple[str, ...]]:
        """The names that the client's address has and that lead back to it (RFC 7208 5.5); errors are no names."""
        if self._names is not None:
            return self._names
        question = Question(self._address.reverse_pointer, "PTR")
        names: list[str] = []
        try:
            found = yield from (self._counted(question) if counted else _ask(question))
        except Unreachable:
            found = Found()
        for name in found.values[:MAX_NAMES]:
            if not is_askable(name):
                continue
            try:
                addresses = yield from _ask(Question(name, self._kind))
            except Unreachable:
                continue
            if any(ip_address(address) == self._address for address in addresses.values):
                names.append(name.lower().removesuffix("."))
        self._names = tuple(names)
        return self._names

    def _best_name(self, domain: str) -> Asking[str]:
        """The value of `%{p}`: the domain itself, else a name below it, else any."""
        names = yield from self._validated()
        domain = domain.lower()
        if domain in names:
            return domain
        below = [name for name in names if name.endswith("." + domain)]
        return (*below, *names, UNKNOWN)[0]

    def _values(self, text: str, domain: str) -> Asking[dict[str, str]]:
        values = values_of(self._address, domain, self._sender, self._helo, self._hostname, self._now)
        if needs_name(text):
            values["p"] = yield from self._best_name(domain)
        return values

    def _expanded(self, text: str, domain: str) -> Asking[str]:
        if "%" not in text:
            return text.removesuffix(".")
        values = yield from self._values(text, domain)
        return expand_domain(text, values)

    def _explanation(self, record: Record, domain: str) -> Asking[str]:
        """RFC 7208 6.2: whatever goes wrong, there is none."""
        assert record.explanation is not None
        try:
            target = yield from self._expanded(record.explanation, domain)
            if not is_askable(target):
                return ""
            found = yield from _ask(Question(target, "TXT"))
            if len(found.values) != 1:
                return ""
            text = found.values[0]
            check_macros(text, explaining=True)
            values = yield from self._values(text, domain)
        except (Unreachable, WireError):
            return ""
        words = expand(text, values)
        return words[:MAX_EXPLANATION] if words.isascii() and words.isprintable() else ""

    # ------------------------------------------------------------------ limits

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _Permanent(f"more than {MAX_LOOKUPS} terms that ask DNS")

    def _counted(self, question: Question) -> Asking[Found]:
        """An answer whose emptiness counts."""
        found = yield from _ask(question)
        if not found.values:
            self._void += 1
            if self._void > MAX_VOID:
                raise _Permanent(f"more than {MAX_VOID} questions without an answer")
        return found


def _ask(question: Question) -> Asking[Found]:
    return (yield question)
