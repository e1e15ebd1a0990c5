"""Pools and proxies: what goes through a proxy has no source of ours, and what no proxy takes leaves from the pool."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from attrs import evolve

from dcrouter.admin.deliveryexplain import delivery_lines
from dcrouter.config.egress import EgressRule
from dcrouter.config.zones import Warmup
from tests.mail.delivery.test_egress import proxy
from tests.mail.test_sources import POOL, ZONES, Watched
from tests.support.facts import until
from tests.support.ports import reserved
from tests.support.socks import Socks


class ProxiedTests(Watched):
    async def test_what_no_proxy_takes_leaves_from_the_pool(self) -> None:
        """`on_failure: direct`: from the message's source under its name, and from no other address; never from one
        that is paused.
        """
        hop = self.watched(1, "a.test")
        dead = EgressRule(through=(proxy(reserved(self)),), on_failure="direct")
        house = self.house(zones=ZONES, pools=POOL, egress=(dead,))
        house.mta._pause_orders.ask({"do": "pause", "what": "source 127.0.2.1"})
        await self.send(house, "x@a.test", "y@a.test")
        await until(lambda: len(hop.messages) == len([done for done in house.done if done.outcome == "delivered"]) == 2)
        self.assertEqual({(hop.peers[0], hop.names[0]), (hop.peers[-1], hop.names[-1])}, {("127.0.2.2", "two.test")})
        self.assertEqual({done.through for done in house.done if done.outcome == "delivered"}, {"direct"})
        house.mta._pause_orders.ask({"do": "pause", "what": "source 127.0.2.2"})
        count = len(house.done)
        await self.send(house, "z@a.test")
        await until(lambda: len(house.done) > count)
        self.assertNotEqual(house.done[-1].outcome, "delivered")
        self.assertEqual(len(hop.messages), 2)

    async def test_a_source_that_cannot_be_bound_is_not_used_there_either(self) -> None:
        """The next one is."""
        hop = self.watched(1, "a.test")
        dead = EgressRule(through=(proxy(reserved(self)),), on_failure="direct")
        (one, two) = POOL["main"]
        gone = evolve(one, address=type(one.address)("192.0.2.77"), weight=1000)
        house = self.house(zones=ZONES, pools={"main": (gone, two)}, egress=(dead,))
        await self.send(house, *(f"x{number}@a.test" for number in range(4)))
        await until(lambda: len(hop.messages) == 4)
        self.assertEqual(set(hop.peers), {"127.0.2.2"})

    async def test_a_proxy_speaks_for_us(self) -> None:
        """Nothing is said of sources, neither to the server nor by `explain delivery`; a pool that is paused is no
        matter.
        """
        hop = self.watched(1, "a.test")
        socks = Socks(self, **{"mx1.test": "127.0.1.1"})
        house = self.house(zones=ZONES, pools=POOL, egress=(EgressRule(through=(proxy(socks.port),)),))
        for source in ("127.0.2.1", "127.0.2.2"):
            house.mta._pause_orders.ask({"do": "pause", "what": f"source {source}"})
        await self.send(house, "x@a.test")
        await until(lambda: hop.messages)
        self.assertEqual(hop.names, [house.email.hostname])
        lines = list(delivery_lines(await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test"})))
        self.assertIn(f"  through socks5://127.0.0.1:{socks.port} (egress[0]), from its address", lines)
        self.assertNotIn("  from 127.0.2.2", "\n".join(lines))
        self.reload(house, egress=(EgressRule(through=(proxy(socks.port),), on_failure="direct"),))
        lines = list(delivery_lines(await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test"})))
        self.assertIn(f"  through socks5://127.0.0.1:{socks.port} (egress[0]), from its address; else straight", lines)
        self.assertIn("  from 127.0.2.2 as two.test", "\n".join(lines))

    async def test_explain_knows_when_a_source_begins(self) -> None:
        """Until its first day it has no mail as long as others can take it; then as much as is left of the day."""
        self.watched(1, "a.test")
        one, two = POOL["main"]
        tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
        pools = {"main": (one, evolve(two, warmup=Warmup(start=tomorrow, daily=(50,))))}
        house = self.house(zones=ZONES, pools=pools)
        lines = list(delivery_lines(await house.mta.queue_ask({"do": "delivery", "recipient": "x@a.test"})))
        self.assertIn("  from 127.0.2.1 as one.test, 100% of the mail", lines)
        self.assertIn(f"  from 127.0.2.2 as two.test, 0% of the mail, warming up from {tomorrow} on", lines)
