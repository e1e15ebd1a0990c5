"""DNS lists against a server on loopback. RFC 5782."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dcrouter.config.guards import Dnsbl
from dcrouter.mail.server.guards import dnsbl
from dcrouter.mail.server.guards.dnsbl import Lists, Sum, reversed_name, without_key
from dcrouter.net.resolver import Resolver
from tests.support.nameserver import SILENT, Nameserver

CLIENT = "192.0.2.9"
ZEN, OTHER, GOOD = "zen.example", "bl.other.example", "good.example"


class ListsTests(TestCase):
    def setUp(self) -> None:
        self.server = Nameserver(self)
        resolver = Resolver(self.server.config(timeout=20.0), reactor)
        self.addCleanup(resolver.close)
        self.lists = Lists(resolver, reactor)

    def use(self, *zones: Any) -> None:
        """(zone, score), or whole."""
        self.lists.reload([one if isinstance(one, Dnsbl) else Dnsbl(zone=one[0], score=one[1]) for one in zones])

    def sum(self, address: str = CLIENT) -> Deferred[Sum]:
        found = self.lists.sum(address)
        assert isinstance(found, Deferred)
        return found

    def test_names_that_are_asked_for(self) -> None:
        """Octets, or nibbles with IPv6, from the last (RFC 5782 2.1, 2.4); a mapped address is the IPv4 one."""
        self.assertEqual(reversed_name("192.0.2.99"), "99.2.0.192")
        self.assertEqual(reversed_name("::ffff:192.0.2.99"), "99.2.0.192")
        self.assertEqual(
            reversed_name("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
        )

    async def test_scores_are_added(self) -> None:
        """Of all lists that the client is on, good ones among them; who is on none has none (RFC 5782 2.1)."""
        self.use((ZEN, 3), (OTHER, 2), (GOOD, -4))
        self.server.add(f"9.2.0.192.{ZEN}", "A", "127.0.0.2")
        self.server.add(f"9.2.0.192.{OTHER}", "A", "127.0.0.4")
        self.server.add(f"8.2.0.192.{OTHER}", "A", "127.0.0.4")
        self.server.add(f"8.2.0.192.{GOOD}", "A", "127.0.0.4")
        self.assertEqual(await self.sum(), Sum(5, (ZEN, OTHER)))
        self.assertEqual(await self.sum("192.0.2.8"), Sum(-2, (OTHER,)))
        self.assertEqual(await self.sum("192.0.2.7"), Sum(0, ()))

    async def test_only_codes_that_were_named_count(self) -> None:
        """Ranges and single ones, one of several answers is enough; others, and what is outside 127.0.0.0/8, are none
        (RFC 5782 2.1, 2.3).
        """
        self.use(Dnsbl(zone=ZEN, codes=("127.0.0.2-127.0.0.11", "127.0.0.20"), score=3), (OTHER, 1))
        for last, answers, zones in (
            (1, ("127.0.0.11",), (ZEN,)),
            (2, ("127.0.0.12",), ()),
            (3, ("127.0.0.12", "127.0.0.20"), (ZEN,)),
            (4, ("127.255.255.254",), ()),
            (5, ("203.0.113.1",), ()),
        ):
            for zone in (ZEN, OTHER) if last > 3 else (ZEN,):
                self.server.add(f"{last}.2.0.192.{zone}", "A", *answers)
            self.assertEqual((await self.sum(f"192.0.2.{last}")).zones, zones)

    async def test_many_connections_ask_once(self) -> None:
        """At once, and one after the other."""
        self.use((ZEN, 3))
        self.server.add(f"9.2.0.192.{ZEN}", "A", "127.0.0.2")
        self.lists.begin(CLIENT)
        sums = await gatherResults([self.sum() for _ in range(5)])
        self.assertEqual(sums, [Sum(3, (ZEN,))] * 5)
        self.assertEqual(self.lists.sum(CLIENT), Sum(3, (ZEN,)))
        self.assertEqual(self.server.asked(f"9.2.0.192.{ZEN}", "A"), 1)

    async def test_a_list_that_is_silent_says_nothing(self) -> None:
        """The others count, when the limit is over; nobody waits longer."""
        self.patch(dnsbl, "LIMIT", 1.0)
        self.use((ZEN, 3), (OTHER, 2))
        self.server.behave(SILENT, f"9.2.0.192.{ZEN}")
        self.server.add(f"9.2.0.192.{OTHER}", "A", "127.0.0.2")
        self.assertEqual(await self.sum(), Sum(2, (OTHER,)))
        self.assertEqual(self.lists.failed, 1)

    async def test_a_list_that_fails_says_nothing(self) -> None:
        """SERVFAIL is no verdict."""
        self.use((ZEN, 3))
        self.server.behave("SERVFAIL")
        self.assertEqual(await self.sum(), Sum(0, ()))

    async def test_other_lists_are_asked_anew(self) -> None:
        """After a reload; where they are the same, what is known stays."""
        self.use((ZEN, 3))
        self.assertEqual(await self.sum(), Sum(0, ()))
        self.use((ZEN, 3))
        self.assertEqual(self.lists.sum(CLIENT), Sum(0, ()))
        self.use((OTHER, 3))
        self.server.add(f"9.2.0.192.{OTHER}", "A", "127.0.0.2")
        self.assertEqual(await self.sum(), Sum(3, (OTHER,)))

    async def test_what_is_kept_is_bounded(self) -> None:
        """Whoever comes from however many addresses."""
        self.patch(dnsbl, "MAX_CLIENTS", 3)
        self.use((ZEN, 3))
        for last in range(10):
            await self.sum(f"192.0.2.{last}")
        self.assertEqual(len(self.lists._looks), 3)

    def test_a_customers_key_is_not_told(self) -> None:
        """Zones of some lists begin with one: neither replies nor the log show it."""
        self.assertEqual(without_key("abcdefghijklmnopqrstuvwxyz.zen.dq.example"), "zen.dq.example")
        self.assertEqual(without_key("zen.spamhaus.org"), "zen.spamhaus.org")
