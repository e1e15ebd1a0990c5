"""One message for recipients whose servers take different times: who has it does not wait for the others."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from attrs import evolve
from twisted.internet.defer import Deferred

from dcrouter.config.egress import EgressMatch, EgressRule
from dcrouter.config.forms import HostPort
from dcrouter.config.queue import Queue
from dcrouter.config.rules import Deliver, MailForward, Mta, Rule, RuleMatch
from dcrouter.config.targets import SimpleTarget, Target
from dcrouter.mail.delivery import forwarding
from tests.mail.delivery.test_egress import proxy
from tests.mail.house import LOCAL, LOOPBACK, House, dialogue, forward, in_thread, send
from tests.mail.nexthop import SILENT, ScriptedHop
from tests.mail.test_zones import World
from tests.support.facts import until
from tests.support.socks import Socks

MTA = Rule(name="mta", match=RuleMatch(clients="may_relay"), action=Mta())


class EndsTests(World):
    def recipients(self, house: House) -> Deferred[dict[str, str]]:
        """Who is in the queue: recipient -> state."""
        return house.queue().addCallback(lambda rows: {row["recipient"]: row["state"] for row in rows})

    async def ends(self, store: Literal["sqlite", "memory"]) -> None:
        """The quick one's recipients are through, the slow one refuses later, nobody knows a third domain."""
        quick, slow = self.hop(1, "quick.test"), self.hop(2, "slow.test", final=SILENT)
        names = ["x@quick.test", "y@quick.test", "z@slow.test", "a@nowhere.test"]
        house = self.house(LOCAL, MTA, trusted=LOOPBACK, queue=Queue(store=store))
        await in_thread(send, house.listen(), *names, sender="root@local.test")
        await until(lambda: len(house.done) == 2)
        await until(lambda: slow.messages)
        await until(lambda: self.recipients(house).addCallback(lambda found: len(found) == 2))
        self.assertEqual(await self.recipients(house), {names[2]: "queued", names[3]: "queued"})
        self.assertEqual(len(quick.messages), 1)
        slow.sessions[-1].sendLine(b"550 5.7.1 no")
        await until(lambda: house.mails("root@local.test"))
        await house.idle()
        (notice,) = house.mails("root@local.test")
        self.assertTrue(all(name.encode() in notice for name in names[2:]))
        self.assertFalse(any(name.encode() in notice.partition(b"rfc822-headers")[0] for name in names[:2]))
        counted = Counter((one.recipient, one.outcome) for one in house.done)
        expected = {(names[0], "delivered"), (names[1], "delivered"), (names[2], "failed"), (names[3], "failed")}
        self.assertEqual(set(counted), expected | {("root@local.test", "delivered")})
        self.assertEqual(set(counted.values()), {1})
        self.assertEqual(await self.recipients(house), {})
        self.assertEqual(house.mta.status()["queued"], 0)

    async def test_who_has_it_leaves_the_queue_while_others_are_under_way(self) -> None:
        """So a crash in these minutes sends no second copy; each is reported once, and who failed at once is told of
        with who fails later.
        """
        await self.ends("sqlite")

    async def test_so_it_is_in_memory(self) -> None:
        """The other store."""
        await self.ends("memory")

    async def test_who_wants_to_hear_of_success_is_told_with_the_others(self) -> None:
        """And leaves the queue with them."""
        quick, slow = self.hop(1, "quick.test"), self.hop(2, "slow.test", final=SILENT)
        house = self.house(LOCAL, MTA, trusted=LOOPBACK)
        await in_thread(
            dialogue,
            house.listen(),
            "EHLO c",
            "MAIL FROM:<root@local.test>",
            "RCPT TO:<x@quick.test> NOTIFY=SUCCESS",
            "RCPT TO:<y@slow.test>",
            "DATA",
            b"Subject: x\r\n\r\nx\r\n.\r\n",
        )
        await until(lambda: quick.messages and slow.messages)
        self.assertEqual(len(await self.recipients(house)), 2)
        slow.sessions[-1].sendLine(b"250 2.0.0 ok")
        await until(lambda: len(house.mails("root@local.test")) == 1)
        await house.idle()
        self.assertEqual(await self.recipients(house), {})

    async def test_transactions_of_one_message_end_apart(self) -> None:
        """A hundred recipients have it, the hundred and first is under way."""
        hop = self.hop(1)
        hop.script["final"] = lambda line: SILENT if len(hop.messages[-1][0]) == 2 else "250 ok"
        action = MailForward(targets=(Target(host="127.0.1.1", port=hop.port),))
        house = self.house(evolve(forward(recipients="*@a.test"), action=action))
        await in_thread(send, house.listen(), *(f"x{number}@a.test" for number in range(101)))
        await until(lambda: len(hop.messages) == 2)
        await until(lambda: self.recipients(house).addCallback(lambda found: len(found) == 1))
        self.assertEqual(len([one for one in house.done if one.outcome == "delivered"]), 100)

    async def left(self, house: House, *names: str) -> None:
        """Waits until these are all that is queued."""
        await until(lambda: self.recipients(house).addCallback(lambda found: set(found) == set(names)))

    async def test_those_that_were_too_many_end_apart(self) -> None:
        """Three of five are taken at once, again and again (452 4.5.3); the last ones are under way."""
        hop = self.hop(1, "a.test")
        hop.script["RCPT"] = lambda line: "452 4.5.3 too many" if len(hop.sessions[-1].accepted) >= 2 else "250 ok"
        hop.script["final"] = lambda line: SILENT if len(hop.messages) == 3 else "250 ok"
        house = self.house()
        names = [f"x{number}@a.test" for number in range(5)]
        await in_thread(send, house.listen(), *names)
        await self.left(house, names[4])
        await until(lambda: len(hop.messages) == 3)
        hop.sessions[-1].sendLine(b"250 2.0.0 ok")
        await until(lambda: len(house.done) == 5)
        await house.idle()
        self.assertEqual(Counter(one.recipient for one in house.done), Counter(names))
        self.assertEqual({one.outcome for one in house.done}, {"delivered"})
        await self.left(house)

    async def test_who_takes_a_few_at_a_time_and_its_time_holds_the_others_no_longer(self) -> None:
        """They wait as the server's 452 says, and are tried again like all others."""
        self.patch(forwarding, "FOLLOWING", 0.0)
        hop = self.hop(1, "a.test")
        hop.script["RCPT"] = lambda line: "452 4.5.3 too many" if len(hop.sessions[-1].accepted) >= 2 else "250 ok"
        house = self.house()
        names = [f"x{number}@a.test" for number in range(5)]
        await in_thread(send, house.listen(), *names)
        await until(lambda: len(house.done) == 5)
        outcomes = [(one.recipient, one.outcome, one.reply[:9]) for one in house.done]
        taken = [(name, "delivered", "250 2.0.0") for name in names[:2]]
        self.assertEqual(outcomes, [*taken, *((name, "deferred", "452 4.5.3") for name in names[2:])])
        self.assertEqual(len(hop.messages), 1)
        await house.idle()
        await self.left(house, *names[2:])

    async def test_who_has_a_reply_by_lmtp_leaves_while_others_wait_for_theirs(self) -> None:
        """RFC 2033 4.2: the first two have it, the third is refused at once, the server is at the fourth."""
        finals = {"c": "550 5.7.1 no", "d": SILENT}
        hop = ScriptedHop(self, lmtp=True, final=lambda line: finals.get(line.partition("<")[2][:1], "250 2.0.0 saved"))
        rule = Rule(
            name="in", match=RuleMatch(recipients=("*@a.test",)), action=Deliver(lmtp=HostPort("127.0.0.1", hop.port))
        )
        house = self.house(LOCAL, rule)
        names = [f"{name}@a.test" for name in "abcd"]
        await in_thread(send, house.listen(), *names, sender="root@local.test")
        await self.left(house, *names[2:])
        self.assertEqual(
            [(one.recipient, one.outcome) for one in house.done], [(name, "delivered") for name in names[:2]]
        )
        hop.sessions[-1].sendLine(b"250 2.0.0 saved")
        await until(lambda: house.mails("root@local.test"))
        await house.idle()
        await self.left(house)
        self.assertEqual(Counter(one.recipient for one in house.done), Counter([*names, "root@local.test"]))
        self.assertEqual(len(hop.messages), 1)

    async def test_ways_of_one_message_end_apart(self) -> None:
        """One recipient goes straight, another one through a proxy that says nothing: to exchangers, and to targets."""
        hop, socks = self.hop(1, "a.test"), Socks(self)
        socks.stalls = True
        way = EgressRule(match=EgressMatch(recipient=("slow@a.test",)), through=(proxy(socks.port),))
        target = evolve(forward(), action=MailForward(targets=(SimpleTarget(host="127.0.1.1", port=hop.port),)))
        for number, rule in enumerate((MTA, evolve(target, match=RuleMatch(recipients=("*@a.test",)))), 1):
            house = self.house(rule, trusted=LOOPBACK, egress=(way,))
            await in_thread(send, house.listen(), "quick@a.test", "slow@a.test")
            await until(lambda number=number: len(socks.asked) == number)
            await self.left(house, "slow@a.test")
            self.assertEqual([one.recipient for one in house.done], ["quick@a.test"])
            await house.close()
