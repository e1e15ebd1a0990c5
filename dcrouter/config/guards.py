"""What the operator wrote about too much mail, and about clients that are hardly mail servers."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.forms import Frequency, key
from dcrouter.config.rates import Rate

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
