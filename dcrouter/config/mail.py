"""What the operator wrote about mail: the server, the rules that decide for each recipient, the queue."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.routes import Address, Balance, MailKind, Security, Target
from dcrouter.config.tls import CertificateChoice

Clients = Literal["any", "strangers"]


@frozen(kw_only=True)
class MailPort:
    """One port on which mail arrives; `listen` None: the global addresses."""

    port: int
    kind: MailKind
    listen: tuple[Address, ...] | None = None
    max_connections: int | None = None


@frozen(kw_only=True)
class MailTimeouts:
    """Seconds. `greeting`: from accept to EHLO, TLS included; `command`: between commands; `data`: between bytes of DATA."""

    greeting: float = 30.0
    command: float = 300.0
    data: float = 600.0


@frozen(kw_only=True)
class RuleMatch:
    """`recipients`: address patterns (`*@example.com`, `*@*.example.com`, `re:...`), None: every one."""

    recipients: tuple[str, ...] | None = None
    clients: Clients = "any"


@frozen(kw_only=True)
class MailForward:
    """The message goes to one of `targets` (port 25 where none is given)."""

    type: Literal["forward"] = "forward"
    targets: tuple[Target, ...]
    balance: Balance = "failover"
    retries: int = 2


@frozen(kw_only=True)
class Deliver:
    """The message is put into a Maildir under state_dir; {recipient} {local} {domain} are percent-encoded."""

    type: Literal["deliver"] = "deliver"
    maildir: str


@frozen(kw_only=True)
class Reject:
    """The recipient is refused with this reply; `message` begins with its enhanced status code."""

    type: Literal["reject"] = "reject"
    code: int = 550
    message: str = "5.7.1 Relaying denied"


MailAction = MailForward | Deliver | Reject


@frozen(kw_only=True)
class Rule:
    """Decided for every recipient on its own; the first in the file that matches wins."""

    name: str
    match: RuleMatch = field(factory=RuleMatch)
    action: MailAction


@frozen(kw_only=True)
class Retry:
    """Wait before attempt n: min(base * 2**(n-1), max), times 1 +- jitter; given up after `max_age`. Seconds."""

    base: float = 300.0
    max: float = 14400.0
    max_age: float = 432000.0
    jitter: float = 0.2


@frozen(kw_only=True)
class Queue:
    retry: Retry = field(factory=Retry)


@frozen(kw_only=True)
class Email:
    """`email`. `security` replaces defaults.security on mail ports (max_connections_per_ip: 50 unless told)."""

    hostname: str
    banner: str = "ESMTP"
    postmaster: str | None = None
    ports: tuple[MailPort, ...] = (
        MailPort(port=25, kind="smtp"),
        MailPort(port=587, kind="submission"),
        MailPort(port=465, kind="smtps"),
    )
    certificate: CertificateChoice = "auto"
    max_message_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    security: Security = field(factory=lambda: Security(max_connections_per_ip=50))
    timeouts: MailTimeouts = field(factory=MailTimeouts)
    rules: tuple[Rule, ...] = ()
    default_action: Reject = field(factory=Reject)
    queue: Queue = field(factory=Queue)
