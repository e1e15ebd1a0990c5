"""What the operator wrote about sending to the world: who sends how fast from where, and what destinations bear."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config import names
from dcrouter.config.conditions import check_header_condition
from dcrouter.config.forms import Duration, Form, HostName, Name, counted, key
from dcrouter.config.match import Address, Network
from dcrouter.config.patterns import Recipient, Sender
from dcrouter.config.rates import Rate
from dcrouter.config.regex import expression
from dcrouter.config.rules import OutboundTls
from dcrouter.config.units import shown

DEFAULT = "default"
"""The zone of mail that has no other, and the entry of destinations that have none of their own."""

LONGEST_REPLY = 1000
"""Characters of a reply that an expression of on_reply looks at."""

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
    pool: Name | None = field(
        default=None, metadata=key("Which of `pools` it sends from.", default="the host's own address")
    )
    match: ZoneMatch | None = field(
        default=None, metadata=key("Mail that belongs to it without a rule's word.", default="none")
    )


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{shown(text)} is not a date such as 2026-12-01") from None


Day = Annotated[
    str,
    Form(
        name="day",
        words="a date: `2026-12-01`",
        read=_day,
        schema={"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    ),
]


@frozen(kw_only=True)
class Warmup:
    """How an unknown address begins: with little; what is too much for it goes from the pool's warm ones."""

    start: Day = field(metadata=key("Its first day (UTC); before it sends nothing."))
    daily: tuple[Annotated[int, counted(1, 100_000_000)], ...] = field(
        metadata=key(
            "Messages on its first day, its second, and so on; behind the last it is warm.", nonempty="it would be warm"
        )
    )
    per: Literal["provider"] = field(
        default="provider",
        metadata=key("For each provider (an entry of `destinations` with `mx`), and for each domain that has none."),
    )


@frozen(kw_only=True)
class Source:
    """An address of this host from which mail leaves. A message keeps its source for as long as the pool has it."""

    address: Address = field(
        metadata=key("The local address; destinations of the other family are not reached from it.")
    )
    name: HostName | None = field(
        default=None, metadata=key("What it is called in EHLO: its name in DNS.", default="email.hostname")
    )
    weight: Annotated[int, counted(1, 1_000_000)] = field(
        default=1, metadata=key("Its share of the mail, beside the others' weights.")
    )
    warmup: Warmup | None = field(default=None, metadata=key("How it begins.", default="it is warm"))


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


ReplyAction = Literal["rotate_source", "slow_down", "suspend", "bounce"]


def _reply_pattern(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: every reply would match")
    if text.startswith(names.REGEX):
        reply_expression(text)
    return text


def reply_expression(text: str) -> re.Pattern[str]:
    """What stands behind `re:`, to be searched for in a reply; ValueError where it is none."""
    return expression(text, LONGEST_REPLY, ignore_case=False)


ReplyPattern = Annotated[
    str,
    Form(
        name="reply",
        words="how a reply begins (`421 4.7.0`), or `re:...`, which is searched for in it",
        read=_reply_pattern,
        schema={"type": "string", "minLength": 1},
    ),
]


@frozen(kw_only=True)
class OnReply:
    """What a remote answer triggers: a refusal of the session, of a recipient or of a message. The first entry that
    matches counts. It is about the destination that has said so: a domain with an entry, a provider, or the host.
    """

    match: ReplyPattern = field(metadata=key("Which replies; lines are joined by spaces."))
    action: ReplyAction = field(
        metadata=key(
            "`rotate_source`: the source is not used there, and the mail leaves from another at once; `slow_down`: the "
            "destination gets mail at the rate `to`; `suspend`: none; `bounce`: the mail fails, and with `for` all "
            "other mail to the destination."
        )
    )
    to: Rate | None = field(default=None, metadata=key("The rate of slow_down.", default="required with slow_down"))
    for_: Duration | None = field(
        default=None, metadata=key("For how long.", name="for", default="`1h`; of bounce: only this mail")
    )
