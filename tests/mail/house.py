"""The mail half on loopback, as the mail process would run it, with clients that are real sockets in threads."""

from __future__ import annotations

import smtplib
import socket
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dcrouter.config.admin import Admin, Config
from dcrouter.config.authentication import AuthenticationResults
from dcrouter.config.mail import Email, MailTimeouts
from dcrouter.config.resolver import Resolver
from dcrouter.config.rules import Deliver, MailForward, Rule, RuleMatch
from dcrouter.config.security import MinRate
from dcrouter.config.targets import Target
from dcrouter.config.tls import TlsProfile
from dcrouter.events import DeliveryDone, LimitReached, MailReturned, SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.delivery.patience import TIMEOUTS, Patience
from dcrouter.mail.mta import Mta
from dcrouter.mail.server.sessions import Sessions
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.internal import InternalCa
from dcrouter.wire.smtp.client import Phase

P = ParamSpec("P")
T = TypeVar("T")

HOSTNAME = "mail.example.test"
LOCAL = Rule(name="local", match=RuleMatch(recipients=("*@local.test",)), action=Deliver(maildir="maildir/{recipient}"))


def forward(*ports: int, balance: Any = "failover", retries: int = 2, recipients: str = "*@example.test") -> Rule:
    """A rule that forwards to these ports of loopback."""
    targets = tuple(Target(host="127.0.0.1", port=port) for port in ports)
    return Rule(
        name="out",
        match=RuleMatch(recipients=(recipients,)),
        action=MailForward(targets=targets, balance=balance, retries=retries),
    )


LOOPBACK = (ip_network("127.0.0.1/32"),)
"""For `trusted`: of whom it trusts, the mail half bears that they send all at once, without waiting for replies."""

UNCHECKED = AuthenticationResults(spf=False, dkim=False, dmarc="ignore", arc=False, iprev=False)
"""So that tests about other things ask no DNS."""


class House:
    """One mail half. It closes itself at the end of the test, unless `close` was called before.

    `mx_port`, `https_port`: where it looks for mail exchangers, and for MTA-STS policies; `resolver`: of the
    configuration, to find them; `ca_files`: path -> PEM of those that rules name.
    """

    def __init__(self, case: TestCase, *rules: Rule, state: Path | None = None, **email: Any) -> None:
        self.state = state or Path(case.mktemp()).absolute()
        self.state.mkdir(parents=True, exist_ok=True)
        self.closed: list[SessionClosed] = []
        self.done: list[DeliveryDone] = []
        self.limited: list[LimitReached] = []
        self.returned: list[MailReturned] = []
        self._listeners: list[_Listener] = []
        self._open = True
        patience, mx_port = email.pop("patience", None), email.pop("mx_port", 25)
        ca_files = email.pop("ca_files", None)
        https_port = email.pop("https_port", 443)
        resolver = email.pop("resolver", Resolver())
        email.setdefault("timeouts", MailTimeouts())
        email.setdefault("authentication_results", UNCHECKED)
        self.email = Email(hostname=HOSTNAME, postmaster="root@local.test", rules=rules or (LOCAL,), **email)
        config = self.config = Config(
            state_dir=self.state, admin=Admin(socket=self.state / "admin.sock"), email=self.email, resolver=resolver
        )
        ca = InternalCa(self.state, time.time)
        chooser = self.chooser = Chooser(TlsProfile(), mail_name=HOSTNAME)
        chooser.update([ca.issue([HOSTNAME])])
        self.ca_file = str(ca.root_path)
        self.mta = Mta(
            config,
            chooser,
            reactor,
            self.closed.append,
            self.done.append,
            ca_files=ca_files,
            patience=patience,
            mx_port=mx_port,
            https_port=https_port,
            on_event=self._heard_of,
        )
        self.mta.start()
        case.addCleanup(self.close)

    def _heard_of(self, event: LimitReached | MailReturned) -> None:
        if isinstance(event, LimitReached):
            self.limited.append(event)
        else:
            self.returned.append(event)

    def heard(self, event: DeliveryDone | SessionClosed) -> None:
        """What ends after a reload."""
        if isinstance(event, DeliveryDone):
            self.done.append(event)
        else:
            self.closed.append(event)

    def listen(self, kind: str = "smtp", peer: tuple[str, int] | None = None, least: MinRate | None = None) -> int:
        """A port of loopback whose connections are handed to the mail half; `peer` is who they are said to be, `least`
        what they must move.
        """
        listener = _Listener(self, kind, peer, least)
        self._listeners.append(listener)
        return listener.port

    @property
    def sessions(self) -> Sessions:
        """Of clients."""
        assert self.mta.sessions is not None
        return self.mta.sessions

    async def close(self) -> None:
        """As a mail process ends."""
        if self._open:
            self._open = False
            for listener in self._listeners:
                listener.close()
            await self.mta.close()

    def mails(self, recipient: str) -> list[bytes]:
        """What is in the new/ of a recipient's Maildir, in order of arrival."""
        return [path.read_bytes() for path in sorted((self.state / "maildir" / recipient / "new").glob("*"))]

    def idle(self) -> Deferred[None]:
        """Fires when no attempt is under way, and what came of all is in the store."""
        return self.mta._queue.when_idle()

    def queue(self) -> Deferred[list[dict[str, Any]]]:
        """Recipients that are queued, held or failed, as the operator sees them."""
        return self.mta.queue_ask({"do": "list"}).addCallback(lambda answer: answer["messages"])


@implementer(IReadDescriptor)
class _Listener:
    """Accepts, and hands over, as the edge does."""

    def __init__(self, house: House, kind: str, peer: tuple[str, int] | None, least: MinRate | None) -> None:
        self._house = house
        self._least = least
        self._kind = kind
        self._peer = peer
        self._count = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "listener"

    def connectionLost(self, reason: Failure) -> None:
        pass

    def doRead(self) -> None:
        for _ in range(64):
            try:
                accepted, peer = self._socket.accept()
            except BlockingIOError:
                return
            self._count += 1
            facts = ConnectionFacts(
                f"{self._kind}-{self._count}", self._peer or peer, ("127.0.0.1", self.port), time.time()
            )
            facts.kind = self._kind
            facts.route = f"{self._kind}-{self.port}"
            self._house.mta.take(accepted.detach(), facts, self._least)

    def close(self) -> None:
        reactor.removeReader(self)
        self._socket.close()


class Client(smtplib.SMTP):
    """Of a port whose certificate has another name than where it is reached."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, timeout=240)
        self._host = HOSTNAME


def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    return deferToThread(call, *args, **kwargs)


def dialogue(port: int, *lines: bytes | str, timeout: float = 60.0) -> list[bytes]:
    """Blocking: connects, sends each line after the reply to the one before, gives all replies, the greeting first."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        stream = connection.makefile("rb")
        replies = [_reply(stream)]
        for line in lines:
            connection.sendall(line if isinstance(line, bytes) else line.encode() + b"\r\n")
            replies.append(_reply(stream))
        return replies


def _reply(stream: Any) -> bytes:
    line: bytes = stream.readline()
    while line[3:4] == b"-":
        line = stream.readline()
    return line.rstrip()


def send(port: int, *recipients: str, sender: str = "a@x.test", body: str = "Subject: x\r\n\r\ntext\r\n") -> None:
    """Blocking: one message by smtplib; raises its exceptions."""
    with smtplib.SMTP("127.0.0.1", port, timeout=240) as client:
        client.sendmail(sender, list(recipients), body.encode())


def impatient(*phases: Phase) -> Patience:
    """A sender who waits not long in these phases, for next hops that are silent there, and keeps no connection."""
    return Patience(replies={**TIMEOUTS, **dict.fromkeys(phases, 1.5), "idle": 0.1})
