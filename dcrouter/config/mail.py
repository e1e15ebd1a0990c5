"""What the operator wrote about mail: the server, and all that its parts say (rules, accounts, queue)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from attrs import Factory, field, frozen

from dcrouter.config.accounts import Auth
from dcrouter.config.actions import MailKind
from dcrouter.config.authentication import AuthenticationResults
from dcrouter.config.egress import EgressRule
from dcrouter.config.forms import Duration, HostName, Port, ReadPath, Size, counted, key
from dcrouter.config.guards import Dnsbl, Greylist, MailLimit
from dcrouter.config.lines import Line
from dcrouter.config.match import Address, Network
from dcrouter.config.patterns import MailAddress
from dcrouter.config.queue import Bounces, Queue
from dcrouter.config.remote import Remote
from dcrouter.config.rules import Reject, Rule
from dcrouter.config.security import Security
from dcrouter.config.tls import CertificateChoice
from dcrouter.config.zones import OnReply, Shape, Source, Zone

RequireTls = Literal["never", "submission", "always"]

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
class Email:
    """The mail half; without it dcrouter takes no mail. `security` stands instead of defaults.security on its ports.

    `home`: where the queue and Maildirs are, None: state_dir. `outer`: the ports that clients connect to, with their
    addresses, and `edges`: who has them, where `ports` are between the halves (config/halves.py).
    """

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
    remote: Remote | None = field(
        default=None,
        metadata=key("Where the mail half is, when it is a service of its own.", default="it is part of this one"),
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
    require_tls: RequireTls = field(
        default="submission",
        metadata=key("Where mail in clear is refused: `submission` means ports of that kind; AUTH is never in clear."),
    )
    auth: Auth = field(factory=Auth, metadata=key("Who may log in."))
    trusted: tuple[Network, ...] = field(
        default=(),
        metadata=key("Networks that may relay without AUTH; loopback only if it is named.", default="nobody"),
    )
    xclient_from: tuple[Network, ...] = field(
        default=(),
        metadata=key(
            "Proxies that say by Postfix's XCLIENT who their client is; it is announced to them alone.",
            default="nobody",
        ),
    )
    dnsbl: tuple[Dnsbl, ...] = field(
        default=(), metadata=key("Lists in which strangers are looked up who bring mail to smtp ports.", default="none")
    )
    dnsbl_reject_at: Annotated[int, counted(1, 1_000_000)] = field(
        default=3, metadata=key("Sum of scores from which on they are refused, but for mail to postmaster.")
    )
    greylist: Greylist | None = field(
        default=None,
        metadata=key("Whether strangers on smtp ports must come again who are not known.", default="they need not"),
    )
    rate_limits: tuple[MailLimit, ...] = field(
        default=(),
        metadata=key("How much mail may come; all limits that apply count.", default="no limit"),
    )
    authentication_results: AuthenticationResults = field(
        factory=AuthenticationResults, metadata=key("What is checked of mail from strangers, and told in its header.")
    )
    rules: tuple[Rule, ...] = field(default=(), metadata=key("What happens to each recipient; the first match wins."))
    default_action: Reject = field(factory=Reject, metadata=key("For recipients that no rule matches."))
    aliases_file: ReadPath | None = field(
        default=None,
        metadata=key(
            "Addresses that stand for others: a YAML mapping of an address, or a name of `hostname`, to one or a list. "
            "Read again when it changes.",
            default="no aliases",
        ),
    )
    queue: Queue = field(factory=Queue, metadata=key("Mail that was taken and not yet passed on."))
    zones: dict[str, Zone] = field(
        factory=dict,
        metadata=key("Who sends to the world, and how much, by name.", default="`default` alone"),
    )
    pools: dict[str, tuple[Source, ...]] = field(
        factory=dict,
        metadata=key("Addresses from which zones send, by the pool's name: a list each.", default="none"),
    )
    destinations: dict[str, Shape] = field(
        factory=dict,
        metadata=key(
            "What destinations bear: by the name of a provider (with `mx`), or by domain; `default` for all others.",
            default="`default` alone",
        ),
    )
    egress: tuple[EgressRule, ...] = field(
        default=(),
        metadata=key(
            "How connections to other servers are made; the first rule that matches decides.", default="straight"
        ),
    )
    on_reply: tuple[OnReply, ...] = field(
        default=(), metadata=key("What answers of destinations trigger.", default="nothing")
    )
    bounces: Bounces = field(
        factory=Bounces, metadata=key("What senders are told of failures, and what is learnt of them.")
    )
    suppression: tuple[MailAddress, ...] = field(
        default=(), metadata=key("Addresses of the world to which nothing is sent.", default="none")
    )
    home: Path | None = None
    outer: tuple[MailPort, ...] = ()
    edges: tuple[Network, ...] = ()

    @property
    def doors(self) -> tuple[MailPort, ...]:
        """The ports that the world knows."""
        return self.outer or self.ports
