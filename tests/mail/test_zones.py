"""Mail to the world by zones: what the far end counts of connections and messages, and who goes which way."""

from __future__ import annotations

import time
from ipaddress import ip_network
from itertools import pairwise
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.mail import MailPort
from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rates import Rate
from dcrouter.config.rules import Mta, Rule, RuleMatch
from dcrouter.config.zones import Shape, Zone, ZoneMatch
from dcrouter.mail.delivery import destination
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.egress.egress import Leg
from dcrouter.mail.queue import queue
from dcrouter.mail.shaping import gate
from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.lane import Lane
from dcrouter.mail.shaping.pauses import Pause
from tests.mail.house import House, in_thread, send
from tests.mail.nexthop import SILENT, ScriptedHop
from tests.support.facts import until
from tests.support.nameserver import Nameserver
from tests.support.ports import reserved

SOON = Queue(retry=Retry(base=0.2, max=0.2, jitter=0.0))


class CountingHop(ScriptedHop):
    """`most`: sessions at once that there were; `times`: when messages began. `peers` and `names`: whom a test has seen
    connect, and what they call themselves.
    """

    def __init__(self, case: TestCase, **options: Any) -> None:
        super().__init__(case, **options)
        self.most = 0
        self.times: list[float] = []
        self.peers: list[str] = []
        self.names: list[str] = []
        self.script["EHLO"] = self._ehlo
        self.script["MAIL"] = self._mail

    def _ehlo(self, line: str) -> str:
        self.most = max(self.most, len(self.sessions))
        return "250-next\r\n250-PIPELINING\r\n250 8BITMIME"

    def _mail(self, line: str) -> str:
        self.times.append(time.monotonic())
        return "250 2.1.0 ok"


class World(TestCase):
    """Hosts mx<number>.test on loopback, one address each."""

    def setUp(self) -> None:
        self.dns = Nameserver(self)
        self.port = reserved(self)

    def hop(self, number: int, *domains: str, **options: Any) -> CountingHop:
        """The host mx<number>.test, exchanger of these domains."""
        self.dns.add(f"mx{number}.test", "A", f"127.0.1.{number}")
        for domain in domains:
            self.dns.add(domain, "MX", f"10 mx{number}.test.")
        return CountingHop(self, address=f"127.0.1.{number}", port=self.port, **options)

    def house(self, *rules: Rule, **options: Any) -> House:
        return House(
            self,
            *(rules or (Rule(name="mta", action=Mta()),)),
            ports=(MailPort(port=2525),),
            resolver=self.dns.config(),
            mx_port=self.port,
            **options,
        )

    async def send(
        self, house: House, *recipients: str, sender: str = "a@x.test", body: str = "Subject: x\r\n\r\ntext\r\n"
    ) -> None:
        """One message to each."""
        port = house.listen()

        def all_of_them() -> None:
            for recipient in recipients:
                send(port, recipient, sender=sender, body=body)

        await in_thread(all_of_them)

    def reload(self, house: House, **email: Any) -> None:
        config = evolve(house.config, email=evolve(house.email, **email))
        house.mta.reload(house.mta.succession(config, {}), house.chooser, house.heard)

    def gate(self, house: House, name: str) -> Gate:
        gate = house.mta._shaping.limits.find(name)
        assert gate is not None
        return gate


class ZoneTests(World):
    async def test_a_zone_limits_its_connections_to_all_destinations(self) -> None:
        """Two at once over five hosts, three messages on each; another zone is not held up by that."""
        hops = [self.hop(number, f"d{number}.test") for number in range(1, 6)]
        other = self.hop(6, "other.test")
        for hop in hops:
            hop.script["DATA"] = SILENT
        slow = Rule(name="slow", match=RuleMatch(recipients=("re:.*@d.*",)), action=Mta(zone="tight"))
        house = self.house(
            slow,
            Rule(name="mta", action=Mta()),
            zones={"tight": Zone(connections=2, messages_per_connection=3)},
        )
        await self.send(house, *(f"x{number}@d{number % 5 + 1}.test" for number in range(20)), "x@other.test")
        await until(lambda: other.messages)
        await until(lambda: sum(len(hop.sessions) for hop in hops) == 2)
        for hop in hops:
            hop.script["DATA"] = "354 go"
            for session in hop.sessions:
                session.message = []
                session.sendLine(b"354 go")
        await until(lambda: sum(len(hop.messages) for hop in hops) == 20)
        self.assertLessEqual(max(hop.most for hop in hops), 2)
        self.assertEqual(self.gate(house, "zone tight").size, 2)
        self.assertGreaterEqual(sum(hop.connections for hop in hops), 7)

    async def test_a_zone_never_sends_more_than_its_rate(self) -> None:
        """Five in three seconds, over two hosts together, and all of them arrive."""
        hops = [self.hop(1, "a.test"), self.hop(2, "b.test")]
        house = self.house(zones={"default": Zone(rate=Rate(rate=(5, 3.0)))})
        await self.send(house, *(f"x{number}@{'ab'[number % 2]}.test" for number in range(16)))
        await until(lambda: sum(len(hop.messages) for hop in hops) == 16)
        times = sorted(hops[0].times + hops[1].times)
        for first, sixth in zip(times, times[5:], strict=False):
            self.assertGreater(sixth - first, 1.5)  # the first may have been seen late

    async def test_mail_that_has_long_to_wait_is_back_in_the_queue(self) -> None:
        """It is due when its token is there; no attempt is counted, and nothing is told of it."""
        self.patch(gate, "SOON", 0.3)
        hop = self.hop(1, "a.test")
        house = self.house(zones={"default": Zone(rate=Rate(rate=(1, 2.0)))})
        await self.send(house, *(f"x{number}@a.test" for number in range(4)))
        await until(lambda: house.mta.status()["postponed"] >= 2)
        waiting = await house.queue()
        self.assertEqual({one["attempts"] for one in waiting}, {0})
        await until(lambda: len(hop.messages) == 4)
        self.assertTrue(all(b - a > 0.8 for a, b in pairwise(hop.times)), hop.times)
        await until(lambda: len(house.done) == 4)
        self.assertEqual({(one.outcome, one.attempts) for one in house.done}, {("delivered", 1)})

    async def test_mail_that_waits_for_a_rate_is_asked_anew_when_that_changes(self) -> None:
        """By a reload, or when a reply's slow_down is resumed: nobody waits for a time that no limit asks for."""
        hop = self.hop(1, "a.test")
        house = self.house(zones={"default": Zone(rate=Rate(rate=(1, 3600.0)))})
        await self.send(house, *(f"x{number}@a.test" for number in range(4)))
        wakes = house.mta._queue._wakes
        await until(lambda: len(wakes) == 3)
        self.reload(house, zones={"default": Zone(rate=Rate(rate=(3, 3600.0)))})
        await until(lambda: (len(hop.messages), len(wakes)) == (3, 1))
        self.reload(house, zones={})
        await until(lambda: len(hop.messages) == 4)
        pauses = house.mta._shaping.pauses
        slow = Rate(rate=(1, 3600.0))
        host = f"host mx1.test:{self.port}"
        pauses.add(Pause(what=host, effect="slow_down", rate=slow, since=0.0, by="on_reply"))
        await self.send(house, *(f"x{number}@a.test" for number in range(3)))
        await until(lambda: len(wakes) == 2)
        pauses.lift(host)
        await until(lambda: len(hop.messages) == 7)

    async def test_a_conversion_waits_for_its_rate_in_its_place(self) -> None:
        """The first form took a token and did not leave: the second one waits for the next, and is not sent away."""
        hop = self.hop(1, "a.test")
        hop.script["EHLO"] = "250 next"
        self.patch(gate, "SOON", 0.1)
        house = self.house(zones={"default": Zone(rate=Rate(rate=(1, 1.0)))})
        body = "Subject: x\r\n\r\n"
        for text in ("\u00fc\r\n", "\u00fc" * 100_000 + "\r\n"):
            await self.send(house, "x@a.test", body=body + text.replace("\u00fc" * 30, "\u00fc" * 30 + "\r\n"))
        await until(lambda: len(hop.messages) == 2)
        self.assertTrue(all(content.isascii() for _, content in hop.messages))
        await until(lambda: len(house.done) == 2)
        self.assertEqual({one.outcome for one in house.done}, {"delivered"})

    async def test_mail_finds_its_zone_when_it_has_come(self) -> None:
        """By header, sender, recipient and client, all conditions together; the rule's word goes before."""
        self.hop(1, "a.test")
        premium = ZoneMatch(headers={"x-zone": "premium"}, senders=("*@vip.test",), recipients=("*@a.test",))
        house = self.house(zones={"premium": Zone(match=premium)})
        body = "Subject: x\r\nX-Zone: premium\r\n\r\ntext\r\n"
        seen: list[Lane] = []
        destinations = house.mta._attempts.destinations
        to = destinations.to

        def noted(leg: Leg, lane: Lane) -> Destination:
            seen.append(lane)
            return to(leg, lane)

        self.patch(destinations, "to", noted)
        for sender, text, zone in (
            ("a@vip.test", body, "premium"),
            ("a@vip.test", "Subject: x\r\n\r\n", "default"),
            ("a@x.test", body, "default"),
        ):
            seen.clear()
            await self.send(house, "x@a.test", sender=sender, body=text)
            await until(lambda: seen)
            self.assertEqual(seen[0].zone, zone)

    async def test_mail_of_a_network_has_its_zone(self) -> None:
        """`client_ips`: by who the client is, not by where the connection comes from."""
        hop = self.hop(1, "a.test")
        near = ZoneMatch(client_ips=(ip_network("192.0.2.0/24"),))
        house = self.house(zones={"near": Zone(match=near)}, trusted=(ip_network("0.0.0.0/0"),))
        house.mta._pause_orders.ask({"do": "pause", "what": "zone near"})
        for client in ("192.0.2.7", "198.51.100.7"):
            await in_thread(send, house.listen(peer=(client, 4321)), f"{client}@a.test")
        await until(lambda: hop.messages)
        self.assertEqual(hop.messages[0][0][1], "RCPT TO:<198.51.100.7@a.test>")
        (left,) = await until(lambda: house.queue().addCallback(lambda rows: rows if len(rows) == 1 else None))
        self.assertEqual((left["recipient"], left["zone"]), ("192.0.2.7@a.test", "near"))

    async def test_a_connection_carries_messages_for_its_time(self) -> None:
        """`connection_time`: the first message behind it goes on another connection; but one goes on each, however long
        the server took to greet.
        """
        hop = self.hop(1, "a.test")
        house = self.house(zones={"default": Zone(connections=1, connection_time=1e-6)})
        await self.send(house, *(f"x{number}@a.test" for number in range(3)))
        await until(lambda: len(hop.messages) == 3)
        self.assertEqual(hop.connections, 3)

    async def test_a_reload_is_followed_and_forgets_nothing(self) -> None:
        """A rate that is taken away lets go what waits for it; one that comes knows what has left."""
        hop = self.hop(1, "a.test")
        house = self.house(zones={"default": Zone(rate=Rate(rate=(2, 600.0)))})
        await self.send(house, *(f"x{number}@a.test" for number in range(6)))
        await until(lambda: len(hop.messages) == 2)
        await until(lambda: house.mta.status()["postponed"] == 4)
        self.reload(house, zones={})
        await house.mta.queue_ask({"do": "retry", "all": True})
        await until(lambda: len(hop.messages) == 6)

    async def test_a_zone_that_stands_still_holds_up_no_other(self) -> None:
        """More messages than may be under way wait for a host that says nothing; another zone's leave meanwhile."""
        self.patch(gate, "KEPT", 20)
        self.patch(gate, "STALLED", 0.3)
        self.patch(destination, "STALLED", 0.3)
        self.patch(queue, "MAX_CLAIMED", 60)
        self.patch(queue, "MAX_RETRIED", 60)
        slow, good = self.hop(1, "slow.test", greeting=SILENT), self.hop(2, "good.test")
        rule = Rule(name="slow", match=RuleMatch(recipients=("*@slow.test",)), action=Mta(zone="tight"))
        house = self.house(rule, Rule(name="mta", action=Mta()), zones={"tight": Zone(connections=1)})
        await self.send(house, *["x@slow.test"] * 80, "y@good.test")
        await until(lambda: good.messages)
        await until(lambda: house.mta.status()["postponed"] >= 40)
        self.assertEqual(len(slow.sessions), 1)


class DestinationTests(World):
    async def test_hosts_of_one_provider_share_its_limits(self) -> None:
        """By the suffix of their names, whatever domains they serve; others are not meant."""
        hops = [self.hop(number, f"d{number}.test") for number in range(1, 4)]
        for number in (1, 2):
            self.dns.add(f"mx.p{number}.big.test", "A", f"127.0.1.{number}")
            self.dns.remove(f"d{number}.test", "MX")
            self.dns.add(f"d{number}.test", "MX", f"10 mx.p{number}.big.test.")
        for hop in hops:
            hop.script["greeting"] = SILENT
        house = self.house(destinations={"big": Shape(mx=("big.test",), connections=3)})
        await self.send(house, *(f"x{number}@d{number % 3 + 1}.test" for number in range(30)))
        await until(lambda: len(hops[2].sessions) == 10)
        self.assertEqual(len(hops[0].sessions) + len(hops[1].sessions), 3)

    async def test_a_domain_has_its_own_limits_on_hosts_that_it_shares(self) -> None:
        """One connection and a rate for it, beside another domain on the same host; a transaction each."""
        hop = self.hop(1, "a.test", "b.test")
        house = self.house(destinations={"a.test": Shape(connections=1, rate=Rate(rate=(2, 1.0)))})
        await self.send(house, *(f"x{number}@a.test" for number in range(6)), *["y@b.test"] * 3)
        await until(lambda: len(hop.messages) == 9)
        times = [time for time, (lines, _) in zip(hop.times, hop.messages, strict=True) if "b.test" not in lines[1]]
        self.assertEqual(len(times), 6)
        both = self.house(destinations={"a.test": Shape()})
        await in_thread(send, both.listen(), "x@a.test", "y@b.test")
        await until(lambda: len(hop.messages) == 11)

    async def test_tls_can_be_required(self) -> None:
        """A host that offers none keeps its mail waiting, and hears none of it."""
        hop = self.hop(1, "a.test")
        house = self.house(destinations={"default": Shape(tls="required")})
        await self.send(house, "x@a.test")
        await until(lambda: house.done)
        self.assertEqual((house.done[0].outcome, hop.messages), ("deferred", []))

    async def test_a_reload_gives_hosts_to_a_provider(self) -> None:
        """From the next message on its limits hold, and connections that there were end by themselves."""
        hop = self.hop(1, "a.test")
        house = self.house()
        await self.send(house, "x@a.test")
        await until(lambda: hop.messages)
        self.reload(house, destinations={"p": Shape(mx=("mx1.test",), connections=1)})
        hop.script["EHLO"] = SILENT
        await self.send(house, *(f"x{number}@a.test" for number in range(5)))
        gate = self.gate(house, "provider p")
        await until(lambda: gate.used == 1 and gate.wanted)
        self.assertEqual(self.gate(house, f"host mx1.test:{self.port}").used, 1)
