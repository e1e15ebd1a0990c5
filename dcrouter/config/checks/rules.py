"""Mail rules beside what strangers can reach (relay.py): where postmaster's mail ends, which limits can be reached,
who exists, and which rules can never be asked (shadows.py).

Mail to postmaster meets the rules as from a client that may relay. It must be taken on every kind of port there is, by
a rule that does not ask for more: of senders, networks or messages.
RFC 5321 section 4.5.1 (postmaster must be reachable).
"""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.config.accounts import Auth
from dcrouter.config.aliases import Aliases
from dcrouter.config.checks.aliases import check_aliases
from dcrouter.config.checks.relay import check_relay, meets_strangers
from dcrouter.config.checks.shadows import EVERY, check_shadows, everyone, patterns_of
from dcrouter.config.lists import load_recipients
from dcrouter.config.mail import Email
from dcrouter.config.nodes import Sequence
from dcrouter.config.patterns import RecipientPattern, covering, matches, parse
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.rules import Reject, Rule
from dcrouter.config.units import written_size
from dcrouter.errors import ConfigError

Lists = dict[str, frozenset[str] | None]
"""Of each rule with a recipients_file, by its name, who exists; None where the file cannot be used."""


def check_rules(email: Email, root: Place, reader: Reader) -> None:
    """`root`: the document."""
    findings = root.findings
    check_relay(email, root, reader)
    lists = {rule.name: _recipients(rule, reader.place(rule)) for rule in email.rules if rule.recipients_file}
    for rule in email.rules:
        _check_limits(rule, email, reader.place(rule))
        _check_reachable(rule, email, reader.place(rule))
    check_shadows(email.rules, reader)
    aliases = check_aliases(email, root)
    if not findings.touch(("email", "postmaster")):
        written = root.at("email", "rules").node
        complete = not isinstance(written, Sequence) or len(written.items) == len(email.rules)
        _check_postmaster(email, lists, aliases, root.at("email"), complete=complete)


def _recipients(rule: Rule, place: Place) -> frozenset[str] | None:
    if rule.recipients_file is None or isinstance(rule.action, Reject) or rule.verify is not None:
        return None
    where = place.at("recipients_file")
    try:
        found = load_recipients(rule.recipients_file)
    except ConfigError as error:
        where.tell_of_file(error.problems)
        return None
    if not found:
        where.warn(f"{rule.recipients_file} is empty: the rule takes nobody's mail")
    return found


def _check_limits(rule: Rule, email: Email, place: Place) -> None:
    most = rule.limits.max_recipients
    if most is not None and most > email.max_recipients:
        place.at("limits", "max_recipients").warn(f"is never reached: email.max_recipients is {email.max_recipients}")


def _check_reachable(rule: Rule, email: Email, place: Place) -> None:
    """Warn of what the rest of `email` makes impossible."""
    over = rule.match.size_over
    if over is not None and over >= email.max_message_size and not place.findings.touch(("email", "max_message_size")):
        limit = written_size(email.max_message_size)
        place.at("match", "size_over").warn(f"is never asked: email.max_message_size is {limit}")
    if place.findings.touch(("email", "auth")) or place.findings.touch(("email", "ports")):
        return
    kinds = {port.kind for port in email.ports}
    if rule.match.kinds is not None and kinds.isdisjoint(rule.match.kinds):
        place.at("match", "kinds").warn("is never asked: email.ports has no port of that kind")
    elif rule.match.clients == "authenticated" and not _has_accounts(email.auth):
        place.at("match", "clients").warn("is never asked: nobody can log in without email.auth.users or users_file")


def _has_accounts(auth: Auth) -> bool:
    return bool(auth.users) or any(source is not None for source in (auth.users_file, auth.ldap, auth.oauth2))


# ---------------------------------------------------------------- postmaster


def _check_postmaster(email: Email, lists: Lists, aliases: Aliases | None, place: Place, *, complete: bool) -> None:
    """`complete`: every rule could be read. An alias needs to exist in no list; whom it stands for does."""
    if email.postmaster is None:
        accepting = next((rule for rule in email.rules if _accepts_from_strangers(rule, email)), None)
        if accepting is not None:
            place.tell(f"'postmaster' is missing: rule {accepting.name!r} accepts mail from strangers")
        return
    targets = aliases.expand(email.postmaster) if aliases is not None else None
    _check_taken(email.postmaster, email, lists if targets is None else {}, place.at("postmaster"), complete=complete)
    for target in targets or ():
        if target != email.postmaster:
            _check_taken(target, email, lists, place.at("postmaster"), complete=complete)


def _check_taken(address: str, email: Email, lists: Lists, where: Place, *, complete: bool) -> None:
    """On every kind of port that there is."""
    kinds = list(dict.fromkeys(port.kind for port in email.ports))
    told: set[str] = set()
    missed: list[str] = []
    for kind in kinds:
        rule = next((rule for rule in email.rules if _takes(rule, address, kind)), None)
        if rule is None:
            missed.append(kind)
        elif rule.name in told:
            continue
        elif isinstance(rule.action, Reject):
            told.add(rule.name)
            where.tell(f"rule {rule.name!r} rejects mail to {address!r}")
        elif not _exists(address, lists.get(rule.name)):
            told.add(rule.name)
            where.tell(f"rule {rule.name!r} refuses mail to {address!r}: its recipients_file has no such one")
    if missed and complete:
        through = "" if missed == kinds else f" that comes through {' and '.join(missed)} ports"
        where.tell(f"no rule accepts mail to {address!r}{through}")


def _accepts_from_strangers(rule: Rule, email: Email) -> bool:
    return not isinstance(rule.action, Reject) and meets_strangers(rule, email)


def _takes(rule: Rule, address: str, kind: str) -> bool:
    """Whether all mail to `address` that comes through such a port meets the rule, if it gets that far."""
    match = rule.match
    return (
        not match.asks_message
        and match.clients in ("any", "may_relay")
        and (match.kinds is None or kind in match.kinds)
        and everyone(match.client_ips)
        and EVERY[0] in patterns_of(match.senders)
        and any(matches(pattern, address) for pattern in patterns_of(match.recipients))
    )


def _exists(address: str, known: Iterable[str] | None) -> bool:
    """Whether a list has `address`; None: there is none, or none that can be used."""
    if known is None:
        return True
    wanted = parse(address.lower())
    return any(_text(wider) in known for wider in covering(wanted))


def _text(pattern: RecipientPattern) -> str:
    return f"{pattern.local}@{pattern.domain}"
