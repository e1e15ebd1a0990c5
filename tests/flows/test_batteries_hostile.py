"""Peers that speak no SMTP at all, or never stop: clients on every door, and servers that our mail goes to."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import MailForward, Rule, RuleMatch
from dcrouter.config.targets import Target
from dcrouter.mail.delivery.patience import TIMEOUTS, Patience
from tests.mail.house import LOCAL, House, in_thread, send
from tests.support.facts import until
from tests.support.mailboxes import messages
from tests.support.router import Router
from tests.support.router import until as until_now
from tests.support.serving import Serving
from tests.support.talk import ACCOUNT, DOORS, HOSTNAME, USER, Door, open_door, plain

TEXT = f"""
email:
  hostname: {HOSTNAME}
  postmaster: root@example.test
  ports: [{{port: $smtp, kind: smtp}}, {{port: $submission, kind: submission}}, {{port: $smtps, kind: smtps}}]
  auth: {{failures: {{max: 100000, within: 1ms}}, users: [{ACCOUNT}]}}
  rules:
    - name: local
      match: {{recipients: ["*@example.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
  security: {{max_connections_per_ip: 1000}}
"""
SAID = (
    *("EHLO c.test", "HELO c.test", f"MAIL FROM:<{USER}>", "MAIL FROM:<>", "RCPT TO:<box@example.test>", "DATA", "."),
    *("RCPT TO:<postmaster>", "RSET", "NOOP", "QUIT", "STARTTLS", "VRFY x", "HELP", plain(), "AUTH LOGIN", "*", "="),
    *("MAIL FROM:<a@b> SIZE=99999999999999999999", "RCPT TO:<@a,@b:box@example.test>", "MAIL", "RCPT", "EHLO", "AUTH"),
    *(" ", "", "..", ".x", "From: x", "\0", "\r", "\x80\xff", "\x16\x03\x01\x02\x00", "x" * 3000, "BDAT 3", "LHLO x"),
)  # fmt: skip
"""What a client may say, in any order; latin-1, for every octet is one."""
ENDS = ("\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "", "\r\n.\r\n")


class NoiseTests(SynchronousTestCase):
    def test_clients_that_say_anything_harm_nobody(self) -> None:
        """Hundreds of sessions, on all doors, of commands, octets and ends in any order, some of which leave in the
        middle: nothing in the log above an info, nobody restarted, and mail flows.
        """
        router = Router(TEXT, ports=("smtp", "submission", "smtps"))
        self.addCleanup(router.close)
        pids = router.pids()
        for seed in range(250):
            some = random.Random(seed)
            with open_door(router, some.choice(DOORS)) as talk:
                for _ in range(some.randrange(1, 5)):
                    said = "".join(some.choice(SAID) + some.choice(ENDS) for _ in range(some.randrange(1, 30)))
                    if some.random() < 0.2:
                        said += some.randbytes(200).decode("latin-1")
                    talk.send(said.encode("latin-1"))
                if some.random() < 0.5:
                    try:
                        talk.sock.shutdown(socket.SHUT_WR)
                    except OSError:
                        continue  # it has left already
                    talk.rest()
        until_now(lambda: router.counters("mail")["connections"] == 0)
        self.assertEqual(router.pids(), pids)
        with open_door(router, Door(kind="smtp")) as talk:
            talk.begin("last@example.test")
            talk.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            self.assertEqual(talk.reply()[:4], b"250 ")
        until_now(lambda: messages(router.state / "maildir" / "last@example.test"))


class _Hostile(Protocol):
    """Says `first`, then what `answer` gives for each piece that comes; once that is None, `endless` for ever."""

    transport: Server

    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self.streaming = False

    def connectionMade(self) -> None:
        self.server.sessions.append(self)
        self.play(b"")

    def dataReceived(self, data: bytes) -> None:
        self.play(data)

    def play(self, data: bytes) -> None:
        said = self.server.answer(data)
        if said is not None:
            self.transport.write(said)
        elif not self.streaming:
            self.streaming = True
            self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Whenever what was written before has left."""
        self.transport.write(self.server.endless)
        self.server.sent += len(self.server.endless)

    def stopProducing(self) -> None:
        pass

    def connectionLost(self, reason: object = None) -> None:
        self.server.sessions.remove(self)


class HostileServer(Serving):
    """`sent`: octets of `endless`."""

    def __init__(self, case: TestCase, answer: Callable[[bytes], bytes | None], endless: bytes = b"") -> None:
        self.answer = answer
        self.endless = endless * (65536 // max(1, len(endless)))
        self.sent = 0
        super().__init__(case, lambda: _Hostile(self))


GOOD = {
    b"": b"220 next ESMTP\r\n",
    b"EHLO": b"250-next\r\n250 8BITMIME\r\n",
    b"MAIL": b"250 ok\r\n",
    b"RCPT": b"250 ok\r\n",
    b"DATA": b"354 go\r\n",
    b"Rece": b"250 taken\r\n",
    b"QUIT": b"221 bye\r\n",
}
SOME = Patience(connect=3.0, replies=dict.fromkeys(TIMEOUTS, 3.0))
MORE = Patience(connect=60.0, replies=dict.fromkeys(TIMEOUTS, 10.0))
"""Where some have to be heard while others make the reactor busy."""
ENDLESS = (b"2", b"250-and on\r\n", b"250 ok\r\n", b"\r\n", b"\0", b"250-" + b"x" * 4000)
JUNK = (
    *(b"220 hello\r\n", b"250 ok\r\n", b"250-more\r\n", b"250 8BITMIME\r\n", b"250-PIPELINING\r\n250 SIZE 1\r\n"),
    *(b"354 go\r\n", b"421 bye\r\n", b"450 later\r\n", b"550 no\r\n", b"521 never\r\n", b"500-", b"999 x\r\n"),
    *(b"100 x\r\n", b"2", b"\r\n", b"\n", b"250 ok\n", b"250\r\n", b"250 " + b"x" * 5000 + b"\r\n", b"\xff\xfe\0\r\n"),
    *(b"HTTP/1.1 200 OK\r\n\r\n", b""),
)  # fmt: skip


class HostileServerTests(TestCase):
    async def outcomes(self, servers: Sequence[HostileServer], patience: Patience) -> list[str]:
        """One message, a recipient for each server; gives the outcome of each."""
        rules = [
            Rule(
                name=f"r{at}",
                match=RuleMatch(recipients=(f"*@r{at}.test",)),
                action=MailForward(targets=(Target(host="127.0.0.1", port=server.port),)),
            )
            for at, server in enumerate(servers)
        ]
        queue = Queue(retry=Retry(base=600.0, max=600.0))
        house = House(self, LOCAL, *rules, patience=patience, queue=queue)
        port = house.listen()
        await in_thread(send, port, *(f"b@r{at}.test" for at in range(len(servers))))
        await until(lambda: len(house.done) >= len(servers))
        await until(lambda: not any(server.sessions for server in servers))
        await in_thread(send, port, "last@local.test")
        await until(lambda: house.mails("last@local.test"))
        return [
            next(done.outcome for done in house.done if done.recipient == f"b@r{at}.test") for at in range(len(servers))
        ]

    async def test_servers_that_never_stop_are_left(self) -> None:
        """Lines, replies and nothing at all without an end, in each phase: a few megabytes are read at most, and the
        mail waits, unless it had its answer before.
        """
        servers, phases = [], []
        for endless in ENDLESS:
            for phase in GOOD:
                servers.append(HostileServer(self, _until(phase), endless))
                phases.append(phase)
        outcomes = await self.outcomes(servers, MORE)
        for server, phase, outcome in zip(servers, phases, outcomes, strict=True):
            self.assertLess(server.sent, 4_000_000, (server.endless[:10], phase))
            if phase == b"QUIT":
                self.assertEqual(outcome, "delivered")
            elif server.endless[:7] != b"250 ok\r":
                self.assertEqual(outcome, "deferred", (server.endless[:10], phase))

    async def test_servers_that_say_anything_harm_nobody(self) -> None:
        """Replies and octets in any order: an outcome for each, and nothing in the log."""

        def noise(seed: int) -> Callable[[bytes], bytes]:
            some = random.Random(seed)
            return lambda _: b"".join(some.choice(JUNK) for _ in range(some.randrange(4)))

        outcomes = await self.outcomes([HostileServer(self, noise(seed)) for seed in range(150)], SOME)
        self.assertEqual(len(outcomes), 150)
        self.assertNotIn("held", outcomes)


def _until(phase: bytes) -> Callable[[bytes], bytes | None]:
    """Good answers, and None from that phase on."""
    over = False

    def answer(data: bytes) -> bytes | None:
        nonlocal over
        over = over or data[:4] == phase[:4]
        return None if over else GOOD.get(data[:4], b"")

    return answer
