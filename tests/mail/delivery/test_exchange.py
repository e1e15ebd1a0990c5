"""Mail to the exchangers of a domain: a DNS server and next hops on loopback, one address for each host."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dcrouter.config.mail import MailPort
from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import Mta, Rule
from dcrouter.events import DeliveryDone
from dcrouter.mail.delivery.patience import Patience
from tests.mail.house import House, impatient, in_thread, send
from tests.mail.nexthop import CUT, SILENT, ScriptedHop
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.nameserver import Nameserver
from tests.support.ports import reserved

SOON = Queue(retry=Retry(base=0.2, max=0.2, jitter=0.0))


class ExchangeTests(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.port = reserved(self)

    def hop(self, number: int, **options: Any) -> ScriptedHop:
        """The host mx<number>.test."""
        self.dns.add(f"mx{number}.test", "A", f"127.0.1.{number}")
        return ScriptedHop(self, address=f"127.0.1.{number}", port=self.port, **options)

    def house(self, **options: Any) -> House:
        return House(
            self,
            Rule(name="mta", action=Mta()),
            ports=(MailPort(port=2525),),
            patience=options.pop("patience", impatient("greeting")),
            resolver=self.dns.config(),
            mx_port=self.port,
            **options,
        )

    async def outcomes(self, house: House, *recipients: str) -> dict[str, DeliveryDone]:
        """Sends a message; gives the events of its first attempt, by recipient."""
        count = len(house.done)
        await in_thread(send, house.listen(), *recipients)
        await until(lambda: len(house.done) >= count + len(recipients))
        await house.idle()
        return {done.recipient: done for done in house.done[count:]}

    async def test_recipients_that_share_their_exchangers_share_a_transaction(self) -> None:
        """Of one domain, or of two with the same MX; others have their own. TLS where it is offered."""
        first = self.hop(1, tls=Authority().credential(["whoever.test"]))
        second = self.hop(2)
        self.dns.add("a.test", "MX", "10 mx1.test.")
        self.dns.add("b.test", "MX", "10 mx1.test.")
        self.dns.add("c.test", "MX", "10 mx2.test.")
        house = self.house()
        done = await self.outcomes(house, "x@a.test", "y@a.test", "z@b.test", "x@c.test", "x@none.test")
        self.assertEqual([len(envelope) for envelope, _ in first.messages], [4])
        self.assertEqual([len(envelope) for envelope, _ in second.messages], [2])
        self.assertEqual(done["z@b.test"].target, f"mx1.test:{self.port}")
        self.assertEqual((done["z@b.test"].tls or "")[:7], "TLSv1.3")
        self.assertIsNone(done["x@c.test"].tls)
        self.assertEqual(done["x@none.test"].outcome, "failed")

    async def test_an_exchanger_that_cannot_be_used_passes_the_message_on(self) -> None:
        """Nobody there, and every kind of refusal of the session: the next by preference has it."""
        tempers = (
            {"greeting": "421 busy"},
            {"greeting": "554 not you"},
            {"greeting": "521 no mail here"},
            {"greeting": CUT},
            {"greeting": SILENT},
            {"EHLO": "421 busy"},
            {"EHLO": "451 later"},
            {"MAIL": "421 closing"},
            {"DATA": CUT},
        )
        good = self.hop(1)
        self.dns.add("down.test", "MX", "5 nobody.test.", "10 mx1.test.")
        self.dns.add("nobody.test", "A", "127.0.1.99")
        await self.outcomes(self.house(), "x@down.test")
        for number, temper in enumerate(tempers):
            self.hop(10 + number, **temper)
            self.dns.add(f"d{number}.test", "MX", f"5 mx{10 + number}.test.", "10 mx1.test.")
            done = await self.outcomes(self.house(), f"x@d{number}.test")
            self.assertEqual(done[f"x@d{number}.test"].target, f"mx1.test:{self.port}", temper)
        self.assertEqual(len(good.messages), len(tempers) + 1)

    async def test_answers_are_not_asked_for_twice(self) -> None:
        """A 4xx or 5xx for the recipient is the domain's word, whichever exchanger says it."""
        self.hop(1, RCPT=lambda line: "550 5.1.1 who" if "bad" in line else "450 4.2.0 greylisted")
        other = self.hop(2)
        self.dns.add("a.test", "MX", "5 mx1.test.", "10 mx2.test.")
        done = await self.outcomes(self.house(), "bad@a.test", "busy@a.test")
        self.assertEqual([done[f"{who}@a.test"].outcome for who in ("bad", "busy")], ["failed", "deferred"])
        self.assertEqual(other.connections, 0)

    async def test_a_refusal_for_good_is_asked_for_once_and_another_until_it_is_none(self) -> None:
        """RFC 5321 4.2.1: 5xx is never tried again, of whatever kind (556 of RFC 7504, too); 4xx never fails before
        its time.
        """
        asked: dict[str, int] = {}

        def answer(line: str) -> str:
            who = line.partition("<")[2].partition("@")[0]
            asked[who] = asked.get(who, 0) + 1
            return f"{who} no" if who[0] == "5" or asked[who] < 4 else "250 ok"

        self.hop(1, RCPT=answer)
        self.dns.add("a.test", "MX", "5 mx1.test.")
        house = self.house(queue=SOON)
        for who in ("550", "521", "552", "554", "556", "450", "451", "452", "459"):
            await in_thread(send, house.listen(), f"{who}@a.test")
        await until(lambda: len([done for done in house.done if done.outcome == "delivered"]) == 4)
        await house.idle()
        found: dict[str, list[str]] = {}
        for done in (done for done in house.done if done.recipient.endswith("@a.test")):
            found.setdefault(done.recipient.partition("@")[0], []).append(done.outcome)
        for who, outcomes in found.items():
            expected = ["failed"] if who[0] == "5" else ["deferred"] * 3 + ["delivered"]
            self.assertEqual((outcomes, asked[who]), (expected, len(expected)), who)
        self.assertEqual(len(found), 9)

    async def test_a_host_that_takes_no_mail_at_all(self) -> None:
        """521 from every exchanger fails (RFC 7504); 554 and silence wait."""
        self.hop(1, greeting="521 5.3.2 no mail here")
        self.hop(2, greeting="554 5.7.1 not you")
        self.dns.add("never.test", "MX", "5 mx1.test.")
        self.dns.add("some.test", "MX", "5 mx1.test.", "10 mx2.test.")
        done = await self.outcomes(self.house(), "x@never.test", "x@some.test")
        self.assertEqual((done["x@never.test"].outcome, done["x@some.test"].outcome), ("failed", "deferred"))
        self.assertEqual(done["x@never.test"].reply, "521 5.3.2 no mail here")

    async def test_every_address_of_a_host_is_tried(self) -> None:
        """A connect that fails, and a greeting that refuses: the next address of the same host."""
        self.hop(1, greeting="421 busy")
        good = self.hop(2)
        self.dns.add("many.test", "A", "127.0.1.98", "127.0.1.1", "127.0.1.2")
        self.dns.add("a.test", "MX", "5 many.test.")
        done = await self.outcomes(self.house(), "x@a.test")
        self.assertEqual((done["x@a.test"].outcome, len(good.messages)), ("delivered", 1))

    async def test_one_dead_domain_does_not_hold_up_another(self) -> None:
        """Its mail waits in silence; what comes later for others is delivered meanwhile."""
        self.hop(1, greeting=SILENT)
        good = self.hop(2)
        self.dns.add("dead.test", "MX", "5 mx1.test.")
        self.dns.add("good.test", "MX", "5 mx2.test.")
        house = House(
            self,
            Rule(name="mta", action=Mta()),
            ports=(MailPort(port=2525),),
            resolver=self.dns.config(),
            mx_port=self.port,
        )
        port = house.listen()
        for number in range(30):
            await in_thread(send, port, f"x{number}@dead.test")
        await in_thread(send, port, "x@good.test")
        await until(lambda: good.messages and house.done)
        self.assertEqual([done.recipient for done in house.done], ["x@good.test"])

    async def test_a_destination_that_is_back_gets_its_mail_at_once(self) -> None:
        """What waits for its time is woken by the first message that gets through."""
        hop = self.hop(1, greeting="421 busy")
        self.dns.add("a.test", "MX", "5 mx1.test.")
        late = Queue(retry=Retry(base=1.0, max=3600.0, jitter=0.0))
        house = self.house(queue=late, patience=Patience(down=0.1))
        await self.outcomes(house, "x@a.test")
        await until(lambda: len(house.done) == 2)  # after a second; now it is not due for long
        hop.script["greeting"] = "220 next"

        async def fresh() -> bool:
            await in_thread(send, house.listen(), "y@a.test")
            await house.idle()
            return bool(hop.messages)

        await until(lambda: Deferred.fromCoroutine(fresh()))
        await until(lambda: any(done.recipient == "x@a.test" and done.outcome == "delivered" for done in house.done))
