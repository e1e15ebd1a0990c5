"""Addresses out in the world that have failed: nothing is sent there, and an operator sees why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.trial.unittest import TestCase

from dcrouter.config.mail import Email
from dcrouter.config.queue import Bounces, SoftBounces, Suppress
from dcrouter.config.rules import Mta, Rule, RuleMatch
from dcrouter.mail.bounces.suppression import Suppression
from dcrouter.mail.ledger import Ledger
from tests.mail.house import LOCAL, House, dialogue, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.support.facts import until
from tests.support.nameserver import Nameserver

DAY = 86_400.0
HARD, SOFT = "550 5.1.1 No such user", "552 5.2.2 Mailbox full"
OUT = Rule(name="out", match=RuleMatch(recipients=("*@x.test",)), action=Mta())
LEARNS = Bounces(suppress=Suppress(hard=30 * DAY, soft=SoftBounces(count=3, for_=7 * DAY)))


class LearningTests(TestCase):
    def setUp(self) -> None:
        self.seconds = 1e9
        self.directory = Path(self.mktemp())
        self.email = Email(
            hostname="mail.example.test", rules=(LOCAL,), bounces=LEARNS, suppression=("no@b\u00fccher.test",)
        )
        self.open()

    def open(self) -> None:
        """As at a start."""
        self.ledger = Ledger(self.directory, reactor, lambda: self.seconds, lambda call, *args: succeed(call(*args)))
        self.addCleanup(self.ledger.close)
        self.suppression = Suppression(self.ledger, lambda: self.seconds)
        self.suppression.reload(self.email)
        self.suppression.open()

    def test_hard_at_once(self) -> None:
        """For its time, over a restart, however the address is written."""
        self.suppression.failed("Bob@X.test", HARD)
        self.ledger.close()
        self.open()
        self.assertEqual(self.suppression.why("bob@x.test"), "bad-mailbox")
        self.assertIsNone(self.suppression.why("bob@y.test"))
        self.seconds += 30 * DAY
        self.assertIsNone(self.suppression.why("bob@x.test"))

    def test_soft_by_count(self) -> None:
        """The third within seven days, over a restart; a delivery in between, or time, begins anew."""
        for _ in range(2):
            self.suppression.failed("b@x.test", SOFT)
        self.suppression.delivered("b@x.test")
        for _ in range(2):
            self.suppression.failed("b@x.test", SOFT)
        self.seconds += 8 * DAY
        for _ in range(2):
            self.suppression.failed("b@x.test", SOFT)
        self.assertIsNone(self.suppression.why("b@x.test"))
        self.ledger.close()
        self.open()
        self.suppression.failed("b@x.test", SOFT)
        self.assertEqual(self.suppression.why("b@x.test"), "quota")
        self.seconds += 7 * DAY
        self.assertIsNone(self.suppression.why("b@x.test"))

    def test_the_file(self) -> None:
        """U-labels and A-labels alike; nobody takes it away by a command."""
        self.assertEqual(self.suppression.why("NO@xn--bcher-kva.test"), "file")
        answer = self.suppression.answered({"do": "remove", "address": "no@xn--bcher-kva.test"})
        self.assertEqual(answer["status"], 400)

    def test_nothing_is_learnt_unless_it_is_wanted(self) -> None:
        """Without `suppress`, and then no file is made."""
        self.suppression.reload(Email(hostname="mail.example.test", rules=(LOCAL,)))
        self.suppression.failed("b@x.test", HARD)
        self.suppression.delivered("b@x.test")
        self.assertIsNone(self.suppression.why("b@x.test"))
        self.assertFalse(self.directory.exists())

    def test_an_operator(self) -> None:
        """Adds for a time or for ever, sees pages, removes; wrong addresses are errors."""
        ask = self.suppression.answered
        self.assertEqual(ask({"do": "add", "address": "a@x.test", "seconds": 60}), {"address": "a@x.test"})
        ask({"do": "add", "address": "b@x.test"})
        page = ask({"do": "list"})
        self.assertEqual(
            page,
            {
                "suppressed": [
                    {"address": "a@x.test", "why": "operator", "since": 1e9, "until": 1e9 + 60},
                    {"address": "b@x.test", "why": "operator", "since": 1e9, "until": None},
                    {"address": "no@xn--bcher-kva.test", "why": "file", "since": None, "until": None},
                ],
                "next": None,
            },
        )
        self.assertEqual(ask({"do": "list", "after": "b@x.test"})["suppressed"], page["suppressed"][2:])
        self.assertEqual(ask({"do": "remove", "address": "b@x.test"}), {"address": "b@x.test"})
        self.assertIsNone(self.suppression.why("b@x.test"))
        self.assertEqual(ask({"do": "remove", "address": "b@x.test"})["status"], 404)
        self.assertEqual(ask({"do": "add", "address": "b"})["status"], 400)
        ask({"do": "add", "address": "\u00fc@x.test"})
        self.assertEqual(self.suppression.why("\u00fc@x.test"), "operator")


class SendingTests(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.dns.add("x.test", "MX", "10 mx.x.test.")
        self.dns.add("mx.x.test", "A", "127.0.0.1")

    def house(self, hop: ScriptedHop, **more: Any) -> House:
        more.setdefault("bounces", LEARNS)
        return House(self, LOCAL, OUT, resolver=self.dns.config(), mx_port=hop.port, **more)

    async def test_what_a_server_says_is_learnt(self) -> None:
        """The next message to it is refused at RCPT, and the hop is not asked; others are sent."""
        hop = ScriptedHop(self, RCPT=lambda line: HARD if "gone@" in line else "250 2.1.5 ok")
        house = self.house(hop)
        port = house.listen()
        await in_thread(send, port, "gone@x.test")
        await until(lambda: house.mta.status()["failed"])
        replies = await in_thread(
            dialogue, port, "EHLO c.test", "MAIL FROM:<a@y.test>", "RCPT TO:<gone@x.test>", "RCPT TO:<here@x.test>"
        )
        self.assertEqual(replies[-2], b"550 5.7.1 Nothing is sent to <gone@x.test> any more (bad-mailbox)")
        self.assertTrue(replies[-1].startswith(b"250"), replies)
        self.assertEqual(house.mta.status()["suppressed"], 1)
        self.assertEqual(house.mta.status()["bounces"], {"bad-mailbox": 1})
        self.assertEqual([one.kind for one in house.done if one.outcome == "failed"], ["bad-mailbox"])

    async def test_what_waits_already(self) -> None:
        """Is not sent either: one of two recipients that were taken before."""
        hop = ScriptedHop(self, greeting="421 4.3.2 not now")
        house = self.house(hop)
        await in_thread(send, house.listen(), "a@x.test", "b@x.test")
        await until(lambda: house.mta.status()["deferred"] == 2)
        await house.idle()
        house.mta.suppression({"do": "add", "address": "a@x.test"})
        hop.script["greeting"] = "220 next"
        await house.mta.queue_ask({"do": "retry", "all": True})
        await until(lambda: hop.messages)
        ((envelope, _),) = hop.messages
        self.assertEqual(envelope[1:], ["RCPT TO:<b@x.test>"])
        await until(lambda: house.mta.status()["failed"] == 1)

    async def test_only_the_world(self) -> None:
        """A rule that delivers here, or forwards, learns and refuses nothing."""
        hop = ScriptedHop(self)
        house = self.house(hop, suppression=("b@local.test",))
        await in_thread(send, house.listen(), "b@local.test")
        await until(lambda: house.mails("b@local.test"))
