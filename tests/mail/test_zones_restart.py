"""What holds mail back outlives a restart, and so does who waits for it: rates, pauses, and their ends."""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks

from dcrouter.config.rates import Rate
from dcrouter.config.zones import OnReply, Zone
from tests.mail.test_zones import World
from tests.support.facts import until

HOURLY = {"default": Zone(rate=Rate(rate=(3, 3600.0)))}


class RestartTests(World):
    @inlineCallbacks
    def waiting(self, house, text: str, count: int):
        """So many wait with this in their replies, in the store."""

        def enough(rows) -> bool:
            return len([row for row in rows if text in row["reply"]]) == count

        yield until(lambda: house.queue().addCallback(enough))
        yield house.idle()

    @inlineCallbacks
    def after_three_of_five(self):
        """A house begun anew in whose zone three of five have left, and two wait for the rate."""
        house = self.house(zones=HOURLY)
        yield self.send(house, *(f"x{number}@a.test" for number in range(5)))
        yield self.waiting(house, "the rate of zone default is reached", 2)
        yield house.close()
        return self.house(zones=HOURLY, state=house.state)

    @inlineCallbacks
    def test_a_rate_knows_what_has_left_before_the_restart(self):
        """Three of five have left; after it nothing more does, neither what waited nor what is new."""
        hop = self.hop(1, "a.test")
        again = yield self.after_three_of_five()
        yield again.mta.queue_ask({"do": "retry", "all": True})
        yield self.send(again, "new@a.test")
        yield self.waiting(again, "the rate of zone default is reached", 3)
        self.assertEqual(len(hop.messages), 3)

    @inlineCallbacks
    def test_mail_that_waits_since_before_it_leaves_as_soon_as_the_rate_changes(self):
        """By a reload, without the operator's help."""
        hop = self.hop(1, "a.test")
        again = yield self.after_three_of_five()
        self.reload(again, zones={"default": Zone()})
        yield until(lambda: len(hop.messages) == 5)

    @inlineCallbacks
    def test_mail_that_waits_since_before_it_leaves_as_soon_as_a_pause_ends(self):
        """An operator's, without an end, of a zone; that of another one goes on."""
        hop = self.hop(1, "a.test", "b.test")
        house = self.house()
        for what in ("zone default", "domain b.test"):
            house.mta._pause_orders.ask({"do": "pause", "what": what, "reason": "tonight"})
        yield self.send(house, "x@a.test", "y@b.test")
        yield self.waiting(house, "zone default is paused: tonight", 1)
        yield self.waiting(house, "domain b.test is paused: tonight", 1)
        yield house.close()
        again = self.house(state=house.state)
        again.mta._pause_orders.ask({"do": "resume", "what": "zone default"})
        yield until(lambda: len(hop.messages) == 1)
        self.assertEqual(hop.messages[0][0][1], "RCPT TO:<x@a.test>")
        yield self.waiting(again, "domain b.test is paused: tonight", 1)
        again.mta._pause_orders.ask({"do": "resume", "what": "domain b.test"})
        yield until(lambda: len(hop.messages) == 2)

    @inlineCallbacks
    def test_a_pause_that_ends_while_nobody_is_there(self):
        """Its mail leaves at the next start, whatever it was told."""
        hop = self.hop(1, "a.test")
        house = self.house()
        house.mta._pause_orders.ask({"do": "pause", "what": "zone default"})
        yield self.send(house, "x@a.test")
        yield self.waiting(house, "zone default is paused", 1)
        yield house.close()
        path = house.state / "mail" / "pauses.json"
        path.write_text(path.read_text().replace('"until": null', '"until": 1.0'))
        again = self.house(state=house.state)
        yield until(lambda: len(hop.messages) == 1)
        self.assertEqual(again.mta._shaping.pauses.all(), [])

    @inlineCallbacks
    def test_what_is_slowed_down_stays_so(self):
        """By a reply, to two an hour: the two have left, and after the restart nothing does until it is resumed."""
        hop = self.hop(1, "a.test")
        slow = OnReply(match="421", action="slow_down", to=Rate(rate=(2, 3600.0)), for_=7200.0)
        house = self.house(on_reply=(slow,))
        name = f"host mx1.test:{self.port}"
        house.mta._shaping.reactions.heard("421 slowly", name, "")
        yield self.send(house, *(f"x{number}@a.test" for number in range(4)))
        yield self.waiting(house, f"the rate of {name} is reached", 2)
        self.assertEqual(len(hop.messages), 2)
        yield house.close()
        again = self.house(on_reply=(slow,), state=house.state)
        yield self.send(again, "new@a.test")
        yield self.waiting(again, f"the rate of {name} is reached", 3)
        again.mta._pause_orders.ask({"do": "resume", "what": name})
        yield until(lambda: len(hop.messages) == 5)
