"""What the operator wrote about recipients: the rules that decide for each of them, and what a rule does."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.actions import MailKind
from dcrouter.config.conditions import check_header_condition
from dcrouter.config.forms import Duration, LmtpPlace, Name, ReadPath, Secret, Size, counted, key
from dcrouter.config.health import Health
from dcrouter.config.lines import MaildirTemplate, ReplyText
from dcrouter.config.match import Network
from dcrouter.config.patterns import Recipient, Sender
from dcrouter.config.rates import Rate
from dcrouter.config.targets import MailBalance, SimpleTarget

Clients = Literal["any", "may_relay", "authenticated", "strangers"]
OutboundTls = Literal["none", "opportunistic", "required"]


@frozen(kw_only=True)
class RuleMatch:
    """All conditions hold together; within one, any of its values. Headers and size are known at the end of a message:
    who may meet a rule that asks for them is decided there.
    """

    recipients: tuple[Recipient, ...] | None = field(
        default=None,
        metadata=key("Patterns of recipients.", nonempty="no recipient would match", default="every recipient"),
    )
    senders: tuple[Sender, ...] | None = field(
        default=None,
        metadata=key(
            "Patterns of senders; `<>` is the sender of bounces.",
            nonempty="no sender would match",
            default="every sender, and none",
        ),
    )
    clients: Clients = field(
        default="any",
        metadata=key("`may_relay`: authenticated or in `email.trusted`; `strangers`: all others."),
    )
    client_ips: tuple[Network, ...] | None = field(
        default=None,
        metadata=key("Networks that clients come from.", nonempty="no client would match", default="everyone"),
    )
    kinds: tuple[MailKind, ...] | None = field(
        default=None,
        metadata=key("Kinds of ports that the mail came through.", nonempty="no port would match", default="all"),
    )
    headers: dict[str, str] | None = field(
        default=None,
        metadata=key(
            "Headers of the message, all of them: each an exact value, or `re:` and what the whole value matches.",
            nonempty="leave it out to match every message",
            entry=check_header_condition,
            default="every message",
        ),
    )
    size_over: Size | None = field(
        default=None, metadata=key("The message is larger than this.", default="every message")
    )

    @property
    def asks_message(self) -> bool:
        """Whether something is asked that only the message tells."""
        return self.headers is not None or self.size_over is not None


@frozen(kw_only=True)
class RuleLimits:
    """What one rule takes; more gets 451 4.7.1 or 452 4.5.3, and may come again."""

    messages: Rate | None = field(default=None, metadata=key("Messages in a time.", default="no limit"))
    max_recipients: Annotated[int, counted(1, 100_000)] | None = field(
        default=None, metadata=key("Recipients of one message by this rule.", default="no limit of its own")
    )


@frozen(kw_only=True)
class Verify:
    """Who exists is asked of the rule's target, at RCPT, by an SMTP dialogue that sends nothing."""

    ask: Literal["target"] = field(default="target", metadata=key("Whom to ask."))
    cache: Duration = field(default=21600.0, metadata=key("How long an answer is remembered."))


@frozen(kw_only=True)
class SmartHostAuth:
    """How dcrouter proves to the target who it is; only over TLS."""

    user: str = field(metadata=key("The account's name."))
    password: Secret = field(metadata=key("Its password: text, `${ENV}` or `{file: path}`."))


@frozen(kw_only=True)
class MailForward:
    """The message goes to another mail server.

    `retries`: how many other targets one attempt tries; not a key of the file.
    """

    type: Literal["forward"] = field(default="forward", metadata=key("What happens to the message."))
    targets: tuple[SimpleTarget, ...] = field(
        metadata=key("Mail servers, as {host, port}; port 25 unless told.", nonempty="it would lead nowhere")
    )
    balance: MailBalance = field(
        default="failover",
        metadata=key(
            "Which of several targets comes first: the first that can be reached; each in turn; the one with the "
            "fewest attempts under way; the better of two at random."
        ),
    )
    health: Health | None = field(
        default=None,
        metadata=key(
            "How targets are found to be down, by `smtp` or `tcp`, and by failed connections.",
            default="each failure keeps a target away for a short while",
        ),
    )
    tls: OutboundTls = field(
        default="opportunistic",
        metadata=key(
            "`opportunistic`: where the target offers STARTTLS, whatever its certificate; `required`: and the "
            "certificate must be the target's, or the mail waits; `auth` makes it required."
        ),
    )
    ca: ReadPath | None = field(
        default=None, metadata=key("PEM file of the authorities to trust.", default="the system's")
    )
    auth: SmartHostAuth | None = field(default=None, metadata=key("How to log in there.", default="not at all"))
    retries: int = 2


@frozen(kw_only=True)
class Mta:
    """The message goes to the mail servers of the recipient's domain, which its MX records name."""

    type: Literal["mta"] = field(default="mta", metadata=key("What happens to the message."))
    zone: Name | None = field(
        default=None,
        metadata=key("Which of `zones` sends it.", default="the first whose `match` holds, else `default`"),
    )


@frozen(kw_only=True)
class Deliver:
    """The message ends here: in a Maildir under `state_dir`, or with a local server that speaks LMTP. One of them."""

    type: Literal["deliver"] = field(default="deliver", metadata=key("What happens to the message."))
    maildir: MaildirTemplate | None = field(
        default=None,
        metadata=key(
            "Directory under `state_dir`, such as `maildir/{recipient}`; "
            "{recipient} {local} {domain} are percent-encoded.",
            default="required without `lmtp`",
        ),
    )
    lmtp: LmtpPlace | None = field(
        default=None,
        metadata=key("LMTP server, as `127.0.0.1:24` or the path of its socket.", default="required without `maildir`"),
    )


@frozen(kw_only=True)
class Reject:
    """The recipient is refused with this reply."""

    type: Literal["reject"] = field(default="reject", metadata=key("What happens to the message."))
    code: Annotated[int, counted(400, 599)] = field(
        default=550, metadata=key("The reply's code: 4xx for later, 5xx for never.")
    )
    message: ReplyText = field(default="5.7.1 Relaying denied", metadata=key("Enhanced status code and text."))


MailAction = MailForward | Mta | Deliver | Reject


@frozen(kw_only=True)
class Rule:
    """Decided for every recipient on its own; the first in the file that matches wins. It is an error when strangers
    meet a rule that forwards or sends to domains of their choice: it must name domains in `recipients` or
    `recipients_file`, or ask for `clients: may_relay`, for kinds of ports on which AUTH is required, or for
    `client_ips` no wider than a /8 (IPv6: /16). `senders` keep nobody out: anyone can write any sender.
    """

    name: Name = field(metadata=key("Unique; in logs and in the queue."))
    match: RuleMatch = field(factory=RuleMatch, metadata=key("Which recipients are meant.", default="every recipient"))
    limits: RuleLimits = field(factory=RuleLimits, metadata=key("How much it takes.", default="no limits"))
    recipients_file: ReadPath | None = field(
        default=None,
        metadata=key(
            "Who exists: an address or `*@domain` a line, `#` before comments; others get 550 5.1.1. Read again when "
            "it changes."
        ),
    )
    verify: Verify | None = field(
        default=None, metadata=key("Who exists, by asking; instead of `recipients_file`.", default="nobody is asked")
    )
    action: MailAction = field(metadata=key("What happens to them."))
