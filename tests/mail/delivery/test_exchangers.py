"""From a domain to the hosts that take its mail, by a resolver that asks a server of ours."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.config.mail import Email, MailPort
from dcrouter.mail.delivery.exchangers import (
    MAX_ADDRESSES,
    MAX_HOSTS,
    Exchanger,
    Exchangers,
    OwnAddresses,
    is_local,
)
from dcrouter.mail.delivery.outcome import Deferred, Failed
from dcrouter.net.resolver import Resolver
from tests.support.nameserver import SILENT, Nameserver

US = "mail.us.test"
OUR_ADDRESS = "192.0.2.25"


class ExchangersTests(TestCase):
    def setUp(self) -> None:
        self.server = Nameserver(self)
        self.exchangers = self.made()
        for host in "abcd":
            self.server.add(f"{host}.mx.test", "A", f"192.0.2.{ord(host)}")

    def made(self, timeout: float = 20.0) -> Exchangers:
        """Exchangers that remember nothing yet."""
        resolver = Resolver(self.server.config(timeout=timeout), reactor, hosts=Path("/nonexistent"))
        self.addCleanup(resolver.close)
        return Exchangers(resolver, US, OUR_ADDRESS.__eq__, random.Random(1).shuffle)

    def mx(self, domain: str, *records: str) -> None:
        """`10 a` is preference 10 and a.mx.test; `10 -name.` any other name."""
        texts = []
        for record in records:
            preference, host = record.split()
            texts.append(f"{preference} {host[1:] if host[0] == '-' else host + '.mx.test.'}")
        self.server.add(domain, "MX", *texts)

    async def found(self, domain: str) -> tuple[Exchanger, ...]:
        found = await self.exchangers.of(domain)
        assert not isinstance(found, Deferred | Failed), found
        return found

    async def hosts(self, domain: str) -> list[str]:
        return [exchanger.host.removesuffix(".mx.test") for exchanger in await self.found(domain)]

    async def test_exchangers_are_tried_by_preference(self) -> None:
        """The lowest first, whatever the order of the answer; with their addresses."""
        self.mx("x.test", "30 c", "10 a", "20 b")
        found = await self.found("X.Test")
        self.assertEqual(found[0], Exchanger(host="a.mx.test", addresses=("192.0.2.97",), preference=10))
        self.assertEqual([exchanger.preference for exchanger in found], [10, 20, 30])

    async def test_equals_share_the_load(self) -> None:
        """Among those of one preference each comes first now and then; the others keep their place."""
        self.mx("x.test", "10 a", "10 b", "20 c")
        orders = []
        for _ in range(40):
            orders.append("".join(await self.hosts("x.test")))
        self.assertEqual(set(orders), {"abc", "bac"})
        self.assertEqual(self.server.asked("x.test", "MX"), 1)

    async def test_a_domain_without_mx_is_its_own_exchanger(self) -> None:
        """A or AAAA; behind a CNAME too. Without either: failed."""
        self.server.add("x.test", "AAAA", "2001:db8::1")
        self.server.add("alias.test", "CNAME", "x.test.")
        self.server.add("nothing.test", "TXT", "x")
        for domain in ("x.test", "alias.test"):
            found = await self.exchangers.of(domain)
            self.assertEqual(found, (Exchanger(host="x.test", addresses=("2001:db8::1",)),))
        self.assertEqual(
            await self.exchangers.of("nothing.test"),
            Failed("550 5.1.2 nothing.test has neither exchangers nor an address"),
        )

    async def test_an_alias_of_a_domain_is_followed(self) -> None:
        """The MX of what the CNAME leads to."""
        self.server.add("alias.test", "CNAME", "x.test.")
        self.mx("x.test", "10 a")
        self.assertEqual(await self.hosts("alias.test"), ["a"])

    async def test_null_mx_and_no_domain_fail_at_once(self) -> None:
        """556 5.1.10 without a look at A; 550 5.1.2 for NXDOMAIN, and for what can be no domain."""
        self.server.add("null.test", "MX", "0 .")
        self.server.add("null.test", "A", "192.0.2.1")
        found = await self.exchangers.of("null.test")
        self.assertEqual(found, Failed("556 5.1.10 null.test takes no mail (null MX)"))
        self.assertEqual(self.server.asked("null.test", "A"), 0)
        for domain in ("missing.test", "a..test", "x" * 70 + ".test", "\ud800.test"):
            found = await self.exchangers.of(domain)
            assert isinstance(found, Failed), domain
            self.assertTrue(found.reply.startswith("550 5.1.2 "), found)

    async def test_null_mx_beside_others_is_ignored(self) -> None:
        """RFC 7505 wants it alone."""
        self.mx("x.test", "0 -.", "10 a")
        self.assertEqual(await self.hosts("x.test"), ["a"])

    async def test_without_an_answer_the_mail_waits(self) -> None:
        """SERVFAIL and silence, for MX or for all addresses: deferred, 4.4.3, with the reason. A host that can be
        resolved is enough.
        """
        self.mx("x.test", "10 a", "20 b")
        self.server.behave("SERVFAIL", "a.mx.test")
        self.assertEqual(await self.hosts("x.test"), ["b"])
        self.server.behave(SILENT, "c.mx.test")
        self.exchangers = self.made(timeout=1.5)
        self.mx("y.test", "10 c")
        self.server.behave("SERVFAIL", "z.test", "MX")
        for domain, reason in (("y.test", "no answer"), ("z.test", "SERVFAIL")):
            found = await self.exchangers.of(domain)
            assert isinstance(found, Deferred), found
            self.assertTrue(found.reply.startswith("4.4.3 DNS"), found)
            self.assertIn(reason, found.reply)

    async def test_exchangers_without_addresses_are_passed_over(self) -> None:
        """Names that do not exist, or are none, or have only text; where no other is left: failed."""
        self.server.add("text.mx.test", "TXT", "x")
        self.mx("x.test", "10 missing", "15 text", "17 -192.0.2.1.", "20 a")
        self.assertEqual(await self.hosts("x.test"), ["a"])
        self.mx("y.test", "10 missing", "20 text")
        found = await self.exchangers.of("y.test")
        self.assertEqual(found, Failed("550 5.4.4 No exchanger of y.test has an address"))

    async def test_an_address_literal_is_its_own_host(self) -> None:
        """IPv4 and IPv6; nonsense fails, and so does our own."""
        for domain, address in (("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1")):
            found = await self.exchangers.of(domain)
            self.assertEqual(found, (Exchanger(host=address, addresses=(address,)),))
        self.assertIsInstance(await self.exchangers.of("[x]"), Failed)
        found = await self.exchangers.of(f"[{OUR_ADDRESS}]")
        assert isinstance(found, Failed), found
        self.assertTrue(found.reply.startswith("554 5.4.6 "))
        self.assertEqual(self.server.questions, [])

    async def test_from_ourselves_on_nobody_is_tried(self) -> None:
        """By name or by address: only those with a lower preference are left; nobody left is a circle."""
        self.server.add("other-name.test", "A", "192.0.2.1", OUR_ADDRESS)
        self.server.add(US, "A", "192.0.2.77")
        for own in (f"-{US.upper()}.", "-other-name.test."):
            self.mx("backup.test", "10 a", f"20 {own}", "20 b", "30 c")
            self.mx("best.test", f"10 {own}", "20 a")
            self.exchangers = self.made()
            self.assertEqual(await self.hosts("backup.test"), ["a"], own)
            found = await self.exchangers.of("best.test")
            self.assertEqual(found, Failed("554 5.4.6 Mail for best.test would come back to this host"))
        self.assertEqual(await self.exchangers.of(US), Failed(f"554 5.4.6 Mail for {US} would come back to this host"))

    async def test_a_better_host_that_is_not_known_now_is_waited_for(self) -> None:
        """As a backup exchanger we keep the mail until the better host can be resolved."""
        self.mx("x.test", "10 a", f"20 -{US}.")
        self.server.behave("SERVFAIL", "a.mx.test")
        self.assertIsInstance(await self.exchangers.of("x.test"), Deferred)

    async def test_hosts_and_addresses_have_bounds(self) -> None:
        """A domain with a hundred exchangers of a dozen addresses is tried at so many, the best first."""
        for at in range(100):
            self.server.add(f"h{at}.mx.test", "A", *(f"10.0.{at}.{one}" for one in range(12)))
        self.mx("wide.test", *(f"{at} h{at}" for at in range(100)))
        found = await self.found("wide.test")
        self.assertEqual([exchanger.host for exchanger in found], ["h0.mx.test", "h1.mx.test"])
        self.assertEqual(sum(len(exchanger.addresses) for exchanger in found), MAX_ADDRESSES)
        for at in range(100):
            self.server.add(f"s{at}.mx.test", "A", f"10.0.{at}.1")
        self.mx("long.test", *(f"{at} s{at}" for at in range(100)))
        self.assertEqual(len(await self.found("long.test")), MAX_HOSTS)

    async def test_international_names_are_asked_for_as_dns_has_them(self) -> None:
        """A U-label and its A-label are one domain."""
        self.mx("xn--bcher-kva.test", "10 a")
        self.assertEqual(await self.hosts("Bücher.test"), ["a"])
        self.assertEqual(await self.hosts("xn--bcher-kva.test"), ["a"])

    async def test_what_is_dnssec_valid_says_so(self) -> None:
        """As a server on loopback has it."""
        self.server.secure = True
        self.mx("x.test", "10 a")
        (found,) = await self.found("x.test")
        self.assertTrue(found.secure)

    async def test_a_question_can_be_cancelled(self) -> None:
        """Nothing waits for DNS after that."""
        self.server.behave(SILENT)
        asked = self.exchangers.of("x.test")
        asked.cancel()
        await self.assertFailure(asked, CancelledError)


class OwnAddressesTests(SynchronousTestCase):
    def own(self, *ports: MailPort, listen: Sequence[str] = ("0.0.0.0", "::")) -> OwnAddresses:
        return OwnAddresses(Email(hostname=US, ports=ports), [ip_address(address) for address in listen])

    def test_only_where_mail_is_taken_on_that_port(self) -> None:
        """Wildcards mean the addresses of this host, others themselves; no port 25, no circle."""
        everywhere = self.own(MailPort(port=25))
        self.assertTrue(everywhere("127.0.0.1") and everywhere("127.8.8.8") and everywhere("::1"))
        self.assertFalse(everywhere("192.0.2.1") or everywhere("2001:db8::1"))
        named = self.own(MailPort(port=25, listen=(ip_address("192.0.2.1"),)), MailPort(port=587))
        self.assertTrue(named("192.0.2.1"))
        self.assertFalse(named("127.0.0.1") or named("192.0.2.2"))
        only_four = self.own(MailPort(port=25), listen=("0.0.0.0",))
        self.assertTrue(only_four("127.0.0.1"))
        self.assertFalse(only_four("::1"))
        self.assertFalse(self.own(MailPort(port=2525))("127.0.0.1"))

    def test_local_is_what_the_kernel_keeps_here(self) -> None:
        """Loopback and unspecified addresses; not those of documentation."""
        for address in ("127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::"):
            self.assertTrue(is_local(address), address)
        for address in ("192.0.2.1", "2001:db8::1", "255.255.255.255"):
            self.assertFalse(is_local(address), address)
