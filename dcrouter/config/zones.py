"""What the operator wrote about sending to the world: who sends how fast from where, and what destinations bear."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from dcrouter.config import names
from dcrouter.config.conditions import check_header_condition
from dcrouter.config.forms import Duration, HostName, counted, key
from dcrouter.config.match import Network
from dcrouter.config.patterns import Recipient, Sender
from dcrouter.config.rates import Rate
from dcrouter.config.rules import OutboundTls

DEFAULT = "default"
"""The zone of mail that has no other, and the entry of destinations that have none of their own."""

Count = Annotated[int, counted(1, 1_000_000)]


@frozen(kw_only=True)
class ZoneMatch:
    """All conditions hold together; within one, any of its values."""

    senders: tuple[Sender, ...] | None = field(
        default=None,
        metadata=key("Patterns of senders.", nonempty="no sender would match", default="every sender"),
    )
    recipients: tuple[Recipient, ...] | None = field(
        default=None,
        metadata=key("Patterns of recipients.", nonempty="no recipient would match", default="every recipient"),
    )
    headers: dict[str, str] = field(
        factory=dict,
        metadata=key(
            "Fields of the message's header: the exact value, or `re:` and an expression for all of it.",
            nonempty="no message would match",
            entry=check_header_condition,
            default="any",
        ),
    )
    client_ips: tuple[Network, ...] | None = field(
        default=None,
        metadata=key("Networks that clients come from.", nonempty="no client would match", default="everyone"),
    )


@frozen(kw_only=True)
class Zone:
    """A virtual sender: its limits hold for all its mail together, whichever destinations it goes to.

    Mail has the zone that its rule names; else the first whose `match` holds when the message has come; else `default`.
    """

    connections: Count = field(default=20, metadata=key("To all destinations at once."))
    connection_time: Duration = field(default=600.0, metadata=key("For which one connection carries messages."))
    messages_per_connection: Count = field(default=100, metadata=key("On one connection; then it is opened anew."))
    rate: Rate | None = field(
        default=None,
        metadata=key(
            "Messages: never more in any time of that length; with `burst` evenly, besides.", default="no limit"
        ),
    )
    match: ZoneMatch | None = field(
        default=None, metadata=key("Mail that belongs to it without a rule's word.", default="none")
    )


@frozen(kw_only=True)
class Shape:
    """What a destination bears, from all zones together: a provider, if `mx` says which hosts are its; else the domain
    of this name; as `default` each host that no other entry is about. What is not said is as in `default`. A domain's
    own entry holds beside that of the provider which hosts it.
    """

    mx: tuple[HostName, ...] | None = field(
        default=None,
        metadata=key(
            "Names of mail servers, and of all below them, which share these limits.",
            nonempty="no host would match",
            default="the entry's name is a domain",
        ),
    )
    connections: Count | None = field(default=None, metadata=key("At once.", default="`10`, or that of `default`"))
    messages_per_connection: Count | None = field(
        default=None, metadata=key("On one connection.", default="`100`, or that of `default`")
    )
    rate: Rate | None = field(
        default=None, metadata=key("Messages, as the rate of a zone.", default="no limit, or that of `default`")
    )
    tls: OutboundTls | None = field(
        default=None,
        metadata=key(
            "`opportunistic`: where it is offered; `required`: and the certificate must be the host's, or the mail "
            "waits.",
            default="`opportunistic`, or that of `default`",
        ),
    )
    dane: bool | None = field(
        default=None,
        metadata=key(
            "Whether TLSA records that DNSSEC vouches for are obeyed (RFC 7672).",
            default="`true`, or that of `default`",
        ),
    )
    mta_sts: bool | None = field(
        default=None,
        metadata=key(
            "Whether the domain's MTA-STS policy is obeyed (RFC 8461), where there is no DANE.",
            default="`true`, or that of `default`",
        ),
    )


def check_destination(name: str) -> str:
    """The name of an entry that is a domain, as it is compared; or ValueError."""
    return names.hostname(name)
