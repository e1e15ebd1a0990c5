"""`email.egress` for mail to the world: exchangers behind proxies, zones, proxies that stall and die, `verify`."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.egress import EgressMatch, EgressRule
from dcrouter.config.mail import MailPort
from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import MailForward, Mta, Rule, RuleMatch, Verify
from dcrouter.config.targets import SimpleTarget
from dcrouter.config.zones import Zone
from dcrouter.events import DeliveryDone
from dcrouter.interfaces import Departure
from dcrouter.mail.delivery.egress import proxies as module
from dcrouter.mail.delivery.patience import Patience
from tests.mail.delivery.test_egress import proxy
from tests.mail.house import House, dialogue, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.support.facts import until
from tests.support.nameserver import Nameserver
from tests.support.ports import reserved
from tests.support.socks import Socks

SOON = Queue(retry=Retry(base=0.1, max=0.2, jitter=0.0))
LATER = Queue(retry=Retry(base=3600.0, max=3600.0))


class ExchangerTests(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.port = reserved(self)

    def hop(self, number: int, **options: Any) -> ScriptedHop:
        """The host mx<number>.test, the exchanger of d<number>.test. Proxies find it under another address."""
        self.dns.add(f"mx{number}.test", "A", f"127.0.1.{number}")
        self.dns.add(f"d{number}.test", "MX", f"10 mx{number}.test.")
        return ScriptedHop(self, address=f"127.0.2.{number}", port=self.port, **options)

    def socks(self) -> Socks:
        return Socks(self, **{f"mx{number}.test": f"127.0.2.{number}" for number in range(1, 10)})

    def house(self, *rules: EgressRule, action: Mta | None = None, **options: Any) -> House:
        return House(
            self,
            Rule(name="mta", action=action or Mta()),
            egress=rules,
            ports=(MailPort(port=2525),),
            mx_port=self.port,
            **{"resolver": self.dns.config(), "queue": SOON, **options},
        )

    async def sent(self, house: House, *recipients: str) -> dict[str, DeliveryDone]:
        """The events of one message's first attempts, by recipient."""
        count = len(house.done)
        await in_thread(send, house.listen(), *recipients)
        await until(lambda: len(house.done) >= count + len(recipients))
        return {done.recipient: done for done in house.done[count:]}

    async def test_the_proxy_is_told_names(self) -> None:
        """By host and by zone; the proxy resolves: it finds another machine than we would. Others go straight."""
        first, second = self.hop(1), self.hop(2)
        straight = ScriptedHop(self, address="127.0.1.2", port=self.port)
        one, other = self.socks(), self.socks()
        house = self.house(
            EgressRule(match=EgressMatch(host=("*.test",), zone=("bulk",)), through=(proxy(one.port),)),
            EgressRule(match=EgressMatch(host=("mx1.test",)), through=(proxy(other.port),)),
            zones={"bulk": Zone()},
        )
        done = await self.sent(house, "a@d1.test", "a@d2.test")
        self.assertEqual(done["a@d1.test"].through, f"socks5://127.0.0.1:{other.port}")
        self.assertEqual((done["a@d1.test"].target, other.asked), (f"mx1.test:{self.port}", [("mx1.test", self.port)]))
        self.assertIsNone(done["a@d2.test"].through)
        self.assertEqual((len(first.messages), len(second.messages), len(straight.messages)), (1, 0, 1))
        self.assertEqual(one.asked, [])
        bulk = self.house(*house.email.egress, zones={"bulk": Zone()}, action=Mta(zone="bulk"))
        done = await self.sent(bulk, "a@d1.test", "a@d2.test")
        self.assertEqual({event.through for event in done.values()}, {f"socks5://127.0.0.1:{one.port}"})
        self.assertEqual(sorted(one.asked), [("mx1.test", self.port), ("mx2.test", self.port)])

    async def test_silence_about_one_server_is_not_the_proxys(self) -> None:
        """About three of them it is: then it gets no more connections, and comes back when it answers."""
        self.patch(module, "PROBE", 0.1)
        for number in (1, 2, 3):
            self.hop(number)
        socks = self.socks()
        socks.stalls = True
        label = f"socks5://127.0.0.1:{socks.port}"
        house = self.house(EgressRule(through=(proxy(socks.port),)), queue=LATER, patience=Patience(connect=1.0))

        def health() -> Any:
            return house.mta.status()["egress"]["proxies"][label]["health"]

        for number in (1, 2):
            done = await self.sent(house, f"a@d{number}.test")
            self.assertIn("has not reached it in time", done[f"a@d{number}.test"].reply)
            self.assertEqual(health(), "up")
        self.patch(module, "PROBE", 3600.0)
        await self.sent(house, "a@d3.test")
        self.assertEqual(health(), "ejected")
        self.assertEqual(len(socks.asked), 3)
        await self.sent(house, "b@d1.test")
        self.assertEqual(len(socks.asked), 3)

    async def test_a_proxy_that_dies_in_a_message(self) -> None:
        """The mail is not lost and not sent twice: it waits, and goes by the same way."""
        hop, socks = self.hop(1), self.socks()
        socks.cut = 100
        house = self.house(EgressRule(through=(proxy(socks.port),)))
        done = await self.sent(house, "a@d1.test")
        self.assertEqual(done["a@d1.test"].outcome, "deferred")
        self.assertEqual(hop.messages, [])
        socks.cut = None
        await until(lambda: hop.messages)
        await house.idle()
        self.assertEqual(len(hop.messages), 1)

    async def test_attempts_over(self) -> None:
        """The first attempts go straight, later ones through the proxy."""
        hop, socks = self.hop(1), self.socks()  # straight nobody is there
        rule = EgressRule(match=EgressMatch(attempts_over=1), through=(proxy(socks.port),))
        house = self.house(rule)
        await in_thread(send, house.listen(), "a@d1.test")
        await until(lambda: any(done.outcome == "delivered" for done in house.done))
        self.assertEqual(len(hop.messages), 1)
        delivered = [done for done in house.done if done.outcome == "delivered"]
        self.assertEqual(
            [(done.attempts, done.through) for done in delivered], [(3, f"socks5://127.0.0.1:{socks.port}")]
        )

    async def test_who_exists_is_asked_the_same_way(self) -> None:
        """`verify`: through the proxy; while that is down nobody is asked straight, and RCPT gets 450."""
        hop, socks = self.hop(1, RCPT=lambda line: "550 5.1.1 who" if "bad" in line else "250 2.1.5 ok"), self.socks()
        action = MailForward(targets=(SimpleTarget(host="mx1.test", port=self.port),))
        rule = Rule(name="in", match=RuleMatch(recipients=("*@d1.test",)), verify=Verify(), action=action)

        def house(port: int) -> House:
            egress = (EgressRule(through=(proxy(port),)),)
            return House(self, rule, egress=egress, resolver=self.dns.config(), queue=LATER)

        words = ("EHLO x", "MAIL FROM:<a@x.test>", "RCPT TO:<bad@d1.test>", "RCPT TO:<good@d1.test>")
        replies = await in_thread(dialogue, house(socks.port).listen(), *words)
        self.assertEqual([reply[:3] for reply in replies[3:]], [b"550", b"250"])
        self.assertEqual(set(socks.asked), {("mx1.test", self.port)})
        seen = hop.connections
        replies = await in_thread(dialogue, house(reserved(self)).listen(), *words)
        self.assertEqual([reply[:3] for reply in replies[3:]], [b"450", b"450"])
        self.assertEqual(hop.connections, seen)

    async def test_a_name_that_cannot_be_resolved_is_not_taken_for_another_address(self) -> None:
        """Where a rule asks for addresses, and DNS does not answer, the mail waits."""
        hop = ScriptedHop(self)
        rule = EgressRule(
            match=EgressMatch(destination_ips=(ip_network("127.0.0.0/8"),)), through=(proxy(reserved(self)),)
        )
        action = MailForward(targets=(SimpleTarget(host="nowhere.test", port=hop.port),))
        out = Rule(name="out", match=RuleMatch(recipients=("*@d1.test",)), action=action)
        self.dns.behave("SERVFAIL", "nowhere.test")
        house = House(self, out, egress=(rule,), resolver=self.dns.config(), queue=LATER)
        done = await self.sent(house, "a@d1.test")
        self.assertEqual(done["a@d1.test"].outcome, "deferred")
        self.assertIn("4.3.5 nowhere.test", done["a@d1.test"].reply)

    async def test_explained(self) -> None:
        """Which rule decides, why not those before it, and that its proxies do not work."""
        house = self.house(
            EgressRule(match=EgressMatch(zone=("bulk",)), through=(proxy(1),)),
            EgressRule(enabled=False, through=(proxy(2),)),
            EgressRule(
                match=EgressMatch(host=("mx1.test",), recipient=("*@d1.test",)),
                through=(proxy(reserved(self), "socks5", "me", "hush"),),
            ),
            patience=Patience(down=0.05),
        )
        self.hop(1)
        explain = house.mta._attempts.egress.explain
        asked = Departure(host="mx1.test", port=25, recipient="a@d1.test")
        told = explain(asked)
        passed = [{"rule": 0, "why_not": "zone: bulk"}, {"rule": 1, "why_not": "enabled: false"}]
        self.assertEqual((told["rule"], told["way"], told["on_failure"]), (2, "proxy", "defer"))
        self.assertEqual((told["passed"], "down" in told), (passed, False))
        await self.sent(house, "a@d1.test")
        await until(lambda: "down" in explain(asked))
        self.assertIn("Connection refused", explain(asked)["down"])
        self.assertNotIn("hush", str(explain(asked)))
        other = explain(evolve(asked, recipient="a@other.test"))
        self.assertEqual((other["rule"], other["way"]), (None, "direct"))
        self.assertEqual(other["passed"][2], {"rule": 2, "why_not": "recipient: *@d1.test"})

    def test_explained_for_each_address(self) -> None:
        """Where they have ways of their own; as one where they have the same."""
        match = EgressMatch(destination_ips=(ip_network("192.0.2.0/24"),))
        explain = self.house(EgressRule(match=match, through=(proxy(1),))).mta._attempts.egress.explain
        asked = Departure(host="mx1.test", port=25)
        told = explain(asked, ("192.0.2.1", "198.51.100.1"))
        self.assertEqual(told["way"], "proxy")
        ways = {address: way["way"] for address, way in told["by_address"].items()}
        self.assertEqual(ways, {"192.0.2.1": "proxy", "198.51.100.1": "direct"})
        self.assertNotIn("by_address", explain(asked, ("192.0.2.1", "192.0.2.2")))
