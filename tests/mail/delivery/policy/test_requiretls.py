"""REQUIRETLS from the client that asks for it to the next hop that keeps it, and what becomes of it elsewhere."""

from __future__ import annotations

import smtplib
import ssl
import time
from typing import Any

from attrs import evolve

from dcrouter.config.rules import MailForward, Rule, RuleMatch
from dcrouter.config.targets import Target
from dcrouter.events import DeliveryDone
from dcrouter.mail.envelope import Terms
from dcrouter.tls.credential import Credential
from tests.mail.delivery.policy.test_policies import DOMAIN, MX, PolicyCase, PolicyHost
from tests.mail.house import LOCAL, House, in_thread
from tests.mail.nexthop import ScriptedHop
from tests.mail.queue.made import message
from tests.support.certificates import Authority
from tests.support.facts import until

ASKED = Terms(requiretls=True)


class RequireTlsTests(PolicyCase):
    def hop(self, credential: Credential | None, *, offers: bool = True) -> ScriptedHop:
        def hello(line: str) -> str:
            if getattr(hop.sessions[-1].transport, "TLS", False):
                return "250-next\r\n250 REQUIRETLS" if offers else "250 next"
            return "250-next\r\n250 STARTTLS"

        hop = ScriptedHop(self, tls=credential, EHLO=hello if credential else "250-next\r\n250 REQUIRETLS")
        return hop

    async def sent(self, house: House, terms: Terms = ASKED, **more: Any) -> DeliveryDone:
        """The event of its first attempt."""
        count = len(house.done)
        rule = house.email.rules[0].name
        await house.mta._queue.put(
            message(count + 1, f"b@{DOMAIN}", rule=rule, received=time.time(), terms=terms, **more)
        )
        await until(lambda: len(house.done) > count)
        await house.idle()
        return house.done[count]

    async def test_a_client_asks_for_it_within_tls(self) -> None:
        """Offered there to everybody, and kept with the message; in clear it is not recognized. RFC 8689 2, 4.1."""
        hop = self.hop(self.good)
        house = self.house(hop)
        port = house.listen()

        def client() -> list[Any]:
            with smtplib.SMTP("127.0.0.1", port, timeout=240) as smtp:
                smtp.ehlo()
                said = [smtp.has_extn("requiretls"), smtp.mail("a@x.test", ["REQUIRETLS"])[0]]
                context = ssl.create_default_context(cafile=house.ca_file)
                context.check_hostname = False
                smtp.starttls(context=context)
                smtp.ehlo()
                said.append(smtp.has_extn("requiretls"))
                smtp.sendmail("a@x.test", f"b@{DOMAIN}", "Subject: x\r\n\r\ntext\r\n", ["REQUIRETLS"])
                return said

        said = await in_thread(client)
        self.assertEqual(said, [False, 555, True])
        await until(lambda: hop.messages)
        self.assertTrue(hop.messages[0][0][0].endswith(" REQUIRETLS"))

    async def test_it_goes_to_exchangers_for_whom_somebody_vouches(self) -> None:
        """DNSSEC, with a certificate for the name or with a TLSA record, or MTA-STS. RFC 8689 4.2.1."""
        hop = self.hop(self.good)
        done = await self.sent(self.house(hop))
        self.assertEqual((done.outcome, hop.commands[-2][:4]), ("delivered", "RCPT"))
        strange = Authority().credential(["somebody.else"])
        self.tlsa(strange)
        done = await self.sent(self.house(self.hop(strange)))
        self.assertEqual(done.outcome, "delivered")
        self.dns.remove(f"_25._tcp.{MX}", "TLSA")
        self.dns.secure = False
        host = PolicyHost(self, self.authority)
        self.dns.add("_mta-sts.x.test", "TXT", '"v=STSv1; id=1;"')
        self.dns.add("mta-sts.x.test", "A", "127.0.0.1")
        done = await self.sent(self.house(self.hop(self.good), https_port=host.port))
        self.assertEqual(done.outcome, "delivered")

    async def test_elsewhere_it_fails(self) -> None:
        """5.7.30, and nothing was sent: it is not offered, there is no TLS, the certificate is somebody else's, nobody
        vouches for the exchanger. RFC 8689 4.2.1."""
        for hop in (self.hop(self.good, offers=False), self.hop(None), self.hop(Authority().credential([MX]))):
            done = await self.sent(self.house(hop), sender="a@else.test")
            self.assertEqual((done.outcome, done.reply[:10], hop.messages), ("failed", "550 5.7.30", []))
        self.dns.secure = False
        hop = self.hop(self.good)
        done = await self.sent(self.house(hop), sender="a@else.test")
        self.assertEqual((done.outcome, done.reply[:10], hop.connections), ("failed", "550 5.7.30", 0))

    async def test_another_exchanger_may_have_it(self) -> None:
        """The next one is tried; one that cannot be reached may be back: it waits."""
        self.dns.add(DOMAIN, "MX", "5 first.x.test.", f"10 {MX}.")
        self.dns.add("first.x.test", "A", "127.0.0.1")
        hop = self.hop(self.good)
        done = await self.sent(self.house(hop))
        self.assertEqual((done.outcome, done.target), ("delivered", f"{MX}:{hop.port}"))
        self.dns.add(DOMAIN, "MX", "5 first.x.test.", "10 down.x.test.")
        self.dns.add("down.x.test", "A", "127.0.0.9")
        done = await self.sent(self.house(hop))
        self.assertEqual(done.outcome, "deferred")

    async def test_the_server_of_a_rule_proves_its_name(self) -> None:
        """Though the rule is content with any TLS, or none. RFC 8689 4.2.1."""
        for credential, outcome in ((self.good, "delivered"), (Authority().credential([MX]), "failed")):
            hop = self.hop(credential)
            rule = Rule(
                name="smart",
                match=RuleMatch(recipients=("*@x.test",)),
                action=MailForward(targets=(Target(host=MX, port=hop.port),)),
            )
            house = House(self, rule, resolver=self.dns.config())
            done = await self.sent(house)
            self.assertEqual(done.outcome, outcome)

    async def test_the_end_of_the_way_is_no_relay(self) -> None:
        """A Maildir of ours has it."""
        house = House(self, evolve(LOCAL, match=RuleMatch(recipients=(f"*@{DOMAIN}",))))
        done = await self.sent(house)
        self.assertEqual(done.outcome, "delivered")

    async def test_a_notification_goes_to_who_takes_it(self) -> None:
        """From the null sender, where REQUIRETLS is not offered, even in clear. RFC 8689 5."""
        for hop in (self.hop(self.good, offers=False), self.hop(None)):
            done = await self.sent(self.house(hop), sender="")
            self.assertEqual(done.outcome, "delivered")

    async def test_tls_that_the_sender_does_not_need_is_done_without(self) -> None:
        """`TLS-Required: No`: what the recipient's domain says of its TLS is not looked at. RFC 8689 4.1."""
        self.tlsa(self.authority.credential([MX]))
        hop = self.hop(self.good)
        house = self.house(hop)
        done = await self.sent(house, Terms())
        self.assertEqual(done.outcome, "deferred")
        done = await self.sent(house, Terms(tls_optional=True))
        self.assertEqual(done.outcome, "delivered")
