"""What the operator wrote about too much mail, and about clients that are hardly mail servers."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.forms import Duration, Form, Frequency, HostName, counted, key
from dcrouter.config.rates import Rate
from dcrouter.config.units import shown

LimitKey = Literal["client_ip", "client_network", "account", "sender", "sender_domain", "recipient_domain"]
LimitCount = Literal["messages", "recipients", "bytes"]


@frozen(kw_only=True)
class MailLimit:
    """How much mail may come, counted by who it is from or for; `rate`, `quota` or both. Of several limits all that
    apply must have room: one by `account` applies to clients that have logged in, one by sender to mail that has one.
    """

    count: LimitCount = field(default="messages", metadata=key("What is counted."))
    rate: Rate | None = field(
        default=None, metadata=key("How often; tokens come evenly.", default="required without `quota`")
    )
    quota: Frequency | None = field(
        default=None,
        metadata=key(
            "How much in each second, minute, hour or day (UTC); remembered over a restart.",
            default="required without `rate`",
        ),
    )
    alert: bool = field(
        default=False,
        metadata=key("Whether the log and the access log tell when somebody reaches it, once in its time."),
    )
    then: Literal["reject"] | None = field(
        default=None, metadata=key("`reject`: more gets 550 5.7.1.", default="451 4.7.1, for later")
    )
    key: LimitKey = field(
        metadata=key(
            "Whose mail is counted together: an address (IPv6: its /64), a network (/24, IPv6: /48), an account, a "
            "sender, its domain, or the recipient's domain."
        )
    )


def _codes(text: str) -> str:
    """`127.0.0.2`, or `127.0.0.2-127.0.0.11`."""
    first, _, last = text.partition("-")
    try:
        ends = [IPv4Address(end.strip()) for end in (first, last or first)]
    except AddressValueError:
        raise ValueError(f"{shown(text)} is not an answer such as 127.0.0.2 or 127.0.0.2-127.0.0.11") from None
    if not all(end.is_loopback for end in ends):
        raise ValueError(f"{shown(text)}: lists answer with addresses of 127.0.0.0/8 (RFC 5782)")
    if ends[0] > ends[1]:
        raise ValueError(f"{shown(text)} ends before it begins")
    return f"{ends[0]}-{ends[1]}" if last else str(ends[0])


Codes = Annotated[
    str,
    Form(
        name="dnsbl_codes",
        words="an answer `127.0.0.2`, or a range `127.0.0.2-127.0.0.11`",
        read=_codes,
        schema={"type": "string"},
    ),
]


@frozen(kw_only=True)
class Dnsbl:
    """A DNS list of clients. What the lists that a client is on say is added up."""

    zone: HostName = field(metadata=key("The list's name."))
    codes: tuple[Codes, ...] = field(
        default=("127.0.0.2-127.0.0.255",),
        metadata=key("Answers that count; others are as none.", nonempty="no answer would count"),
    )
    score: Annotated[int, counted(-1000, 1000)] = field(
        default=3, metadata=key("What such an answer adds; lists of good clients take away.")
    )


@frozen(kw_only=True)
class Greylist:
    """Clients that are not known must come again, as mail servers do."""

    delay: Duration = field(metadata=key("How long they must wait."))
