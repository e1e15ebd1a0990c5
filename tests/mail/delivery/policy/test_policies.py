"""DANE and MTA-STS towards exchangers that are real TLS servers, by a DNS server and a policy host of ours."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from dcrouter.config.rules import Mta, Rule, RuleMatch
from dcrouter.config.zones import Shape
from dcrouter.events import DeliveryDone
from dcrouter.mail.tlsreports.counts import DAY
from dcrouter.tls.credential import Credential
from tests.mail.house import House, in_thread, send
from tests.mail.nexthop import CUT, ScriptedHop
from tests.mail.tlsreports.counted import sections
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.nameserver import Nameserver
from tests.support.trusted import HttpsHost, trust

DOMAIN = "x.test"
MX = "mx.x.test"
OUT = Rule(name="out", match=RuleMatch(recipients=("*@x.test", "*@y.test")), action=Mta())
ENFORCED = b"version: STSv1\nmode: enforce\nmx: mx.x.test\nmax_age: 86400\n"


class PolicyHost(Resource):
    """`mta-sts.x.test`: gives `policy` with `status`, and counts who came."""

    isLeaf = True

    def __init__(self, case: TestCase, authority: Authority, name: str = "mta-sts.x.test") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.policy = ENFORCED
        self.status = 200
        self.media_type = "text/plain; charset=utf-8"
        self.asked: list[bytes] = []
        self.port = HttpsHost(case, authority, [name], self).port

    def render_GET(self, request: Any) -> bytes:
        self.asked.append(request.getRequestHostname() + request.path)
        request.setResponseCode(self.status)
        if self.status == 302:
            request.setHeader("location", "https://mta-sts.x.test/elsewhere")
        request.setHeader("content-type", self.media_type)
        return self.policy


class PolicyCase(TestCase):
    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.dns.secure = True
        self.authority = Authority()
        self.good = self.authority.credential([MX])
        self.dns.add(DOMAIN, "MX", f"10 {MX}.")
        self.dns.add(MX, "A", "127.0.0.1")
        trust(self, self.authority)

    def house(self, hop: ScriptedHop, **more: Any) -> House:
        more.setdefault("resolver", self.dns.config())
        return House(self, OUT, mx_port=hop.port, **more)

    def tlsa(self, credential: Credential, usage: int = 3, *, name: str = f"_25._tcp.{MX}") -> None:
        key = credential.private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.dns.add(name, "TLSA", f"{usage} 1 1 {hashlib.sha256(key).hexdigest()}")

    async def outcome(self, house: House, recipient: str = f"b@{DOMAIN}") -> DeliveryDone:
        """Sends a message; gives the event of its first attempt."""
        count = len(house.done)
        await in_thread(send, house.listen(), recipient)
        await until(lambda: len(house.done) > count)
        await house.idle()
        return house.done[count]


class DaneTests(PolicyCase):
    async def test_the_certificate_that_dns_means(self) -> None:
        """RFC 7672 3.1.1: whoever has signed it, and whatever its name is."""
        strange = Authority().credential(["somebody.else"], days=-1)
        self.tlsa(strange)
        hop = ScriptedHop(self, tls=strange)
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.secured), ("delivered", 1))

    async def test_another_certificate(self) -> None:
        """RFC 7672 2.2: it waits, and is never sent in clear, nor once more without."""
        self.tlsa(self.authority.credential([MX]))
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.messages), ("deferred", []))
        self.assertIn("4.7.5 mx.x.test:", done.reply)
        self.assertIn("DANE: no TLSA record is of its certificate", done.reply)

    async def test_no_starttls(self) -> None:
        """RFC 7672 2.2: TLSA records promise it."""
        self.tlsa(self.good)
        hop = ScriptedHop(self)
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.messages), ("deferred", []))

    async def test_records_that_mean_nothing(self) -> None:
        """RFC 7672 2.1.1: there are some, so TLS is a must; with anybody."""
        self.tlsa(self.good, usage=1)
        hop = ScriptedHop(self, tls=Authority().credential(["somebody.else"]))
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.secured), ("delivered", 1))
        plain = ScriptedHop(self)
        done = await self.outcome(self.house(plain))
        self.assertEqual((done.outcome, plain.messages), ("deferred", []))

    async def test_nobody_can_tell(self) -> None:
        """RFC 7672 2.1.2: SERVFAIL for TLSA is no "there are none"; the next exchanger may be better off."""
        self.dns.behave("SERVFAIL", f"_25._tcp.{MX}", "TLSA")
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.connections), ("deferred", 0))
        self.assertIn("4.7.5 mx.x.test: its TLSA records cannot be had", done.reply)
        self.dns.add(DOMAIN, "MX", f"10 {MX}.", "20 second.x.test.", ttl=1)
        self.dns.add("second.x.test", "A", "127.0.0.1")
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, done.target), ("delivered", f"second.x.test:{hop.port}"))

    async def test_nothing_that_dnssec_does_not_vouch_for(self) -> None:
        """RFC 7672 2.2: without it nobody is asked for TLSA, and TLS is as good as it comes."""
        self.dns.secure = False
        self.tlsa(self.authority.credential([MX]))
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(hop))
        self.assertEqual(done.outcome, "delivered")
        self.assertEqual([name for name, kind, _ in self.dns.questions if kind == "TLSA"], [])

    async def test_an_alias(self) -> None:
        """RFC 7672 2.2.2: records are looked for where a CNAME of the exchanger leads, then at its own name."""
        self.dns.remove(MX, "A")
        self.dns.add(MX, "CNAME", "real.y.test.")
        self.dns.add("real.y.test", "A", "127.0.0.1")
        self.tlsa(self.authority.credential([MX]))
        self.tlsa(self.good, name="_25._tcp.real.y.test")
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.secured), ("delivered", 1))

    async def test_a_domain_that_is_not_asked(self) -> None:
        """`destinations: {x.test: {dane: false}}`."""
        self.tlsa(self.authority.credential([MX]))
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(hop, destinations={DOMAIN: Shape(dane=False)}))
        self.assertEqual(done.outcome, "delivered")

    async def test_it_comes_before_mta_sts(self) -> None:
        """RFC 8461 2: a policy that would let it pass does not."""
        host = PolicyHost(self, self.authority)
        self.dns.add("_mta-sts.x.test", "TXT", '"v=STSv1; id=1;"')
        self.dns.add("mta-sts.x.test", "A", "127.0.0.1")
        self.tlsa(self.authority.credential([MX]))
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(hop, https_port=host.port))
        self.assertEqual((done.outcome, host.asked), ("deferred", []))


class MtaStsTests(PolicyCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = PolicyHost(self, self.authority)
        self.announce("1")
        self.dns.add("mta-sts.x.test", "A", "127.0.0.1")

    def announce(self, id: str) -> None:
        self.dns.add("_mta-sts.x.test", "TXT", f'"v=STSv1; id={id};"', ttl=1)

    def house(self, hop: ScriptedHop, **more: Any) -> House:
        return super().house(hop, https_port=self.host.port, **more)

    async def test_a_certificate_for_its_name(self) -> None:
        """RFC 8461 4.1 and 4.2: delivered by TLS to a host of the policy that proves its name; the policy is fetched
        once.
        """
        hop = ScriptedHop(self, tls=self.good)
        house = self.house(hop)
        for _ in range(2):
            done = await self.outcome(house)
            self.assertEqual(done.outcome, "delivered")
        self.assertEqual(self.host.asked, [b"mta-sts.x.test/.well-known/mta-sts.txt"])

    async def test_one_that_is_wrong(self) -> None:
        """RFC 8461 5: another name, an unknown signer, no TLS at all: it waits."""
        for hop in (
            ScriptedHop(self, tls=self.authority.credential(["other.test"])),
            ScriptedHop(self, tls=Authority().credential([MX])),
            ScriptedHop(self),
        ):
            done = await self.outcome(self.house(hop))
            self.assertEqual((done.outcome, hop.messages), ("deferred", []))
            self.assertIn("4.7.", done.reply)

    async def test_an_exchanger_that_the_policy_does_not_name(self) -> None:
        """RFC 8461 5: passed over for the next one; without another the mail waits."""
        self.dns.add(DOMAIN, "MX", "5 evil.test.", f"10 {MX}.")
        self.dns.add("evil.test", "A", "127.0.0.1")
        hop = ScriptedHop(self, tls=self.good)
        house = self.house(hop)
        done = await self.outcome(house)
        self.assertEqual((done.outcome, done.target), ("delivered", f"{MX}:{hop.port}"))
        self.dns.add(DOMAIN, "MX", "5 evil.test.")
        done = await self.outcome(self.house(hop))
        self.assertEqual(done.outcome, "deferred")
        self.assertIn("4.7.5 evil.test: the MTA-STS policy of x.test does not name it", done.reply)

    async def test_testing(self) -> None:
        """RFC 8461 5: as if there were none, but that what is wrong is known."""
        self.host.policy = ENFORCED.replace(b"enforce", b"testing").replace(b"mx.x.test", b"other.test")
        hop = ScriptedHop(self, tls=Authority().credential(["somebody.else"]))
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, hop.secured), ("delivered", 1))

    async def test_no_policy_can_be_had(self) -> None:
        """RFC 8461 3.3: redirects are not followed, the host must prove its name, the type is text/plain; without one
        mail goes as ever, and the host is not asked for each message.
        """
        hop = ScriptedHop(self)

        def redirected() -> None:
            self.host.status = 302

        def mistyped() -> None:
            self.host.status, self.host.media_type = 200, "text/html"

        def nonsense() -> None:
            self.host.media_type, self.host.policy = "text/plain", b"<html>"

        def large() -> None:
            self.host.policy = ENFORCED + b"x: y\n" * 20_000

        for change in (redirected, mistyped, nonsense, large):
            change()
            self.host.asked.clear()
            house = self.house(hop)
            for _ in range(2):
                done = await self.outcome(house)
                self.assertEqual(done.outcome, "delivered", change.__name__)
            self.assertEqual(len(self.host.asked), 1, change.__name__)

    async def test_a_policy_host_that_is_somebody_else(self) -> None:
        """RFC 8461 3.3: no certificate for mta-sts.x.test, no policy."""
        self.host = PolicyHost(self, self.authority, "other.test")
        hop = ScriptedHop(self)
        done = await self.outcome(self.house(hop))
        self.assertEqual((done.outcome, self.host.asked), ("delivered", []))

    async def test_it_holds_over_a_restart_and_without_its_record(self) -> None:
        """RFC 8461 3.1 and 10.2: who takes the record or the host away gains nothing."""
        hop = ScriptedHop(self, tls=self.good)
        house = self.house(hop)
        await self.outcome(house)
        await house.close()
        self.dns.remove("_mta-sts.x.test", "TXT")
        bad = ScriptedHop(self, tls=self.authority.credential(["other.test"]))
        done = await self.outcome(self.house(bad, state=house.state))
        self.assertEqual((done.outcome, bad.messages), ("deferred", []))

    async def test_another_id_brings_another_policy(self) -> None:
        """RFC 8461 3.1: fetched again, and the old one holds where that fails."""
        hop = ScriptedHop(self)
        house = self.house(hop)
        done = await self.outcome(house)
        self.assertEqual(done.outcome, "deferred")
        self.host.policy = b"version: STSv1\nmode: none\nmax_age: 86400\n"
        self.announce("2")
        await house.close()
        done = await self.outcome(self.house(hop, state=house.state))
        self.assertEqual((done.outcome, len(self.host.asked)), ("delivered", 2))

    async def test_a_policy_that_is_not_obeyed(self) -> None:
        """`destinations: {default: {mta_sts: false}}`: nobody is asked for one."""
        hop = ScriptedHop(self)
        done = await self.outcome(self.house(hop, destinations={"default": Shape(mta_sts=False)}))
        self.assertEqual((done.outcome, self.host.asked), ("delivered", []))

    async def test_each_domain_has_its_own(self) -> None:
        """RFC 8461 4: two domains with one exchanger, of which one has a policy."""
        self.dns.add("y.test", "MX", f"10 {MX}.")
        hop = ScriptedHop(self)
        house = self.house(hop)
        strict = await self.outcome(house)
        free = await self.outcome(house, "b@y.test")
        self.assertEqual((strict.outcome, free.outcome), ("deferred", "delivered"))


class ReportedTests(PolicyCase):
    """What comes of sessions is counted for domains that want reports (RFC 8460 4.3)."""

    def setUp(self) -> None:
        super().setUp()
        self.dns.add("_smtp._tls.x.test", "TXT", '"v=TLSRPTv1; rua=mailto:tls@x.test"')

    async def counted(self, hop: ScriptedHop, **more: Any) -> list[tuple[str, int, dict[str, int]]]:
        """(policy's type, successful, {kind: failed}) of one message."""
        house = self.house(hop, **more)
        today = int(time.time() // DAY)
        await self.outcome(house)
        await until(lambda: self.sections(house, today))
        return [
            (one.policy.type, one.successful, {kind.type: count for kind, count in one.failures})
            for one in self.sections(house, today)
        ]

    def sections(self, house: House, day: int) -> Any:
        """Of that day, or of the next one: it may have begun meanwhile."""
        counts = house.mta._world._tls_reports._counts
        return sections(counts, day, DOMAIN) or sections(counts, day + 1, DOMAIN)

    async def test_without_a_policy(self) -> None:
        """TLS is a success whoever it is; none at all is told of, though the mail goes."""
        secured = ScriptedHop(self, tls=Authority().credential(["somebody.else"]))
        self.assertEqual(await self.counted(secured), [("no-policy-found", 1, {})])
        self.assertEqual(await self.counted(ScriptedHop(self)), [("no-policy-found", 0, {"starttls-not-supported": 1})])

    async def test_a_handshake_that_fails(self) -> None:
        """Counted once, and not as a success when the mail goes in clear then."""
        hop = ScriptedHop(self, tls=self.good, STARTTLS=CUT)
        self.assertEqual(await self.counted(hop), [("no-policy-found", 0, {"validation-failure": 1})])

    async def test_dane(self) -> None:
        """A certificate that no record means."""
        self.tlsa(self.good)
        good = ScriptedHop(self, tls=self.good)
        self.assertEqual(await self.counted(good), [("tlsa", 1, {})])
        bad = ScriptedHop(self, tls=self.authority.credential([MX]))
        self.assertEqual(await self.counted(bad), [("tlsa", 0, {"validation-failure": 1})])
        self.assertEqual(await self.counted(ScriptedHop(self)), [("tlsa", 0, {"starttls-not-supported": 1})])

    async def test_mta_sts(self) -> None:
        """What is wrong with a certificate, told apart; in testing too, where the mail goes."""
        host = PolicyHost(self, self.authority)
        self.dns.add("_mta-sts.x.test", "TXT", '"v=STSv1; id=1;"')
        self.dns.add("mta-sts.x.test", "A", "127.0.0.1")
        for mode in (b"enforce", b"testing"):
            host.policy = ENFORCED.replace(b"enforce", mode)
            for credential, kind in (
                (self.authority.credential(["other.test"]), "certificate-host-mismatch"),
                (self.authority.credential([MX], days=-1), "certificate-expired"),
                (Authority().credential([MX]), "certificate-not-trusted"),
            ):
                hop = ScriptedHop(self, tls=credential)
                told = await self.counted(hop, https_port=host.port)
                self.assertEqual(told, [("sts", 0, {kind: 1})], mode)
        host.status = 404
        told = await self.counted(ScriptedHop(self, tls=self.good), https_port=host.port)
        self.assertEqual(sorted(told), [("no-policy-found", 1, {}), ("sts", 0, {"sts-policy-fetch-error": 1})])
