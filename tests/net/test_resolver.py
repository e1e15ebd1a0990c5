"""The resolver against servers of every temper, over real sockets on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.message
from dns.message import Message
from dns.rdatatype import RdataType
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, DeferredList
from twisted.trial.unittest import TestCase

from dcrouter.config.forms import HostPort
from dcrouter.config.resolver import Resolver as ResolverConfig
from dcrouter.errors import NoAddress, NoSuchName, Unreachable
from dcrouter.net import resolver as module
from dcrouter.net.dns.message import MAX_CHAIN, PAYLOAD
from dcrouter.net.resolver import MxAnswer, Resolver
from tests.support.ends import descriptors
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
)
from tests.support.ports import closed_for_datagrams

SHORT = 1.5
"""Seconds for questions that get no answer."""


class Case(TestCase):
    def setUp(self) -> None:
        self.server = Nameserver(self)
        self.hosts = Path(self.mktemp())
        self.hosts.write_text("")

    def resolver(self, *others: Nameserver, **config: Any) -> Resolver:
        """One that asks `self.server`, then the others, and finds nothing in /etc/hosts but what `self.hosts` says."""
        return self.made(self.server.config(*others, **config))

    def of_the_system(self, text: str) -> tuple[Resolver, Path]:
        """One that asks whom resolv.conf names, and that file."""
        conf = Path(self.mktemp())
        conf.write_text(text)
        return self.made(ResolverConfig(), resolv_conf=conf, port=self.server.port), conf

    async def reads(self, resolver: Resolver, server: str) -> None:
        """It knows that resolv.conf names this one now."""
        file = resolver._servers._file
        assert file is not None
        await until(lambda: server in file.get().servers)

    def made(self, config: ResolverConfig, **files: Any) -> Resolver:
        resolver = Resolver(config, reactor, hosts=self.hosts, **files)
        self.addCleanup(resolver.close)
        return resolver


class AnswerTests(Case):
    async def test_exchangers_come_in_order_of_preference(self) -> None:
        """Whatever the order, the case and the final dot of the question."""
        self.server.add("A.Test", "MX", "20 m2.a.test.", "10 M1.a.test.", "20 m3.a.test.")
        found = await self.resolver().mx("a.TEST.")
        self.assertEqual(found.hosts, ((10, "m1.a.test"), (20, "m2.a.test"), (20, "m3.a.test")))
        self.assertEqual((found.domain, found.secure), ("a.test", False))

    async def test_records_of_a_name_of_any_characters(self) -> None:
        """Macros of SPF make such names; what is no name at all does not exist."""
        self.server.add("a+b\\032c.test", "TXT", '"yes"')
        resolver = self.resolver()
        found = await resolver.records("A+b c.test", RdataType.TXT)
        self.assertEqual([record.to_text() for record in found.records], ['"yes"'])
        for name in ("a..test", "x" * 64 + ".test", ""):
            await self.assertFailure(resolver.records(name, RdataType.TXT), NoSuchName)

    async def test_null_mx_and_no_mx_are_two_things(self) -> None:
        """`0 .` is an exchanger without a name; a domain without MX has none."""
        self.server.add("null.test", "MX", "0 .")
        self.server.add("plain.test", "A", "192.0.2.1")
        resolver = self.resolver()
        self.assertEqual((await resolver.mx("null.test")).hosts, ((0, ""),))
        self.assertEqual((await resolver.mx("plain.test")).hosts, ())

    async def test_what_does_not_exist_is_not_what_has_no_address(self) -> None:
        """NXDOMAIN is NoSuchName, NODATA is NoAddress; neither is temporary. What can be no name is not asked for."""
        self.server.add("text.test", "TXT", "hello")
        resolver = self.resolver()
        with self.assertRaises(NoSuchName) as caught:
            await resolver.addresses("nothing.test")
        self.assertFalse(caught.exception.temporary)
        with self.assertRaises(NoAddress) as caught:
            await resolver.addresses("text.test")
        self.assertFalse(caught.exception.temporary)
        await self.assertFailure(resolver.mx("nothing.test"), NoSuchName)
        asked = len(self.server.questions)
        for name in ("a..test", "x" * 64 + ".test", "a b.test", "", ".", "ü.test", ".".join(["abcdefg"] * 40)):
            await self.assertFailure(resolver.mx(name), NoSuchName)
        self.assertEqual(len(self.server.questions), asked)

    async def test_addresses_come_as_the_policy_orders_them(self) -> None:
        """Both families in either order, or one of them, which is then the only one asked for."""
        self.server.add("both.test", "A", "192.0.2.1", "192.0.2.2")
        self.server.add("both.test", "AAAA", "2001:db8::1")
        v4, v6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1",)
        for policy, expected, kinds in (
            ("ipv4-first", v4 + v6, {"A", "AAAA"}),
            ("ipv6-first", v6 + v4, {"A", "AAAA"}),
            ("ipv4", v4, {"A"}),
            ("ipv6", v6, {"AAAA"}),
        ):
            self.server.questions.clear()
            found = await self.resolver(addresses=policy).addresses("both.test")
            self.assertEqual(sorted(found), sorted(expected))
            self.assertEqual([":" in one for one in found], [":" in one for one in expected])
            self.assertEqual({kind for _, kind, _ in self.server.questions}, kinds)

    async def test_one_family_that_answers_is_enough(self) -> None:
        """SERVFAIL for AAAA does not hide an A; where there is no A it is a temporary failure, not `no address`."""
        self.server.add("half.test", "A", "192.0.2.1")
        self.server.add("none.test", "TXT", "x")
        for name in ("half.test", "none.test"):
            self.server.behave("SERVFAIL", name, "AAAA")
        resolver = self.resolver()
        self.assertEqual(await resolver.addresses("half.test"), ("192.0.2.1",))
        with self.assertRaises(Unreachable) as caught:
            await resolver.addresses("none.test")
        self.assertTrue(caught.exception.temporary)

    async def test_an_address_is_its_own_answer(self) -> None:
        """No server is asked for 192.0.2.1, ::1 or [::1]."""
        resolver = self.resolver()
        self.assertEqual(await resolver.addresses("192.0.2.1"), ("192.0.2.1",))
        self.assertEqual(await resolver.addresses("::1"), ("::1",))
        self.assertEqual(await resolver.addresses("[2001:db8::1]"), ("2001:db8::1",))
        self.assertEqual(self.server.questions, [])

    async def test_aliases_are_followed_within_the_answer_and_beyond_it(self) -> None:
        """CNAMEs lead to the same answer whether the server chases them or not."""
        self.server.add("a.test", "CNAME", "b.test.")
        self.server.add("b.test", "CNAME", "c.test.")
        self.server.add("c.test", "MX", "10 mx.c.test.")
        self.server.add("lost.test", "CNAME", "nowhere.test.")
        for chases in (True, False):
            self.server.chases = chases
            resolver = self.resolver()
            found = await resolver.mx("a.test")
            self.assertEqual((found.domain, found.hosts), ("c.test", ((10, "mx.c.test"),)))
            with self.assertRaises(NoSuchName) as caught:
                await resolver.mx("lost.test")
            self.assertIn("nowhere.test", str(caught.exception))
            again = await resolver.mx("a.test")
            self.assertEqual(again, found)

    async def test_aliases_that_go_round_end(self) -> None:
        """In one answer or over many: a temporary failure after a bounded number of questions."""
        self.server.add("a.test", "CNAME", "b.test.")
        self.server.add("b.test", "CNAME", "a.test.")
        for chases in (True, False):
            self.server.chases = chases
            self.server.questions.clear()
            with self.assertRaises(Unreachable) as caught:
                await self.resolver().mx("a.test")
            self.assertTrue(caught.exception.temporary)
            self.assertLessEqual(len(self.server.questions), MAX_CHAIN)

    async def test_an_answer_too_long_for_a_datagram_comes_by_tcp(self) -> None:
        """200 records: more than EDNS offers; and a server that says TC to everything."""
        self.server.add("big.test", "MX", *(f"{at} mail-{at}.exchangers.big.test." for at in range(200)))
        self.server.add("small.test", "MX", "1 mx.small.test.")
        self.server.behave(TRUNCATED, "small.test")
        resolver = self.resolver()
        self.assertEqual(len((await resolver.mx("big.test")).hosts), 200)
        self.assertEqual((await resolver.mx("small.test")).hosts, ((1, "mx.small.test"),))
        self.assertEqual([by for _, _, by in self.server.questions], ["udp", "tcp", "udp", "tcp"])

    async def test_the_word_of_a_trusted_server_is_passed_on(self) -> None:
        """AD counts from loopback, or where trust_ad says so; it is asked for only then."""
        self.server.add("a.test", "CNAME", "b.test.")
        self.server.add("b.test", "MX", "1 mx.a.test.")
        self.server.secure = True
        self.server.chases = False
        for trust, expected in (("auto", True), ("true", True), ("false", False)):
            found = await self.resolver(trust_ad=trust).mx("a.test")
            self.assertEqual(found.secure, expected, trust)
        self.server.behave(lambda query, by: self.insecure(query), "b.test")
        self.assertFalse((await self.resolver().mx("a.test")).secure, "one link of the chain is not")

    def insecure(self, query: Message) -> bytes:
        self.server.secure = False
        return self.server.response(query, "b.test", "MX").to_wire()

    async def test_queries_are_as_they_should_be(self) -> None:
        """Recursion, EDNS with 1232 octets, an id and a source port of its own for each."""
        resolver = self.resolver()
        for at in range(20):
            self.server.add(f"n{at}.test", "MX", "1 mx.test.")
            await resolver.mx(f"n{at}.test")
        self.assertEqual({query.payload for query in self.server.queries}, {PAYLOAD})
        self.assertTrue(all(query.flags & dns.flags.RD for query in self.server.queries))
        self.assertGreater(len({query.id for query in self.server.queries}), 15)
        self.assertGreater(len(self.server.sources), 10)


class HostsTests(Case):
    async def test_the_hosts_file_comes_first_and_is_read_again(self) -> None:
        """Names of /etc/hosts in any case, by the policy; what it lacks is asked of DNS; changes count."""
        self.hosts.write_text("192.0.2.7 Relay.internal relay # ours\n2001:db8::7 relay.internal\nnonsense here\n")
        resolver = self.resolver()
        self.assertEqual(await resolver.addresses("relay.INTERNAL."), ("192.0.2.7", "2001:db8::7"))
        self.assertEqual(await resolver.addresses("relay"), ("192.0.2.7",))
        six = self.resolver(addresses="ipv6")
        self.assertEqual(await six.addresses("relay.internal"), ("2001:db8::7",))
        await self.assertFailure(six.addresses("relay"), NoSuchName)
        self.hosts.write_text("192.0.2.8 relay.internal other.internal\n")
        await until(lambda: resolver._hosts.get().get("other.internal"))
        self.assertEqual(await resolver.addresses("relay.internal"), ("192.0.2.8",))

    async def test_localhost_needs_no_server(self) -> None:
        """Not even a hosts file; nor do names below it."""
        resolver = self.made(ResolverConfig(servers=(HostPort("127.0.0.1", 1),)))
        self.hosts.unlink()
        for name in ("localhost", "LocalHost.", "mail.localhost"):
            self.assertEqual(await resolver.addresses(name), ("127.0.0.1", "::1"))


class FailureTests(Case):
    async def test_forged_and_broken_answers_are_not_believed(self) -> None:
        """Wrong ids, wrong questions and garbage are waited out; nonsense behind our own question is an answer that is
        none. All end as temporary, and none of them brings a name.
        """
        self.server.add("a.test", "MX", "1 mx.a.test.")
        for temper in (WRONG_ID, WRONG_QUESTION, GARBAGE, NONSENSE, SILENT, REFERRAL, CUT):
            self.server.behave(temper)
            with self.assertRaises(Unreachable) as caught:
                await self.resolver(timeout=SHORT).mx("a.test")
            self.assertTrue(caught.exception.temporary, temper)
            self.assertIn("a.test", str(caught.exception))

    async def test_a_forged_answer_does_not_spoil_the_true_one(self) -> None:
        """The true answer after a dozen forged ones counts."""
        self.server.add("a.test", "MX", "1 mx.a.test.")

        def forge(query: Message, by: str) -> list[bytes]:
            true = self.server.response(query, "a.test", "MX")
            forged = []
            for at in range(12):
                other = dns.message.from_wire(true.to_wire())
                other.id = (true.id + 1 + at) % 65536
                forged.append(other.to_wire())
            return [*forged, b"", b"\0" * 12, true.to_wire()]

        self.server.behave(forge)
        self.assertEqual((await self.resolver().mx("a.test")).hosts, ((1, "mx.a.test"),))

    async def test_a_flood_of_forged_answers_ends_the_question(self) -> None:
        """Ids are not to be guessed by sending all of them."""

        def forge(query: Message, by: str) -> list[bytes]:
            wires = []
            for at in range(200):
                other = self.server.response(query, "a.test", "MX")
                other.id = (query.id + 1 + at) % 65536
                wires.append(other.to_wire())
            return wires

        self.server.behave(forge)
        with self.assertRaises(Unreachable) as caught:
            await self.resolver().mx("a.test")
        self.assertIn("forged", str(caught.exception))

    async def test_another_server_is_asked_where_one_has_no_answer(self) -> None:
        """SERVFAIL, REFUSED, a referral, nonsense, TCP that is cut, a closed port: the second server's word counts, at
        once.
        """
        good = Nameserver(self)
        good.add("a.test", "MX", "1 mx.a.test.")
        for temper in ("SERVFAIL", "REFUSED", "NOTIMP", "FORMERR", "YXDOMAIN", REFERRAL, NONSENSE, CUT):
            self.server.behave(temper)
            found = await self.resolver(good, timeout=60.0).mx("a.test")
            self.assertEqual(found.hosts, ((1, "mx.a.test"),), temper)
        port = closed_for_datagrams(self)
        config = ResolverConfig(servers=(HostPort("127.0.0.1", port), good.place), timeout=60.0)
        self.assertEqual((await self.made(config).mx("a.test")).hosts, ((1, "mx.a.test"),))

    async def test_a_closed_port_is_told_at_once(self) -> None:
        """An ICMP refusal is the end of the question where there is no other server."""
        port = closed_for_datagrams(self)
        resolver = self.made(ResolverConfig(servers=(HostPort("127.0.0.1", port),), timeout=600.0))
        with self.assertRaises(Unreachable) as caught:
            await resolver.mx("a.test")
        self.assertIn("refused", str(caught.exception))

    async def test_all_servers_failing_is_told_with_their_reasons(self) -> None:
        """Each server once, no waiting for the timeout."""
        other = Nameserver(self)
        self.server.behave("SERVFAIL")
        other.behave("REFUSED")
        with self.assertRaises(Unreachable) as caught:
            await self.resolver(other, timeout=60.0).mx("a.test")
        self.assertIn("SERVFAIL", str(caught.exception))
        self.assertIn("REFUSED", str(caught.exception))
        self.assertEqual((len(self.server.questions), len(other.questions)), (1, 1))

    async def test_a_server_without_edns_is_asked_without(self) -> None:
        """FORMERR to a query with EDNS is followed by one without."""
        self.server.add("old.test", "MX", "1 mx.old.test.")

        def old(query: Message, by: str) -> bytes:
            if query.edns >= 0:
                response = dns.message.make_response(query)
                response.set_rcode(dns.rcode.FORMERR)
                return response.to_wire()
            return self.server.response(query, "old.test", "MX").to_wire()

        self.server.behave(old)
        self.assertEqual((await self.resolver().mx("old.test")).hosts, ((1, "mx.old.test"),))

    async def test_a_silent_server_is_passed_over_and_remembered(self) -> None:
        """The first question waits for its share of the time; the next ones go to the other server first."""
        good = Nameserver(self)
        self.server.behave(SILENT)
        resolver = self.resolver(good, timeout=4.0)
        for at in range(5):
            good.add(f"n{at}.test", "MX", "1 mx.test.")
            await resolver.mx(f"n{at}.test")
        self.assertEqual(len(self.server.questions), 1)
        self.assertEqual(len(good.questions), 5)

    async def test_a_server_that_comes_back_is_asked_again(self) -> None:
        """After its time as dead one question tries it, and it has its place again."""
        good = Nameserver(self)
        self.server.behave(SILENT)
        resolver = self.resolver(good, timeout=4.0)
        for server in (self.server, good):
            for name in ("a.test", "b.test", "c.test"):
                server.add(name, "MX", "1 mx.test.")
        await resolver.mx("a.test")
        self.server.behave(None)
        first = next(iter(resolver._servers._known.values()))
        self.assertGreater(first.dead_until, reactor.seconds())
        first.dead_until = reactor.seconds()  # as time would have it
        await resolver.mx("b.test")
        await resolver.mx("c.test")
        self.assertEqual(self.server.asked("b.test", "MX") + self.server.asked("c.test", "MX"), 2)
        self.assertFalse(first.doubted)

    async def test_a_lost_datagram_is_sent_again(self) -> None:
        """The only server does not hear the first query, but the next."""
        self.server.add("a.test", "MX", "1 mx.a.test.")
        heard = []

        def deaf_once(query: Message, by: str) -> bytes | list[bytes]:
            heard.append(query)
            return [] if len(heard) == 1 else self.server.response(query, "a.test", "MX").to_wire()

        self.server.behave(deaf_once)
        self.assertEqual((await self.resolver(timeout=3.0).mx("a.test")).hosts, ((1, "mx.a.test"),))

    async def test_a_slow_answer_is_an_answer(self) -> None:
        """It comes when the query has been sent again already, and counts all the same."""
        self.server.add("slow.test", "MX", "1 mx.slow.test.")
        self.server.delay = 1.2
        self.assertEqual((await self.resolver(timeout=3.0).mx("slow.test")).hosts, ((1, "mx.slow.test"),))

    async def test_nothing_stays_open(self) -> None:
        """After answers, failures, TCP, cancellation and close, every socket and timer is gone."""
        self.server.mail("a.test", "mx.a.test")
        self.server.behave(TRUNCATED, "mx.a.test")
        self.server.behave(SILENT, "silent.test")
        resolver = self.resolver(timeout=SHORT)
        await resolver.mx("a.test")
        before = descriptors()
        await resolver.addresses("mx.a.test")
        await self.assertFailure(resolver.mx("silent.test"), Unreachable)
        cancelled = resolver.addresses("b.silent.test")
        cancelled.cancel()
        await self.assertFailure(cancelled, CancelledError)
        self.server.behave(SILENT)
        cut = self.assertFailure(resolver.mx("c.test"), Unreachable)
        resolver.close()
        await cut
        await self.assertFailure(resolver.mx("d.test"), Unreachable)
        await until(lambda: not descriptors() - before)


class ShareTests(Case):
    async def test_answers_are_remembered_for_their_ttl(self) -> None:
        """Answers, NXDOMAIN and NODATA are asked for once, and again after their time, for the last two SOA's."""
        clock = [1000.0]
        self.server.add("a.test", "MX", "1 mx.a.test.", ttl=300)
        self.server.add("t.test", "TXT", "x")
        self.server.soa = (600, 60)
        resolver = self.resolver()
        resolver._cache._seconds = lambda: clock[0]
        for _ in range(3):
            await resolver.mx("a.test")
            await resolver.mx("t.test")
            await self.assertFailure(resolver.mx("no.test"), NoSuchName)
        self.assertEqual([self.server.asked(name, "MX") for name in ("a.test", "t.test", "no.test")], [1, 1, 1])
        clock[0] += 61
        await resolver.mx("a.test")
        await resolver.mx("t.test")
        await self.assertFailure(resolver.mx("no.test"), NoSuchName)
        self.assertEqual([self.server.asked(name, "MX") for name in ("a.test", "t.test", "no.test")], [1, 2, 2])
        clock[0] += 300
        await resolver.mx("a.test")
        self.assertEqual(self.server.asked("a.test", "MX"), 2)
        status = resolver.status()
        self.assertEqual(status["dns_cached"] + status["dns_sent"], status["dns_questions"])

    async def test_a_failure_is_remembered_shortly(self) -> None:
        """So that a dead zone is not asked for once for each message."""
        self.server.behave("SERVFAIL")
        resolver = self.resolver()
        for _ in range(3):
            await self.assertFailure(resolver.mx("a.test"), Unreachable)
        self.assertEqual(self.server.asked("a.test", "MX"), 1)

    async def test_the_same_question_is_asked_once_for_all_who_wait(self) -> None:
        """A hundred ask, and one query goes out; half of them leave, and the others have the answer."""
        self.server.add("a.test", "MX", "1 mx.a.test.")
        self.server.delay = 0.2
        resolver = self.resolver()
        asked = [resolver.mx("a.test") for _ in range(100)]
        for one in asked[:50]:
            one.cancel()
        results = await DeferredList(asked, consumeErrors=True)
        self.assertEqual([good for good, _ in results], [False] * 50 + [True] * 50)
        self.assertEqual(len(self.server.questions), 1)
        self.assertEqual(resolver.counters["shared"], 99)

    async def test_only_so_many_are_asked_at_once(self) -> None:
        """The rest waits for its turn, and has its answer in the end; beyond a bound a question fails at once."""
        self.patch(module, "MAX_ASKING", 10)
        self.patch(module, "MAX_WAITING", 40)
        most = 0
        self.server.delay = 0.01
        resolver = self.resolver(addresses="ipv4")
        asked = []
        for at in range(70):
            self.server.add(f"n{at}.test", "A", "192.0.2.1")
            asked.append(resolver.addresses(f"n{at}.test").addErrback(lambda failure: failure.type))
            most = max(most, resolver._asking)
        results = await DeferredList(asked)
        self.assertEqual(most, 10)
        self.assertEqual([value for _, value in results], [("192.0.2.1",)] * 50 + [Unreachable] * 20)

    async def test_thousands_that_fail_at_once_do_not_fall_over_each_other(self) -> None:
        """Without a network every question fails before it is asked; none of them inside another."""
        self.patch(module, "MAX_ASKING", 1)
        resolver, conf = self.of_the_system("nameserver 127.0.0.1\n")
        self.server.behave(SILENT, "first.test")
        first = resolver.mx("first.test").addErrback(lambda _: None)
        conf.write_text("nameserver 255.255.255.255\n")
        await self.reads(resolver, "255.255.255.255")
        rest = [resolver.mx(f"n{at}.test").addErrback(lambda failure: failure.type) for at in range(3000)]
        first.cancel()
        results = await DeferredList(rest)
        self.assertEqual({value for _, value in results}, {Unreachable})

    async def test_who_hears_an_answer_may_give_up_another_question_for_it(self) -> None:
        """Which may be the same one: it is cancelled, and whoever else waits hears the answer."""
        self.server.add("a.test", "MX", "10 m.a.test.")
        resolver = self.resolver()
        first, second, third = (resolver.mx("a.test") for _ in range(3))

        def hear(found: MxAnswer) -> MxAnswer:
            second.cancel()
            return found

        await first.addCallback(hear)
        await self.assertFailure(second, CancelledError)
        self.assertEqual((await third).hosts, ((10, "m.a.test"),))


class SystemTests(Case):
    async def test_short_names_are_tried_in_the_domains_of_resolv_conf(self) -> None:
        """As ndots says; with a final dot, and for MX, a name is what it is."""
        resolver, _ = self.of_the_system("nameserver 127.0.0.1\nsearch one.test two.test\noptions ndots:2\n")
        self.server.add("relay.two.test", "A", "192.0.2.2")
        self.server.add("relay", "A", "192.0.2.3")
        self.assertEqual(await resolver.addresses("relay"), ("192.0.2.2",))
        self.assertEqual(await resolver.addresses("relay."), ("192.0.2.3",))
        await self.assertFailure(resolver.mx("nothing"), NoSuchName)
        await self.assertFailure(resolver.addresses("nothing"), NoSuchName)

    async def test_servers_of_resolv_conf_are_those_of_now(self) -> None:
        """A file that is written later, and changed, is what counts; without one, the local server is asked."""
        resolver, conf = self.of_the_system("")
        conf.unlink()
        self.server.add("a.test", "MX", "1 mx.a.test.")
        self.assertEqual((await resolver.mx("a.test")).hosts, ((1, "mx.a.test"),))
        conf.write_text("nameserver 255.255.255.255\n")
        await self.reads(resolver, "255.255.255.255")
        await self.assertFailure(resolver.mx("b.test"), Unreachable)
