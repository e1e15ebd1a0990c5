"""Mail rules: what a stranger can reach, where postmaster's mail ends, which rules can never be asked.

A relay that is open to strangers is found and misused within hours, so it is an error to write one, not a choice.
RFC 5321 section 4.5.1 (postmaster must be reachable).
"""

from __future__ import annotations

from dcrouter.config.mail import Email
from dcrouter.config.nodes import Scalar, Sequence
from dcrouter.config.patterns import ANY, RecipientPattern, covering, matches, parse_all, reaches_any_domain
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.rules import Deliver, MailForward, Reject, Rule

_EVERY = (RecipientPattern(ANY, ANY),)


def check_rules(email: Email, root: Place, reader: Reader) -> None:
    """`root`: the document."""
    findings = root.findings
    for rule in email.rules:
        _check_relay(rule, reader.place(rule))
    _check_shadows(email.rules, reader)
    if not findings.touch(("email", "postmaster")):
        written = root.at("email", "rules").node
        complete = not isinstance(written, Sequence) or len(written.items) == len(email.rules)
        _check_postmaster(email, root.at("email"), complete=complete)


def _check_relay(rule: Rule, place: Place) -> None:
    """Nothing can be forwarded to a domain of the stranger's choice."""
    if not isinstance(rule.action, MailForward):
        return
    if rule.match.recipients is None:
        place.tell(
            f"an open relay: strangers match rule {rule.name!r} with any recipient, and it forwards their mail; "
            "say match.recipients"
        )
        return
    for at, text in enumerate(rule.match.recipients):
        where = place.at("match", "recipients", at)
        (pattern,) = parse_all((text,))
        if reaches_any_domain(pattern):
            how = "end it with a domain, such as @example\\.com" if pattern.regex is not None else "name the domain"
            written = where.node.text if isinstance(where.node, Scalar) else text
            where.tell(f"an open relay: strangers match {written!r} with recipients of any domain; {how}")
        elif pattern.domain.startswith("*") and pattern.domain.count(".") == 1:
            where.warn(f"strangers can send to every domain under {pattern.domain.lstrip('*')}")


def _check_postmaster(email: Email, place: Place, *, complete: bool) -> None:
    """`complete`: every rule could be read."""
    accepting = next((rule for rule in email.rules if isinstance(rule.action, MailForward | Deliver)), None)
    if email.postmaster is None:
        if accepting is not None:
            place.tell(f"'postmaster' is missing: rule {accepting.name!r} accepts mail from strangers")
        return
    for rule in email.rules:
        # Mail to postmaster meets the rules as from a client that may relay.
        if rule.match.clients == "any" and any(
            matches(pattern, email.postmaster) for pattern in _patterns(rule.match.recipients)
        ):
            if isinstance(rule.action, Reject):
                place.at("postmaster").tell(f"rule {rule.name!r} rejects mail to {email.postmaster!r}")
            return
    if complete:
        place.at("postmaster").tell(f"no rule accepts mail to {email.postmaster!r}")


def _check_shadows(rules: tuple[Rule, ...], reader: Reader) -> None:
    """Warn of rules whose every pattern is matched by rules before them."""
    first: dict[RecipientPattern, dict[str, Rule]] = {}
    for rule in rules:
        by: list[Rule] = []
        patterns = _patterns(rule.match.recipients)
        for pattern in patterns:
            for wider in covering(pattern):
                clients = first.get(wider, {})
                shadow = clients.get("any") or clients.get(rule.match.clients)
                if shadow is not None:
                    by.append(shadow)
                    break
        if len(by) == len(patterns):
            names = " and ".join(dict.fromkeys(repr(shadow.name) for shadow in by))
            reader.place(rule).warn(f"is never asked: all that it matches is matched by rule {names} before it")
        for pattern in patterns:
            first.setdefault(pattern, {}).setdefault(rule.match.clients, rule)


def _patterns(recipients: tuple[str, ...] | None) -> tuple[RecipientPattern, ...]:
    return _EVERY if recipients is None else parse_all(recipients)
