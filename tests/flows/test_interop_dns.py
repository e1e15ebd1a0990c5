"""Mail for domains whose DNS is as it is out there: null, missing, broken, forged, slow."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import TestCase

from dcrouter.config.mail import MailPort
from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import Mta, Rule
from dcrouter.events import DeliveryDone
from dcrouter.net.dns import cache
from tests.mail.house import LOCAL, House, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.mail.notices import groups
from tests.support.facts import until
from tests.support.nameserver import (
    CUT,
    GARBAGE,
    NONSENSE,
    REFERRAL,
    SILENT,
    TRUNCATED,
    WRONG_ID,
    WRONG_QUESTION,
    Nameserver,
    Temper,
)
from tests.support.ports import reserved

WELL = {"plain", "truncated", "alias", "no-mx", "many", "half", "second", "case"}
FAILED = {
    "null": "556 5.1.10",
    "missing": "550 5.1.2",
    "nowhere": "550 5.4.4",
    "ours": "554 5.4.6",
}
WAITING: dict[str, Temper] = {
    "servfail": "SERVFAIL",
    "refused": "REFUSED",
    "formerr": "FORMERR",
    "notimp": "NOTIMP",
    "silent": SILENT,
    "garbage": GARBAGE,
    "nonsense": NONSENSE,
    "wrong-id": WRONG_ID,
    "wrong-question": WRONG_QUESTION,
    "cut": CUT,
    "referral": REFERRAL,
    "loop": "SERVFAIL",
}
"""Domains whose MX question is answered so; their mail waits with 4.4.3."""


class DnsTests(TestCase):
    def setUp(self) -> None:
        self.patch(cache, "FAILURE", 0.3)
        self.dns = Nameserver(self)
        self.port = reserved(self)
        self.hop = ScriptedHop(self, address="127.0.1.1", port=self.port)
        self.dns.add("mx.far.test", "A", "127.0.1.1")

    def house(self, **options: Any) -> House:
        """With an `mta` rule for everybody, and a Maildir for the sender."""
        options.setdefault("queue", Queue(retry=Retry(base=0.3, max=0.6, jitter=0.0)))
        return House(
            self,
            LOCAL,
            Rule(name="mta", action=Mta()),
            ports=(MailPort(port=25),),
            trusted=(ip_network("127.0.0.0/8"),),
            resolver=self.dns.config(timeout=options.pop("timeout", 4.0)),
            mx_port=self.port,
            **options,
        )

    def domains(self) -> None:
        """What a zone file can hold, for better and for worse."""
        add = self.dns.add
        for domain in ("plain", "truncated", "alias-to", *WAITING):
            add(f"{domain}.test", "MX", "10 mx.far.test.")
        self.dns.behave(TRUNCATED, "truncated.test")
        add("alias.test", "CNAME", "alias-to.test.")
        add("no-mx.test", "A", "127.0.1.1")
        add("CaSe.test", "MX", "10 MX.far.TEST.")
        add("many.test", "MX", *(f"{10 + at} dead{at}.far.test." for at in range(40)), "5 mx.far.test.")
        add("half.test", "MX", "10 lost.half.test.", "20 mx.far.test.")
        self.dns.behave("SERVFAIL", "lost.half.test")
        add("second.test", "MX", "10 mx.silent.test.", "20 mx.far.test.")
        add("mx.silent.test", "A", "127.0.1.2")  # nobody listens there
        add("null.test", "MX", "0 .")
        add("null.test", "A", "127.0.1.1")
        add("nowhere.test", "MX", "10 gone.far.test.", "20 -bad-.far.test.")
        add("ours.test", "MX", "10 mail.example.test.")
        add("loop.test", "CNAME", "loop2.test.")
        add("loop2.test", "CNAME", "loop.test.")
        for domain, temper in WAITING.items():
            if domain != "loop":
                self.dns.behave(temper, f"{domain}.test")
        self.dns.remove("loop.test", "MX")

    async def test_each_domain_gets_what_its_dns_says(self) -> None:
        """One message to all of them: what can be delivered is, at once; what cannot comes back in one notice, with the
        reason of each; what cannot be told waits, and goes when DNS is well again.
        """
        self.domains()
        house = self.house()
        names = [*WELL, *FAILED, *WAITING]
        await in_thread(send, house.listen(), *(f"b@{name}.test" for name in names), sender="joe@local.test")
        await until(lambda: len({done.recipient for done in house.done}) == len(names))
        first: dict[str, DeliveryDone] = {}
        for done in house.done:
            first.setdefault(done.recipient.removeprefix("b@").removesuffix(".test"), done)
        for name in WELL:
            self.assertEqual(first[name].outcome, "delivered", (name, first[name].reply))
        for name, reply in FAILED.items():
            self.assertEqual((first[name].outcome, first[name].reply[: len(reply)]), ("failed", reply))
        for name in WAITING:
            self.assertEqual((first[name].outcome, first[name].reply[:5]), ("deferred", "4.4.3"), name)
        (notice,) = await until(lambda: house.mails("joe@local.test"))
        told = {group["Final-Recipient"]: group["Status"] for group in groups(notice)[1:]}
        status = {f"rfc822; b@{name}.test": reply.split()[1] for name, reply in FAILED.items()}
        self.assertEqual(told, status)
        for domain in WAITING:
            self.dns.behave(None, f"{domain}.test")
        self.dns.remove("loop.test", "CNAME")
        self.dns.add("loop.test", "MX", "10 mx.far.test.")
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(len(house.mails("joe@local.test")), 1)
        took = [line for envelope, _ in self.hop.messages for line in envelope if line.startswith("RCPT")]
        self.assertEqual(sorted(took), sorted(f"RCPT TO:<b@{name}.test>" for name in (WELL | WAITING.keys())))

    async def test_slow_answers_are_waited_for_until_they_are_too_slow(self) -> None:
        """Within resolver.timeout: delivered. Beyond: the mail waits with the reason, other mail flows meanwhile, and
        it goes when the answers are quick again.
        """
        self.dns.add("slow.test", "MX", "10 mx.far.test.")
        self.dns.delay = 0.7
        house = self.house(timeout=20.0)
        port = house.listen()
        await in_thread(send, port, "b@slow.test")
        await until(lambda: house.done)
        self.assertEqual(house.done[0].outcome, "delivered")
        await house.close()
        self.dns.add("slower.test", "MX", "10 mx.far.test.")
        self.dns.delay = 3.0
        house = self.house(timeout=0.5)
        port = house.listen()
        await in_thread(send, port, "b@slower.test")
        await until(lambda: house.done)
        self.assertEqual((house.done[0].outcome, house.done[0].reply[:5]), ("deferred", "4.4.3"))
        await in_thread(send, port, "c@local.test")
        await until(lambda: house.mails("c@local.test"))
        self.dns.delay = 0.0
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(len(self.hop.messages), 2)

    async def test_a_name_server_that_is_gone_holds_up_nothing_else(self) -> None:
        """Nobody listens on its port: mail waits with 4.4.3 and the reason, what needs no DNS flows."""
        house = self.house()
        await self.dns.close()
        await in_thread(send, house.listen(), "b@plain.test", "b@[127.0.1.1]", "c@local.test")
        await until(lambda: len(house.done) >= 3 and house.mails("c@local.test"))
        outcomes = {done.recipient: (done.outcome, done.reply) for done in house.done}
        self.assertEqual(outcomes["b@plain.test"][0], "deferred")
        self.assertRegex(outcomes["b@plain.test"][1], "^4.4.3 .*refused")
        self.assertEqual(outcomes["b@[127.0.1.1]"][0], "delivered")
