"""What strangers can reach through the mail rules: a relay that is open to them is found and misused within hours, so
it is an error to write one, not a choice.

A stranger meets a rule unless `clients` asks for more, or every one of its `kinds` is one on which mail without AUTH is
refused, or `client_ips` names networks: as `email.trusted` does, and like there nothing wider than a /8 (IPv6: /16) is
a name for anybody in particular. `senders` keep nobody out, because anyone can write any sender.
What a rule takes from strangers it must not carry to a domain of their choice: its recipients name their domains, or
its `recipients_file` does. `mta` reaches the whole Internet, so there a whole top-level domain is nobody's either.
"""

from __future__ import annotations

from collections.abc import Sequence

from dcrouter.config.mail import Email
from dcrouter.config.match import Network
from dcrouter.config.nodes import Scalar
from dcrouter.config.patterns import RecipientPattern, parse, reaches_any_domain
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.rules import MailForward, Mta, Rule

_KINDS = ("smtp", "submission", "smtps")
_WIDEST = {4: 8, 6: 16}
"""Prefixes: the largest network that one organisation has (10.0.0.0/8), and for IPv6 more than any was ever given."""
_PRIVATE = {4: 8, 6: 7}
"""fc00::/7, the private addresses of IPv6 (RFC 4193), are one network too."""


def check_relay(email: Email, root: Place, reader: Reader) -> None:
    """`root`: the document."""
    trusted = root.at("email", "trusted")
    if trusted.step == "trusted" and not root.findings.touch(("email", "trusted")):
        for at, network in enumerate(email.trusted):
            if _is_anybody(network):
                trusted.at(at).tell(f"an open relay: '{network}' is no network of anybody in particular")
    introducers = root.at("email", "xclient_from")
    if introducers.step == "xclient_from" and not root.findings.touch(("email", "xclient_from")):
        for at, network in enumerate(email.xclient_from):
            if _is_anybody(network):
                introducers.at(at).tell(f"whoever speaks from '{network}' could be any client, and any account")
    for rule in email.rules:
        if isinstance(rule.action, MailForward | Mta) and strangers_relay(rule, email):
            _check_recipients(rule, reader.place(rule))


def meets_strangers(rule: Rule, email: Email) -> bool:
    """Whether mail of clients that neither have logged in nor are trusted can meet the rule."""
    kinds = rule.match.kinds or _KINDS
    return rule.match.clients in ("any", "strangers") and not set(kinds) <= set(email.auth.required)


def strangers_relay(rule: Rule, email: Email) -> bool:
    """The same, where the networks of `client_ips` count as known."""
    return meets_strangers(rule, email) and not are_somebody(rule.match.client_ips)


def are_somebody(networks: Sequence[Network] | None) -> bool:
    """Whether networks are narrow enough to be somebody's; None: everyone's."""
    return networks is not None and not any(map(_is_anybody, networks))


def _is_anybody(network: Network) -> bool:
    if network.version == 6 and network.network_address.is_private:
        return network.prefixlen < _PRIVATE[6]
    return network.prefixlen < _WIDEST[network.version]


def _check_recipients(rule: Rule, place: Place) -> None:
    if place.says("recipients_file"):
        return
    if rule.match.recipients is None:
        how = "forwards" if isinstance(rule.action, MailForward) else "sends"
        place.tell(
            f"an open relay: strangers match rule {rule.name!r} with any recipient, and it {how} "
            "their mail; say match.recipients" + (", or match.clients: may_relay" if how == "sends" else "")
        )
        return
    for at, text in enumerate(rule.match.recipients):
        where = place.at("match", "recipients", at)
        pattern = parse(text)
        written = where.node.text if isinstance(where.node, Scalar) else text
        if reaches_any_domain(pattern):
            how = "end it with a domain, such as @example\\.com" if pattern.regex is not None else "name the domain"
            own = ", or say match.clients: may_relay" if isinstance(rule.action, Mta) else ""
            where.tell(f"an open relay: strangers match {written!r} with recipients of any domain; {how}{own}")
        elif _is_top_level(pattern):
            top = pattern.domain.lstrip("*")
            if isinstance(rule.action, Mta):
                where.tell(f"an open relay: strangers match {written!r} with every domain under {top}; name the domain")
            else:
                where.warn(f"strangers can send to every domain under {top}")


def _is_top_level(pattern: RecipientPattern) -> bool:
    return pattern.domain.startswith("*") and pattern.domain.count(".") == 1
