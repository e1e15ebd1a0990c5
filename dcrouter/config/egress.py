"""What the operator wrote about how connections to other mail servers are made: straight, or through proxies."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config import names
from dcrouter.config.forms import CodeName, Form, Name, counted, key
from dcrouter.config.match import Network
from dcrouter.config.patterns import Recipient
from dcrouter.config.targets import MailBalance
from dcrouter.config.through import ProxyUrl
from dcrouter.config.times import TimeWindow

OnFailure = Literal["defer", "direct"]


def _host(text: str) -> str:
    return names.target_host(text) if names.is_address(text.strip("[]")) else names.domain_pattern(text)


HostPattern = Annotated[
    str,
    Form(
        name="host_pattern",
        words="a host: `mx.example.com` `*.example.com` (one label) `**.example.com` (more) `re:...` `192.0.2.1`",
        read=_host,
        schema={"type": "string", "minLength": 1},
    ),
]


@frozen(kw_only=True)
class EgressMatch:
    """All conditions hold together; within one, any of its values."""

    zone: tuple[Name, ...] | None = field(
        default=None,
        metadata=key(
            "The sending zone of the mail.", scalar=True, nonempty="no mail would match", default="every zone"
        ),
    )
    recipient: tuple[Recipient, ...] | None = field(
        default=None,
        metadata=key(
            "Patterns of recipients.", scalar=True, nonempty="no recipient would match", default="every recipient"
        ),
    )
    host: tuple[HostPattern, ...] | None = field(
        default=None,
        metadata=key(
            "The server that is connected to: the name of a domain's exchanger, or the host of a rule's target.",
            scalar=True,
            nonempty="no host would match",
            default="every host",
        ),
    )
    destination_ips: tuple[Network, ...] | None = field(
        default=None,
        metadata=key(
            "Networks of its addresses, as dcrouter resolves them.",
            nonempty="no address would match",
            default="every address",
        ),
    )
    time: TimeWindow | None = field(
        default=None,
        metadata=key("When the rule holds.", nonempty="leave it out to match at all times", default="always"),
    )
    attempts_over: Annotated[int, counted(0, 1_000_000)] | None = field(
        default=None,
        metadata=key("More attempts than so many have been made for the recipient.", default="from the first one on"),
    )


@frozen(kw_only=True)
class EgressRule:
    """Before each connection to another server the first rule that is enabled and whose conditions all hold decides how
    it is made; without one it is made straight.
    """

    match: EgressMatch = field(
        factory=EgressMatch, metadata=key("Which connections are meant.", default="every connection")
    )
    enabled: bool = field(default=True, metadata=key("Whether the rule holds."))
    through: tuple[ProxyUrl, ...] = field(
        default=(),
        metadata=key(
            "Proxies, which get the names of the servers and resolve them themselves. A user and a password are "
            "percent-encoded.",
            nonempty="it would lead nowhere",
            default="required without `select`",
        ),
    )
    select: CodeName | None = field(
        default=None,
        metadata=key(
            "A callable that says how the connection is made, or leaves it to the rules behind this one; instead of "
            "`through`. Modules as for `factory` of a handler.",
            default="required without `through`",
        ),
    )
    balance: MailBalance = field(
        default="failover",
        metadata=key(
            "Which of several proxies comes first: the first that works; each in turn; the one with the fewest "
            "connections; the better of two at random."
        ),
    )
    on_failure: OnFailure = field(
        default="defer",
        metadata=key(
            "When no proxy works: the mail waits, or (`direct`) a connection is made straight, which shows the address "
            "that proxies hide."
        ),
    )
