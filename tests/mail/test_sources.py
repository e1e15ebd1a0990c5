"""Sources, replies that trigger something, and pauses, with the mail half as a whole and far ends on loopback."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import Any

from dcrouter.admin.deliveryexplain import delivery_lines
from dcrouter.config.rates import Rate
from dcrouter.config.rules import MailForward, Rule, RuleMatch
from dcrouter.config.targets import Target
from dcrouter.config.zones import OnReply, Shape, Source, Warmup, Zone
from tests.mail.house import LOCAL, House, in_thread, send
from tests.mail.nexthop import SILENT
from tests.mail.test_zones import SOON, CountingHop, World
from tests.support.facts import until


def source(text: str, **more: Any) -> Source:
    return Source(address=ip_address(text), **more)


POOL = {"main": (source("127.0.2.1", name="one.test"), source("127.0.2.2", name="two.test"))}
ZONES = {"default": Zone(pool="main")}


def delivered(house: House) -> int:
    """Recipients; a far end may count what it has refused."""
    return len([done for done in house.done if done.outcome == "delivered"])


class Watched(World):
    def watched(self, number: int, *domains: str, **script: Any) -> CountingHop:
        """A host that notes `peers` and `names`."""
        hop = self.hop(number, *domains, **script)

        def hello(line: str) -> str:
            hop.peers.append(hop.sessions[-1].transport.getPeer().host)
            hop.names.append(line.split(" ")[1])
            return "250 next"

        hop.script["EHLO"] = hello
        return hop


class SourceTests(Watched):
    async def test_mail_leaves_from_its_source_under_its_name(self) -> None:
        """Each of the two has some of many messages."""
        hop = self.watched(1, "a.test")
        house = self.house(zones={"default": Zone(pool="main", messages_per_connection=1)}, pools=POOL)
        for number in range(24):
            await self.send(house, "x@a.test")
            await until(lambda number=number: len(hop.messages) == number + 1)
        both = {("127.0.2.1", "one.test"), ("127.0.2.2", "two.test")}
        self.assertEqual(set(zip(hop.peers, hop.names, strict=True)), both)

    async def test_a_retry_keeps_its_source_over_a_restart(self) -> None:
        """It is kept with the recipient, whatever weights have become."""
        hop = self.watched(1, "a.test", RCPT="450 4.2.0 greylisted")
        first = self.house(zones=ZONES, pools=POOL)
        await self.send(first, "x@a.test")
        await until(lambda: first.done)
        await first.idle()
        await first.close()
        (address,) = set(hop.peers)
        hop.script["RCPT"] = "250 ok"
        other = {"127.0.2.1": "127.0.2.2", "127.0.2.2": "127.0.2.1"}[address]
        heavy = {"main": (source(other, weight=1_000_000), source(address))}
        again = self.house(zones=ZONES, pools=heavy, state=first.state)
        await again.mta.queue_ask({"do": "retry", "all": True})
        await until(lambda: hop.messages)
        self.assertEqual(set(hop.peers), {address})

    async def test_a_source_that_cannot_be_bound_is_not_used(self) -> None:
        """The message leaves from the other one in the same attempt, and the pause says why."""
        hop = self.watched(1, "a.test")
        pool = {"main": (source("203.0.113.77", weight=1_000_000), source("127.0.2.2"))}
        house = self.house(zones=ZONES, pools=pool)
        await self.send(house, "x@a.test", "y@a.test")
        await until(lambda: len(hop.messages) == len(house.done) == 2)
        self.assertEqual({done.outcome for done in house.done}, {"delivered"})
        (pause,) = house.mta._shaping.pauses.all()
        self.assertEqual((pause.what, pause.by), ("source 203.0.113.77", "bind"))
        self.assertIn("cannot be bound", pause.reason)

    async def test_a_pool_without_a_usable_source_keeps_its_mail(self) -> None:
        """Until the pause ends, or is lifted; no attempt is counted. Nothing leaves from any other address."""
        hop = self.watched(1, "a.test")
        house = self.house(zones=ZONES, pools={"main": (source("127.0.2.1"),)})
        await house.mta.queue_ask({"do": "pause", "what": "source 127.0.2.1", "reason": "listed"})
        await self.send(house, "x@a.test")
        await until(lambda: house.mta.status()["postponed"] == 1)
        await house.idle()
        (row,) = await house.queue()
        self.assertEqual((row["attempts"], hop.connections), (0, 0))
        self.assertIn("source 127.0.2.1 is paused: listed", row["reply"])
        await house.mta.queue_ask({"do": "resume", "what": "source 127.0.2.1"})
        await until(lambda: hop.messages)

    async def test_a_source_reaches_only_its_family(self) -> None:
        """A host with IPv4 only, and a pool with IPv6 only: it waits, and says so."""
        self.hop(1, "a.test")
        house = self.house(zones=ZONES, pools={"main": (source("::1"),)})
        await self.send(house, "x@a.test")
        await until(lambda: house.done)
        self.assertIn(
            "4.4.4 No source of pool main can be used: ::1: the hosts have no IPv6 address", house.done[0].reply
        )

    async def test_warming_up(self) -> None:
        """Two for the provider, all others from the warm one, at once."""
        hop = self.watched(1, "a.test", "b.test")
        warming = source("127.0.2.1", weight=1_000_000, warmup=Warmup(start="2020-01-01", daily=(2,) * 36500))
        house = self.house(
            zones={"default": Zone(pool="main", messages_per_connection=1)},
            pools={"main": (warming, source("127.0.2.2"))},
            destinations={"p": Shape(mx=("mx1.test",))},
        )
        await self.send(house, *["x@a.test", "y@b.test"] * 4)
        await until(lambda: len(hop.messages) == 8)
        self.assertEqual(Counter(hop.peers), {"127.0.2.1": 2, "127.0.2.2": 6})


class ReplyTests(Watched):
    async def test_a_refusal_turns_the_source(self) -> None:
        """Of the session, or of the recipient for good: the other source brings it; the first stays away from there."""
        for verb, text in (("greeting", "554 5.7.1 You are on a blacklist"), ("RCPT", "550 5.7.1 blocked by Spamhaus")):
            hop = self.watched(1, "a.test")

            def answer(line: str, hop: CountingHop = hop, verb: str = verb, text: str = text) -> str:
                good = {"greeting": "220 next", "RCPT": "250 ok"}[verb]
                return text if hop.sessions[-1].transport.getPeer().host == "127.0.2.1" else good

            hop.script[verb] = answer
            pool = {"main": (source("127.0.2.1", weight=1_000_000), source("127.0.2.2"))}
            rule = OnReply(match="re:(?i)blacklist|spamhaus", action="rotate_source", for_=60.0)
            house = self.house(zones=ZONES, pools=pool, on_reply=(rule,))
            await self.send(house, "x@a.test")
            await until(lambda hop=hop: hop.messages)
            await until(lambda house=house: house.done)
            self.assertEqual([done.outcome for done in house.done], ["delivered"])
            (pause,) = house.mta._shaping.pauses.all()
            self.assertEqual(pause.what, f"source 127.0.2.1 for host mx1.test:{self.port}")
            self.assertEqual((pause.effect, pause.by, pause.reason), ("rotate", "on_reply", text))
            await house.close()
            await hop.close()

    async def test_with_no_source_left_a_refusal_is_one(self) -> None:
        """All have been turned away: 5xx fails."""
        hop = self.watched(1, "a.test", RCPT="550 5.7.1 blocked")
        house = self.house(zones=ZONES, pools=POOL, on_reply=(OnReply(match="re:blocked", action="rotate_source"),))
        await self.send(house, "x@a.test")
        await until(lambda: house.done)
        self.assertEqual((house.done[0].outcome, set(hop.peers)), ("failed", {"127.0.2.1", "127.0.2.2"}))

    async def test_a_reply_suspends_a_destination(self) -> None:
        """Its mail waits without an attempt until it is resumed; other hosts are not meant."""
        hop, other = self.hop(1, "a.test", RCPT="421 4.7.0 go away"), self.hop(2, "b.test")
        house = self.house(on_reply=(OnReply(match="421 4.7.0", action="suspend", for_=600.0),), queue=SOON)
        await self.send(house, "x@a.test")
        await until(lambda: house.mta.status()["postponed"])
        count = hop.connections
        hop.script["RCPT"] = "250 ok"
        await self.send(house, "y@a.test", "z@b.test")
        await until(lambda: other.messages)
        self.assertEqual(hop.connections, count)
        answer = await house.mta.queue_ask({"do": "pauses"})
        (pause,) = answer["pauses"]
        self.assertEqual((pause["what"], pause["reason"]), (f"host mx1.test:{self.port}", "421 4.7.0 go away"))
        await house.mta.queue_ask({"do": "resume", "what": pause["what"]})
        await until(lambda: delivered(house) == 3)

    async def test_a_reply_on_a_kept_connection_triggers_likewise(self) -> None:
        """421 to the second message: it is not tried by another connection first."""
        hop = self.hop(1, "a.test")
        house = self.house(on_reply=(OnReply(match="421 4.7.0", action="suspend", for_=600.0),), queue=SOON)
        await self.send(house, "x@a.test")
        await until(lambda: delivered(house) == 1)
        hop.script["RCPT"] = "421 4.7.0 go away"
        await self.send(house, "y@a.test")
        await until(lambda: house.mta.status()["postponed"])
        self.assertEqual(hop.connections, 1)

    async def test_a_reply_slows_a_destination_down(self) -> None:
        """From then on no more than the rate; when it is lifted, as before."""
        hop = self.hop(1, "a.test", RCPT="450 4.7.0 too fast")
        rule = OnReply(match="re:too fast", action="slow_down", to=Rate(rate=(2, 1.0)), for_=600.0)
        house = self.house(on_reply=(rule,), queue=SOON)
        await self.send(house, "x@a.test")
        await until(lambda: house.mta._shaping.pauses.all())
        hop.script["RCPT"] = "250 ok"
        await self.send(house, *["x@a.test"] * 5)
        await until(lambda: delivered(house) == 6)
        times = hop.times[1:]
        self.assertTrue(all(b - a > 0.5 for a, b in zip(times, times[2:], strict=False)), times)
        gate = self.gate(house, f"host mx1.test:{self.port}")
        self.assertIsNotNone(gate.brake)
        await house.mta.queue_ask({"do": "resume", "what": gate.name})
        self.assertIsNone(gate.brake)

    async def test_a_reply_makes_mail_fail(self) -> None:
        """A 4xx that will never be anything else; with `for`, what else goes there, too."""
        hop = self.hop(1, "a.test", RCPT="450 4.7.1 never")
        house = self.house(on_reply=(OnReply(match="450 4.7.1", action="bounce", for_=600.0),))
        await self.send(house, "x@a.test")
        await until(lambda: house.done)
        await self.send(house, "y@a.test")
        await until(lambda: len(house.done) >= 2)
        mine = [done for done in house.done if done.recipient.endswith("@a.test")]
        self.assertEqual([done.outcome for done in mine], ["failed", "failed"])
        self.assertEqual(len([line for line in hop.commands if line.startswith("RCPT")]), 1)


class PauseTests(Watched):
    async def test_mail_stands_still_while_it_is_paused(self) -> None:
        """All of it, a zone's, a domain's; what waited in memory, too; and it flows again when it is resumed."""
        for what in ("all", "zone default", "domain a.test"):
            hop = self.hop(1, "a.test")
            house = self.house()
            answer = await house.mta.queue_ask({"do": "pause", "what": what, "reason": "work", "seconds": 600})
            self.assertEqual(answer["paused"]["what"], what)
            await self.send(house, "x@a.test")
            await until(lambda house=house: house.mta.status()["postponed"] == 1)
            await house.idle()
            (row,) = await house.queue()
            self.assertIn(f"{what} is paused: work", row["reply"])
            self.assertEqual(hop.connections, 0)
            await house.mta.queue_ask({"do": "resume", "what": what})
            await until(lambda hop=hop: hop.messages)
            await house.close()
            await hop.close()

    async def test_what_waits_in_memory_stands_still_too(self) -> None:
        """At once, with the zone that it is of; each is told what all are told that wait for the end of a pause."""
        hop = self.hop(1, "a.test", greeting=SILENT)
        house = self.house(zones={"default": Zone(connections=1)})
        await self.send(house, *["x@a.test"] * 5)
        await until(lambda: hop.connections)
        await house.mta.queue_ask({"do": "pause", "what": "zone default"})
        await until(lambda: house.mta.status()["postponed"] == 5)
        await house.idle()
        rows = await house.queue()
        self.assertEqual([row["reply"] for row in rows], ["4.3.2 zone default is paused"] * 5)

    async def test_a_pause_of_a_domain_holds_up_no_other_recipient(self) -> None:
        """Of the same message."""
        hop = self.hop(1, "a.test", "b.test")
        house = self.house()
        await house.mta.queue_ask({"do": "pause", "what": "domain a.test"})
        await in_thread(send, house.listen(), "x@a.test", "y@b.test")
        await until(lambda: hop.messages)
        await until(lambda: house.done)
        self.assertEqual([done.recipient for done in house.done], ["y@b.test"])

    async def test_whatever_their_rule_does(self) -> None:
        """All mail, and that of a domain, stands still on its way to a smart host and into a Maildir, too."""
        hop = self.hop(1)
        relay = Rule(name="relay", match=RuleMatch(recipients=("*@a.test",)), action=MailForward(
            targets=(Target(host="127.0.1.1", port=self.port),)))  # fmt: skip
        house = self.house(relay, LOCAL)
        await house.mta.queue_ask({"do": "pause", "what": "domain a.test"})
        await in_thread(send, house.listen(), "x@a.test", "y@local.test")
        await until(lambda: house.mails("y@local.test"))
        await house.mta.queue_ask({"do": "pause", "what": "all"})
        await in_thread(send, house.listen(), "z@local.test")
        await until(lambda: house.mta.status()["postponed"] == 2)
        self.assertEqual((hop.connections, house.mails("z@local.test")), (0, []))
        await house.mta.queue_ask({"do": "resume", "all": True})
        await until(lambda: hop.messages and house.mails("z@local.test"))


class ExplainTests(Watched):
    async def test_how_mail_would_leave_now(self) -> None:
        """Rule, zone, sources, hosts, way, TLS, limits and pauses, in words and as values; nothing is connected to."""
        hop = self.watched(1, "a.test")
        zone = Zone(pool="main", rate=Rate(rate=(100, 3600.0)))
        house = self.house(
            zones={"default": zone},
            pools=POOL,
            destinations={"p": Shape(mx=("mx1.test",), connections=3)},
        )
        await house.mta.queue_ask({"do": "pause", "what": "source 127.0.2.1", "reason": "listed", "seconds": 3600})
        answer = await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test", "message": "5b"})
        lines = list(delivery_lines(answer))
        self.assertEqual(
            lines[:6],
            [
                "x@a.test: rule mta, mta",
                "zone default (no other), pool main",
                "10 mx1.test: 127.0.1.1",
                "  TLS opportunistic",
                "  straight",
                lines[5],
            ],
        )
        self.assertIn("  from 127.0.2.2 as two.test, 50% of the mail, this message", lines)
        paused = "not now: source 127.0.2.1 is paused: listed"
        self.assertIn(f"  from 127.0.2.1 as one.test, 50% of the mail, {paused}", lines)
        self.assertIn(
            "zone default: 0 of 20 connections, 100 messages on each, 10 m each, 100 messages in 1 h, 100 now", lines
        )
        self.assertIn("provider p: 0 of 3 connections, 100 messages on each", lines)
        self.assertEqual((answer["leaves"], hop.connections), (True, 0))
        for what in ("provider p", f"host mx1.test:{self.port}"):
            await house.mta.queue_ask({"do": "pause", "what": what})
            answer = await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test"})
            self.assertIn(f"10 mx1.test: 127.0.1.1, not now: {what} is paused", list(delivery_lines(answer)))
            self.assertEqual((answer["leaves"], answer["why"]), (False, f"{what} is paused"))
            await house.mta.queue_ask({"do": "resume", "what": what})
        house.mta.suppression({"do": "add", "address": "y@a.test"})
        answer = await house.mta.queue_ask({"do": "delivery", "recipient": "y@a.test"})
        self.assertIn("550 5.7.1 Nothing is sent to <y@a.test> any more (operator)", answer["why"])
        await house.mta.queue_ask({"do": "pause", "what": "source 127.0.2.2"})
        answer = await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test"})
        self.assertEqual(answer["why"], "no source of pool main can be used")
        await house.mta.queue_ask({"do": "pause", "what": "zone default", "reason": "work"})
        answer = await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test"})
        self.assertIn("does not leave now: zone default is paused: work", list(delivery_lines(answer)))
        for fields, problem in (
            ({"recipient": "nobody"}, "'nobody' is not a mail address"),
            ({"recipient": "x@a.test", "zone": "gold"}, "there is no zone 'gold'"),
        ):
            answer = await house.mta.queue_ask({"do": "delivery", **fields})
            self.assertIn(problem, answer["error"])
        answer = await house.mta.queue_ask({"do": "delivery", "recipient": "x@none.test"})
        self.assertIn("does not leave now: 550 5.1.2 There is no domain none.test", list(delivery_lines(answer)))
