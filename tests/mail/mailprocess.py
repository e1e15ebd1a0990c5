"""The mail half as a process of its own, for tests that kill it: prints its port and its pid, ends on SIGTERM.

Arguments: its state directory; and where all its mail goes to the world, the ports of a name server and of exchangers.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from dcrouter.config.admin import Admin, Config
from dcrouter.config.forms import HostPort
from dcrouter.config.mail import Email
from dcrouter.config.rates import Rate
from dcrouter.config.resolver import Resolver
from dcrouter.config.rules import Deliver, MailForward, Rule, RuleMatch
from dcrouter.config.rules import Mta as ToWorld
from dcrouter.config.targets import Target
from dcrouter.config.tls import TlsProfile
from dcrouter.config.zones import Zone
from dcrouter.facts import ConnectionFacts
from dcrouter.mail.delivery.exchangers import SMTP_PORT
from dcrouter.mail.mta import Mta
from dcrouter.tls.chooser import Chooser

RULES = (
    Rule(name="local", match=RuleMatch(recipients=("*@local.test",)), action=Deliver(maildir="maildir/{recipient}")),
    Rule(
        name="void",
        match=RuleMatch(recipients=("*@void.test",)),
        action=MailForward(targets=(Target(host="127.0.0.1", port=1),)),
    ),
)


@implementer(IReadDescriptor)
class Listener:
    """Accepts and hands over."""

    def __init__(self, mta: Mta) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.socket.setblocking(False)
        self._mta = mta
        self._count = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "listener"

    def connectionLost(self, reason: Failure) -> None:
        pass

    def doRead(self) -> None:
        try:
            accepted, peer = self.socket.accept()
        except BlockingIOError:
            return
        self._count += 1
        facts = ConnectionFacts(f"s{self._count}", peer, self.socket.getsockname(), time.time())
        facts.kind = "smtp"
        self._mta.take(accepted.detach(), facts)


ZONE = Zone(connections=3, rate=Rate(rate=(5, 1.0)))


def main(state: Path, dns: int = 0, exchangers: int = SMTP_PORT) -> None:
    email = Email(hostname="mail.example.test", postmaster="b@local.test", rules=RULES)
    resolver = Resolver()
    if dns:
        email = evolve(email, rules=(Rule(name="mta", action=ToWorld()),), zones={"default": ZONE})
        resolver = Resolver(servers=(HostPort("127.0.0.1", dns),))
    config = Config(state_dir=state, admin=Admin(socket=state / "admin.sock"), email=email, resolver=resolver)
    mta = Mta(config, Chooser(TlsProfile(), mail_name="mail.example.test"), reactor, mx_port=exchangers)
    mta.start()
    listener = Listener(mta)
    reactor.addReader(listener)
    assert isinstance(reactor, ReactorBase)

    def end(*_: Any) -> None:
        reactor.callFromThread(lambda: mta.close().addBoth(lambda _: reactor.stop()))

    signal.signal(signal.SIGTERM, end)
    print(listener.socket.getsockname()[1], os.getpid(), flush=True)
    reactor.run(installSignalHandlers=False)


main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
