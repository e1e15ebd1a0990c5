"""What holds mail back outlives a restart, and so does who waits for it: rates, pauses, and their ends."""

from __future__ import annotations

from typing import Any

from dcrouter.config.rates import Rate
from dcrouter.config.zones import OnReply, Zone
from tests.mail.house import House
from tests.mail.test_zones import World
from tests.support.facts import until

HOURLY = {"default": Zone(rate=Rate(rate=(3, 3600.0)))}


class RestartTests(World):
    async def waiting(self, house: House, text: str, count: int) -> None:
        """So many wait with this in their replies, in the store."""

        def enough(rows: list[dict[str, Any]]) -> bool:
            return len([row for row in rows if text in row["reply"]]) == count

        await until(lambda: house.queue().addCallback(enough))
        await house.idle()

    async def after_three_of_five(self) -> House:
        """A house begun anew in whose zone three of five have left, and two wait for the rate."""
        house = self.house(zones=HOURLY)
        await self.send(house, *(f"x{number}@a.test" for number in range(5)))
        await self.waiting(house, "the rate of zone default is reached", 2)
        await house.close()
        return self.house(zones=HOURLY, state=house.state)

    async def test_a_rate_knows_what_has_left_before_the_restart(self) -> None:
        """Three of five have left; after it nothing more does, neither what waited nor what is new."""
        hop = self.hop(1, "a.test")
        again = await self.after_three_of_five()
        await again.mta.queue_ask({"do": "retry", "all": True})
        await self.send(again, "new@a.test")
        await self.waiting(again, "the rate of zone default is reached", 3)
        self.assertEqual(len(hop.messages), 3)

    async def test_mail_that_waits_since_before_it_leaves_as_soon_as_the_rate_changes(self) -> None:
        """By a reload, without the operator's help."""
        hop = self.hop(1, "a.test")
        again = await self.after_three_of_five()
        self.reload(again, zones={"default": Zone()})
        await until(lambda: len(hop.messages) == 5)

    async def test_mail_that_waits_since_before_it_leaves_as_soon_as_a_pause_ends(self) -> None:
        """An operator's, without an end, of a zone; that of another one goes on."""
        hop = self.hop(1, "a.test", "b.test")
        house = self.house()
        for what in ("zone default", "domain b.test"):
            house.mta._pause_orders.ask({"do": "pause", "what": what, "reason": "tonight"})
        await self.send(house, "x@a.test", "y@b.test")
        await self.waiting(house, "zone default is paused: tonight", 1)
        await self.waiting(house, "domain b.test is paused: tonight", 1)
        await house.close()
        again = self.house(state=house.state)
        again.mta._pause_orders.ask({"do": "resume", "what": "zone default"})
        await until(lambda: len(hop.messages) == 1)
        self.assertEqual(hop.messages[0][0][1], "RCPT TO:<x@a.test>")
        await self.waiting(again, "domain b.test is paused: tonight", 1)
        again.mta._pause_orders.ask({"do": "resume", "what": "domain b.test"})
        await until(lambda: len(hop.messages) == 2)

    async def test_a_pause_that_ends_while_nobody_is_there(self) -> None:
        """Its mail leaves at the next start, whatever it was told."""
        hop = self.hop(1, "a.test")
        house = self.house()
        house.mta._pause_orders.ask({"do": "pause", "what": "zone default"})
        await self.send(house, "x@a.test")
        await self.waiting(house, "zone default is paused", 1)
        await house.close()
        path = house.state / "mail" / "pauses.json"
        path.write_text(path.read_text().replace('"until": null', '"until": 1.0'))
        again = self.house(state=house.state)
        await until(lambda: len(hop.messages) == 1)
        self.assertEqual(again.mta._shaping.pauses.all(), [])

    async def test_what_is_slowed_down_stays_so(self) -> None:
        """By a reply, to two an hour: the two have left, and after the restart nothing does until it is resumed."""
        hop = self.hop(1, "a.test")
        slow = OnReply(match="421", action="slow_down", to=Rate(rate=(2, 3600.0)), for_=7200.0)
        house = self.house(on_reply=(slow,))
        name = f"host mx1.test:{self.port}"
        house.mta._shaping.reactions.heard("421 slowly", name, "")
        await self.send(house, *(f"x{number}@a.test" for number in range(4)))
        await self.waiting(house, f"the rate of {name} is reached", 2)
        self.assertEqual(len(hop.messages), 2)
        await house.close()
        again = self.house(on_reply=(slow,), state=house.state)
        await self.send(again, "new@a.test")
        await self.waiting(again, f"the rate of {name} is reached", 3)
        again.mta._pause_orders.ask({"do": "resume", "what": name})
        await until(lambda: len(hop.messages) == 5)
