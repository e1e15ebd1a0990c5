"""What the operator wrote about mail: the server, the rules that decide for each recipient, the queue."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import Factory, field, frozen

from dcrouter.config.forms import Duration, HostName, Name, Port, Share, Size, counted, key
from dcrouter.config.lines import Line, MaildirTemplate, ReplyText
from dcrouter.config.patterns import MailAddress, Recipient
from dcrouter.config.routes import Address, Balance, MailKind, Security, Target
from dcrouter.config.tls import CertificateChoice

Clients = Literal["any", "strangers"]

KINDS: dict[int, MailKind] = {25: "smtp", 587: "submission", 465: "smtps"}
"""What a port speaks unless it is told otherwise; every other one speaks smtp."""


def kind_of(port: int) -> MailKind:
    """The kind of a mail port that does not say."""
    return KINDS.get(port, "smtp")


@frozen(kw_only=True)
class MailPort:
    """One port on which mail arrives."""

    port: Port = field(metadata=key("The port."))
    kind: MailKind = field(
        default=Factory(lambda self: kind_of(self.port), takes_self=True),
        metadata=key("What is spoken there.", default="by the port's number; else smtp"),
    )
    listen: tuple[Address, ...] | None = field(
        default=None,
        metadata=key(
            "Addresses on which it is bound.", nonempty="no address would match", default="the global `listen`"
        ),
    )
    max_connections: Annotated[int, counted(1)] | None = field(
        default=None, metadata=key("Connections to this port at once.", default="as email.security")
    )


@frozen(kw_only=True)
class MailTimeouts:
    """How long the mail server waits for a client."""

    greeting: Duration = field(default=30.0, metadata=key("From accept to EHLO, TLS included."))
    command: Duration = field(default=300.0, metadata=key("Between commands."))
    data: Duration = field(default=600.0, metadata=key("Between bytes of a message."))


@frozen(kw_only=True)
class RuleMatch:
    """All conditions hold together; within one, any of its values."""

    recipients: tuple[Recipient, ...] | None = field(
        default=None,
        metadata=key("Patterns of recipients.", nonempty="no recipient would match", default="every recipient"),
    )
    clients: Clients = field(default="any", metadata=key("`strangers`: those that may not relay."))


@frozen(kw_only=True)
class MailForward:
    """The message goes to another mail server.

    `retries`: how many other targets one attempt tries; not a key of the file.
    """

    type: Literal["forward"] = field(default="forward", metadata=key("What happens to the message."))
    targets: tuple[Target, ...] = field(
        metadata=key("Mail servers, as {host, port}; port 25 unless told.", nonempty="it would lead nowhere")
    )
    balance: Balance = field(default="failover", metadata=key("How one of several targets is picked."))
    retries: int = 2


@frozen(kw_only=True)
class Deliver:
    """The message is put into a Maildir under `state_dir`."""

    type: Literal["deliver"] = field(default="deliver", metadata=key("What happens to the message."))
    maildir: MaildirTemplate = field(
        metadata=key(
            "Directory under `state_dir`, such as `maildir/{recipient}`; "
            "{recipient} {local} {domain} are percent-encoded."
        )
    )


@frozen(kw_only=True)
class Reject:
    """The recipient is refused with this reply."""

    type: Literal["reject"] = field(default="reject", metadata=key("What happens to the message."))
    code: Annotated[int, counted(400, 599)] = field(
        default=550, metadata=key("The reply's code: 4xx for later, 5xx for never.")
    )
    message: ReplyText = field(default="5.7.1 Relaying denied", metadata=key("Enhanced status code and text."))


MailAction = MailForward | Deliver | Reject


@frozen(kw_only=True)
class Rule:
    """Decided for every recipient on its own; the first in the file that matches wins."""

    name: Name = field(metadata=key("Unique; in logs and in the queue."))
    match: RuleMatch = field(factory=RuleMatch, metadata=key("Which recipients are meant.", default="every recipient"))
    action: MailAction = field(metadata=key("What happens to them."))


@frozen(kw_only=True)
class Retry:
    """Wait before attempt n: min(base * 2**(n-1), max), times 1 +- jitter; given up after `max_age`."""

    base: Duration = field(default=300.0, metadata=key("Before the second attempt; doubled each time."))
    max: Duration = field(default=14400.0, metadata=key("The longest wait."))
    max_age: Duration = field(default=432000.0, metadata=key("When a message is given up."))
    jitter: Share = field(default=0.2, metadata=key("By which share a wait may be shorter or longer."))


@frozen(kw_only=True)
class Queue:
    """Mail that was taken and not yet passed on."""

    retry: Retry = field(factory=Retry, metadata=key("When a message is tried again."))


@frozen(kw_only=True)
class Email:
    """The mail half; without it dcrouter takes no mail. `security` stands instead of defaults.security on its ports."""

    hostname: HostName = field(metadata=key("Who we are: banner, EHLO, Received, and the certificate's name."))
    banner: Line = field(default="ESMTP", metadata=key("Text behind the host name in the greeting."))
    postmaster: MailAddress | None = field(
        default=None,
        metadata=key(
            "Where mail to postmaster goes; some rule must accept it.",
            default="required when a rule accepts mail from strangers",
        ),
    )
    ports: tuple[MailPort, ...] = field(
        default=(MailPort(port=25), MailPort(port=587), MailPort(port=465)),
        metadata=key("Ports on which mail arrives: numbers, or {port, kind, ...}.", nonempty="no mail could arrive"),
    )
    certificate: CertificateChoice = field(
        default="auto",
        metadata=key("`auto`: of certificates.files, else of the internal CA; `internal`; or {cert, key}."),
    )
    max_message_size: Size = field(default=50 * 1024 * 1024, metadata=key("Told to clients as SIZE."))
    max_recipients: Annotated[int, counted(1, 100_000)] = field(
        default=1000, metadata=key("Of one message; more get 452 4.5.3.")
    )
    security: Security = field(
        factory=lambda: Security(max_connections_per_ip=50),
        metadata=key("Who may connect to mail ports; `max_connections_per_ip` is 50 unless told."),
    )
    timeouts: MailTimeouts = field(factory=MailTimeouts, metadata=key("How long a client is waited for."))
    rules: tuple[Rule, ...] = field(default=(), metadata=key("What happens to each recipient; the first match wins."))
    default_action: Reject = field(factory=Reject, metadata=key("For recipients that no rule matches."))
    queue: Queue = field(factory=Queue, metadata=key("Mail that was taken and not yet passed on."))
