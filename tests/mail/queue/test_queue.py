"""The queue on a clock that is turned by hand, with an attempt that answers as told: what becomes of each recipient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Retry
from dcrouter.config.rules import Mta, Rule, RuleMatch
from dcrouter.errors import StoreError, StoreFull
from dcrouter.events import DeliveryDone
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Failed, Held, Outcome
from dcrouter.mail.envelope import Envelope, Recipient, Terms
from dcrouter.mail.message import Message, spool_path
from dcrouter.mail.queue import operator
from dcrouter.mail.queue.budget import Budget
from dcrouter.mail.queue.notices import Ended
from dcrouter.mail.queue.operator import GIVEN_UP, Operator, Plain
from dcrouter.mail.queue.parts import part_for
from dcrouter.mail.queue.queue import SETTLE_AGAIN, Queue
from dcrouter.mail.queue.room import Room
from dcrouter.mail.queue.store import FAILED, HELD, HELD_BY_OPERATOR, HELD_NOTICE, QUEUED, Key, Store
from dcrouter.mail.queue.stores.memory import MemoryStore
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from dcrouter.mail.queue.wakes import PACE
from tests.mail.queue.made import TEXT, entries, message
from tests.support.facts import until

NO = Failed("550 5.1.1 no", "t:25")
LATER = Later("451 4.0.0 later", "t:25")
DOWN = Later("4.4.1 t:25: Connection refused", "t:25")
YES = Delivered("250 ok", "t:25")


class PlainNotices:
    """Tells senders, or postmaster in the place of strangers, in one line; `None` for senders at mute.test."""

    def __init__(self) -> None:
        self.all: list[tuple[str, int, list[str], bytes]] = []

    def octets(self, message: Message) -> int:
        return 10

    def told(self, message: Message, ended: Sequence[Ended], head: bytes) -> Message | None:
        envelope = message.envelope
        assert envelope.sender and message.notice is None
        kind = ",".join(dict.fromkeys(one.action for one in ended))
        self.all.append((kind, message.id, [one.recipient.address for one in ended], head))
        if envelope.sender.endswith("@mute.test"):
            return None
        address = envelope.sender if envelope.may_relay else "root@here.test"
        octets = b"Subject: %s\r\n\r\n" % kind.encode()
        return Message(
            id=message.id * 100 + len(self.all),
            envelope=Envelope(session="s", sender="", recipients=(Recipient(number=0, address=address, rule="r"),)),
            received=message.received,
            size=len(octets),
            eightbit=False,
            octets=octets,
            notice="sender" if envelope.may_relay else "postmaster",
        )


class QueueCase(TestCase):
    retry = Retry(base=100.0, max=400.0, max_age=1000.0, jitter=0.0, delay_notice=250.0)

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.directory = Path(self.mktemp()).absolute()
        self.store = self.make()
        self.store.open()
        self.addCleanup(lambda: self.store.close())
        self.tried: list[Message] = []
        self.answers: dict[str, list[Outcome]] = {}
        self.hanging: dict[str, Deferred[list[Outcome]]] = {}
        self.done: list[DeliveryDone] = []
        self.notices = PlainNotices()
        self.budget = Budget()
        self.queue = self.make_queue()

    def make(self) -> Store:
        return SqliteStore(self.directory, reactor)

    def make_queue(self, room: Room | None = None) -> Queue:
        queue = Queue(
            self.store,
            self._attempt,
            self.retry,
            self.clock,
            self.clock.seconds,
            budget=self.budget,
            on_done=self.done.append,
            room=room,
        )
        self.addCleanup(queue.stop)
        return queue

    def message(self, number: int, *addresses: str, **rest: Any) -> Message:
        return message(number, *addresses, received=self.clock.seconds(), **rest)

    def _attempt(self, tried: Message) -> Deferred[list[Outcome]]:
        """Answers by address: the next of `answers`; who has none there hangs."""
        self.tried.append(tried)
        outcome: Deferred[list[Outcome]] = Deferred()
        addresses = [one.address for one in tried.envelope.recipients]
        if all(self.answers.get(address) for address in addresses):
            outcome.callback([self.answers[address].pop(0) for address in addresses])
        else:
            self.hanging[addresses[0]] = outcome
        return outcome

    async def turn(self, seconds: float, tries: int) -> None:
        """Turns the clock once the queue waits for it, until there have been so many attempts and all are settled."""
        await until(lambda: self.clock.getDelayedCalls())
        self.clock.advance(seconds)
        await until(lambda: len(self.tried) == tries)
        await self.queue.when_idle()

    async def until_told(self, notices: int) -> None:
        await until(lambda: len(self.notices.all) == notices)

    async def until_done(self, least: int) -> None:
        await until(lambda: len(self.done) >= least)

    def states(self) -> Deferred[list[tuple[str, int, int, str]]]:
        return entries(self.store).addCallback(
            lambda found: [(entry.address, entry.state, entry.attempts, entry.reply) for entry in found]
        )


class ReleaseTests(QueueCase):
    async def test_a_message_waits_for_its_release(self) -> None:
        """To the second, over a restart; its age counts from then (RFC 4865 4.2)."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [LATER] * 9, "a@x.test": [YES] * 9}
        await self.queue.put(self.message(1, "b@y.test", terms=Terms(release=9000.5)))
        self.assertEqual((self.tried, self.queue.counters["accepted"]), ([], 1))
        self.clock.advance(4000.0)
        self.queue.stop()
        self.queue = self.make_queue()
        self.queue.start([], self.notices)
        await until(lambda: self.clock.getDelayedCalls())
        self.clock.advance(4000.4)
        await self.queue.when_idle()
        self.assertEqual(self.tried, [])
        await self.turn(0.1, 1)
        self.assertEqual(await self.states(), [("b@y.test", QUEUED, 1, LATER.reply)])
        self.assertEqual(self.notices.all, [])

    async def test_a_release_that_has_passed_is_now(self) -> None:
        """Nothing waits for yesterday."""
        self.queue.start([])
        self.answers = {"b@y.test": [YES]}
        await self.queue.put(self.message(1, "b@y.test", terms=Terms(release=999.0)))
        await self.queue.when_idle()
        self.assertEqual((len(self.tried), self.store.messages), (1, 0))

    async def test_the_highest_priority_is_tried_first(self) -> None:
        """Of what is due after a time in which nothing could be sent (RFC 6710 4.1)."""
        for number, priority in enumerate((0, -4, 9, 3), 1):
            await self.store.put(self.message(number, terms=Terms(priority=priority)), 1000.0)
        self.answers = {"b0@y.test": [YES] * 4}
        self.queue.start([])
        await until(lambda: len(self.tried) == 4)
        await self.queue.when_idle()
        self.assertEqual([one.id for one in self.tried], [3, 4, 1, 2])


class FailureTests(QueueCase):
    async def test_a_failure_is_told_to_the_sender_and_leaves(self) -> None:
        """The notification is tried at once and quotes the beginning; the others of the message are not touched."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [NO], "c@y.test": [LATER], "a@x.test": [YES]}
        await self.queue.put(self.message(1, "b@y.test", "c@y.test"))
        await self.queue.when_idle()
        self.assertEqual(self.notices.all, [("failed", 1, ["b@y.test"], TEXT[:10])])
        self.assertEqual(
            [(one.notice, one.envelope.sender) for one in self.tried], [(None, "a@x.test"), ("sender", "")]
        )
        self.assertEqual(await self.states(), [("c@y.test", QUEUED, 1, LATER.reply)])
        counted = {"accepted": 1, "delivered": 1, "deferred": 1, "failed": 1, "postponed": 0, "notices": 1}
        self.assertEqual(self.queue.counters, counted)

    async def test_the_head_of_a_spooled_message_is_quoted(self) -> None:
        """Read from its file, of which only the beginning is; the file leaves with the message."""
        path = spool_path(self.store.spool, 1)
        path.write_bytes(TEXT + b"x" * 100_000)
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [NO], "a@x.test": [YES]}
        await self.queue.put(self.message(1, "b@y.test", octets=None))
        await self.queue.when_idle()
        self.assertEqual(self.notices.all[0][3], TEXT[:10])
        await until(lambda: not path.exists())
        self.assertEqual(self.store.messages, 0)

    async def test_a_message_that_is_too_old_is_told_as_failed(self) -> None:
        """With the last reply of the other side, after the last attempt at its maximal age."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [LATER] * 9, "a@x.test": [YES] * 9}
        await self.queue.put(self.message(1, "b@y.test"))
        for wait, tries in ((0.0, 1), (100.0, 2), (200.0, 4), (400.0, 5), (300.0, 7)):
            await self.turn(wait, tries)
        self.assertEqual([told[0] for told in self.notices.all], ["delayed", "failed"])
        self.assertEqual(self.store.messages, 0)
        self.assertEqual([event.outcome for event in self.done if event.recipient == "b@y.test"][-1], "failed")

    async def test_a_delay_is_told_once(self) -> None:
        """At the first attempt after `delay_notice`, for each recipient on its own; a restart forgets nothing."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [LATER] * 9, "a@x.test": [YES] * 9}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.turn(100.0, 2)
        self.assertEqual(self.notices.all, [])
        await self.turn(200.0, 4)
        self.assertEqual([told[:3] for told in self.notices.all], [("delayed", 1, ["b@y.test"])])
        self.queue.stop()
        self.queue = self.make_queue()
        self.queue.start([], self.notices)
        await self.turn(400.0, 5)
        self.assertEqual(len(self.notices.all), 1)

    async def test_each_recipient_is_told_of_as_was_asked_for_it(self) -> None:
        """NOTIFY of each: one notification of all ends of an attempt, and nothing of NEVER (RFC 3461 4.1, 5.2)."""
        self.queue.start([], self.notices)
        self.answers = {"a@x.test": [YES] * 9}
        ends: dict[str, Outcome] = {"FAILURE": NO, "SUCCESS": YES, "NEVER": NO, "DELAY": NO}
        ends |= {"SUCCESS,FAILURE": YES, "": YES}
        handed = Delivered("250 ok", "t:25", told="")
        names = [f"b{at}@y.test" for at in range(len(ends) + 1)]
        for name, end in zip(names, [*ends.values(), handed], strict=True):
            self.answers[name] = [end]
        one = self.message(1, *names)
        asked = zip(one.envelope.recipients, [*ends, "SUCCESS"], strict=True)
        recipients = tuple(evolve(recipient, notify=notify) for recipient, notify in asked)
        await self.queue.put(part_for(one, recipients))
        await self.queue.when_idle()
        told = ("failed,delivered", 1, ["b0@y.test", "b1@y.test", "b4@y.test"], TEXT[:10])
        self.assertEqual(self.notices.all, [told])
        left = [(address, state) for address, state, *_ in await self.states()]
        self.assertEqual(left, [("b2@y.test", FAILED), ("b3@y.test", FAILED)])

    async def test_delays_are_told_to_who_wants_to_hear_of_them(self) -> None:
        """NOTIFY without DELAY: only that it has failed, at last. NOTIFY=NEVER: nothing ever (RFC 3461 4.1)."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [LATER] * 9, "c@y.test": [LATER] * 9, "a@x.test": [YES] * 9}
        await self.queue.put(self.message(1, "b@y.test", asked={"notify": "FAILURE"}))
        await self.queue.put(self.message(2, "c@y.test", asked={"notify": "NEVER"}))
        for wait, tries in ((0.0, 2), (100.0, 4), (200.0, 6), (400.0, 8), (300.0, 11)):
            await self.turn(wait, tries)
        self.assertEqual([told[:2] for told in self.notices.all], [("failed", 1)])
        self.assertEqual([state[0] for state in await self.states()], ["c@y.test"])

    async def test_success_is_told_of_a_whole_message_too(self) -> None:
        """Where somebody asked; the message leaves with its notification."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [YES], "a@x.test": [YES]}
        await self.queue.put(self.message(1, "b@y.test", asked={"notify": "SUCCESS"}))
        await self.queue.when_idle()
        self.assertEqual([told[:2] for told in self.notices.all], [("delivered", 1)])
        self.assertEqual(self.store.messages, 0)

    async def test_the_null_sender_is_never_told(self) -> None:
        """Nor is anybody where no notifications are written: failed mail stays for the maximal age, then leaves."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [NO, NO, NO]}
        await self.queue.put(self.message(1, "b@y.test", sender=""))
        await self.queue.put(self.message(2, "b@y.test", sender="a@mute.test"))
        await self.queue.when_idle()
        self.assertEqual([told[1] for told in self.notices.all], [2])
        self.assertEqual(await self.states(), [("b@y.test", FAILED, 1, NO.reply)] * 2)
        self.queue.stop()
        self.queue = self.make_queue()
        self.queue.start([])
        await self.queue.put(self.message(3, "b@y.test"))
        await until(lambda: self.states().addCallback(lambda states: len(states) == 3 and states[2][1] == FAILED))
        self.clock.advance(999.0)
        self.assertEqual(self.store.messages, 3)

        def nothing_is_left() -> bool:
            self.clock.advance(1.0)
            return self.store.messages == 0

        await until(nothing_is_left)

    async def test_a_notification_that_fails_makes_no_other(self) -> None:
        """One for a sender stays as failed, one for postmaster is held, as is said, until the operator has seen it."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [NO] * 2, "a@x.test": [NO], "root@here.test": [NO]}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.queue.put(self.message(2, "b@y.test", may_relay=False))
        await self.queue.when_idle()
        self.assertEqual(len(self.notices.all), 2)
        self.assertEqual(
            await self.states(), [("a@x.test", FAILED, 1, NO.reply), ("root@here.test", HELD_NOTICE, 1, NO.reply)]
        )
        said = {(done.recipient, done.outcome) for done in self.done if done.recipient != "b@y.test"}
        self.assertEqual(said, {("a@x.test", "failed"), ("root@here.test", "held")})

    async def test_a_notification_that_cannot_be_written_loses_nothing(self) -> None:
        """An error in writing it leaves the recipient as failed, and says so; a head that is gone is done without."""
        told = self.patch(self.notices, "told", lambda *_: 1 / 0)
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [NO] * 2, "a@x.test": [YES]}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.queue.when_idle()
        self.assertEqual(await self.states(), [("b@y.test", FAILED, 1, NO.reply)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        told.restore()
        await self.queue.put(self.message(2, "b@y.test", octets=None))
        await self.queue.when_idle()
        self.assertEqual(self.notices.all[-1], ("failed", 2, ["b@y.test"], b""))
        self.assertEqual(len(await self.states()), 1)

    async def test_a_settle_that_fails_makes_no_second_notification(self) -> None:
        """The settle fails as a full disk would have it: nothing has changed, and after it the failure is told once."""
        self.queue.start([], self.notices)
        self.answers = {"b@y.test": [NO], "a@x.test": [YES]}
        settle, broken = self.store.settle, [StoreError("disk")]
        self.patch(self.store, "settle", lambda *args: _raise(broken.pop()) if broken else settle(*args))
        await self.queue.put(self.message(1, "b@y.test"))
        await until(lambda: not broken)
        self.assertEqual(await self.states(), [("b@y.test", QUEUED, 0, "")])
        self.clock.advance(5.0)
        await self.queue.when_idle()
        self.assertEqual((len(self.notices.all), self.store.messages), (1, 0))


def _raise(error: Exception) -> NoReturn:
    raise error


class OperatorTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.probed: list[bool] = []
        rules = tuple(
            Rule(name=name, match=RuleMatch(recipients=("*",)), action=Mta(zone=zone))
            for name, zone in (("r", None), ("other", None), ("bulk", "bulk"))
        )
        self.operator = Operator(
            self.store, self.queue, self.clock.seconds, lambda: self.probed.append(True), lambda: rules
        )
        self.queue.start([], self.notices)

    def ask(self, do: str, **fields: Any) -> Deferred[Plain]:
        return self.operator.ask({"do": do, **fields})

    async def test_what_is_held_waits_for_its_release(self) -> None:
        """Held mail is not tried when it is due; released, it is at once. Retry does not release."""
        self.answers = {"b@y.test": [LATER, YES]}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.queue.when_idle()
        self.assertEqual(await self.ask("hold", messages=["1"]), {"changed": 1, "next": None})
        self.clock.advance(150.0)
        self.assertEqual(await self.ask("retry", all=True), {"changed": 0, "next": None})
        (row,) = (await self.ask("list", state="held"))["messages"]
        self.assertEqual((row["why"], row["since"], row["due"]), ("by the operator", 1000.0, None))
        self.assertEqual(len(self.tried), 1)
        self.assertEqual(await self.ask("release", rule="r"), {"changed": 1, "next": None})
        await until(lambda: self.store.messages == 0)

    async def test_a_retry_is_now(self) -> None:
        """Deferred and failed mail is tried at once; of what is under way nothing changes, and it leaves once."""
        self.answers = {"b@y.test": [LATER, YES], "c@y.test": [NO, YES]}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.queue.put(self.message(2, "c@y.test", sender=""))
        await self.queue.put(self.message(3, "hangs@y.test"))
        await until(lambda: entries(self.store, state="failed"))
        self.assertEqual(self.probed, [])
        self.assertEqual(await self.ask("retry", all=True), {"changed": 3, "next": None})
        self.assertEqual(self.probed, [True])
        await until(lambda: self.store.messages == 1)
        self.assertEqual(await self.ask("retry", messages=["3"]), {"changed": 1, "next": None})
        self.hanging["hangs@y.test"].callback([YES])
        await self.queue.when_idle()
        await until(lambda: self.store.messages == 0)
        self.assertEqual(len(self.tried), 5)

    async def test_what_waits_is_of_another_rule(self) -> None:
        """Deferred, and held for want of its rule: tried at once by the other one; what has left is no matter."""
        self.answers = {"b@y.test": [LATER, YES], "c@y.test": [Held("no rule named r"), YES]}
        for number, address in ((1, "b@y.test"), (2, "c@y.test")):
            await self.queue.put(self.message(number, address))
        await self.queue.when_idle()
        for to, problem in ((None, "to: one of the rules r, other, bulk"), ("x", "to: one of the rules")):
            answer = await self.ask("reroute", all=True, to=to)
            self.assertIn(problem, answer["error"])
        self.assertEqual(await self.ask("reroute", all=True, to="other"), {"changed": 2, "next": None})
        await until(lambda: self.store.messages == 0)
        self.assertEqual([one.envelope.recipients[0].rule for one in self.tried], ["r", "r", "other", "other"])

    async def test_what_waits_is_given_up(self) -> None:
        """Nobody tries it again; its sender is told, once for all of its recipients, with the operator's words."""
        self.answers = {"b@y.test": [LATER], "c@y.test": [LATER], "a@x.test": [YES]}
        await self.queue.put(self.message(1, "b@y.test", "c@y.test"))
        await self.queue.when_idle()
        await self.ask("hold", recipient="c@y.test")
        tried = len(self.tried)
        answer = await self.ask("bounce", messages=["1"], reply="550 5.7.1 Not now, not ever")
        self.assertEqual(answer, {"changed": 2, "next": None})
        await until(lambda: self.store.messages == 0)
        self.assertEqual([told[:3] for told in self.notices.all], [("failed", 1, ["b@y.test", "c@y.test"])])
        self.assertEqual([one.envelope.recipients[0].address for one in self.tried[tried:]], ["a@x.test"])
        self.assertEqual({one.reply for one in self.done if one.outcome == "failed"}, {"550 5.7.1 Not now, not ever"})

    async def test_a_change_meets_what_there_was_when_it_began(self) -> None:
        """Page by page, neither what comes meanwhile nor the notifications of what is given up: they go their way."""
        self.patch(operator, "PAGE", 1)
        self.patch(operator, "CHANGED", 1)
        self.answers = {"b@y.test": [LATER] * 4, "a@x.test": [LATER] * 3}
        for number in (1, 2, 3):
            await self.queue.put(self.message(number, "b@y.test"))
        await self.queue.when_idle()
        place, changed, last = None, 0, [3]
        self.operator = Operator(self.store, self.queue, self.clock.seconds, lambda: None, last=lambda: last[0])
        while True:
            answer = await self.ask("bounce", all=True, after=place)
            changed += answer["changed"]
            await self.until_told(changed)
            last[0] = 1 << 40
            place = answer["next"]
            if place is None:
                break
        self.assertEqual(changed, 3)
        await self.queue.when_idle()
        left = await entries(self.store)
        self.assertEqual([(one.sender, one.address, one.reply) for one in left], [("", "a@x.test", LATER.reply)] * 3)

    async def test_what_is_under_way_is_given_up_when_it_is_deferred(self) -> None:
        """And what is delivered meanwhile is delivered; each by the operator's own words, where he has none."""
        for number, address in ((1, "b@y.test"), (2, "c@y.test")):
            await self.queue.put(self.message(number, address, sender="a@mute.test"))
        await self.ask("bounce", all=True)
        self.hanging["b@y.test"].callback([LATER])
        self.hanging["c@y.test"].callback([YES])
        await self.queue.when_idle()
        (left,) = await entries(self.store)
        self.assertEqual((left.address, left.word(0.0), left.reply), ("b@y.test", "failed", GIVEN_UP))

    async def test_only_a_refusal_gives_up(self) -> None:
        """Other replies, and such as could break a line, are told."""
        for reply in ("451 4.0.0 later", "550 no code", "550 5.0.0 a\r\nRCPT TO:<x>", 550, "550 5.0.0 " + "x" * 500):
            answer = await self.ask("bounce", all=True, reply=reply)
            self.assertIn("reply: such as 550 5.7.1", answer["error"])

    async def test_a_zone_is_meant(self) -> None:
        """By the rule's word, else by the recipient's own; `default` is for those that have none."""
        for number, rule, zone in ((1, "bulk", ""), (2, "bulk", "x"), (3, "r", "bulk"), (4, "r", ""), (5, "r", "x")):
            await self.queue.put(self.message(number, "hangs@y.test", rule=rule, asked={"zone": zone}))
        for zone, meant in (("bulk", ["1", "2", "3"]), ("default", ["4"]), ("x", ["5"]), ("none", [])):
            found = (await self.ask("list", zone=zone))["messages"]
            self.assertEqual([one["message"] for one in found], meant, zone)

    async def test_what_is_under_way_can_be_held_or_dropped(self) -> None:
        """Held: when it is deferred. Dropped: it leaves, and a failure is told to nobody; delivered is delivered."""
        for number, name in enumerate(("hold", "drop", "fail", "both"), 1):
            await self.queue.put(self.message(number, f"{name}@y.test"))
        await self.ask("hold", messages=["1", "4"])
        await self.ask("drop", messages=["2", "3"])
        await self.ask("release", messages=["4"])
        self.hanging["hold@y.test"].callback([LATER])
        self.hanging["drop@y.test"].callback([LATER])
        self.hanging["fail@y.test"].callback([NO])
        self.hanging["both@y.test"].callback([LATER])
        await self.queue.when_idle()
        self.assertEqual(
            [(address, state) for address, state, *_ in await self.states()],
            [("hold@y.test", HELD_BY_OPERATOR), ("both@y.test", QUEUED)],
        )
        self.assertEqual(self.notices.all, [])
        self.assertEqual(len(self.queue._wishes), 0)

    async def test_what_is_held_while_its_outcome_is_written_is_held(self) -> None:
        """An attempt that was deferred a moment before the word of the operator changes nothing of it."""
        addresses = [f"b{number}@y.test" for number in range(5)]
        for number, address in enumerate(addresses, 1):
            await self.queue.put(self.message(number, address))
        for address in addresses[:3]:
            self.hanging[address].callback([LATER])
        held = self.queue.hold([(number, 0) for number in range(1, 6)], [QUEUED], HELD_BY_OPERATOR)
        for address in addresses[3:]:
            self.hanging[address].callback([LATER])
        await held
        await self.queue.when_idle()
        self.assertEqual({state for _, state, *_ in await self.states()}, {HELD_BY_OPERATOR})
        self.assertEqual(len(self.queue._wishes), 0)

    async def test_what_is_held_while_a_notification_is_prepared_is_held(self) -> None:
        """A delay is to be told, and the operator speaks while the message is read for it; nothing is told then."""
        path = spool_path(self.store.spool, 1)
        path.write_bytes(TEXT)
        await self.queue.put(self.message(1, "b@y.test", octets=None))
        self.clock.advance(300.0)
        read: Deferred[None] = Deferred()
        head = self.store.head
        self.patch(self.store, "head", lambda *asked: read.addCallback(lambda _: head(*asked)))
        self.hanging["b@y.test"].callback([LATER])
        await self.queue.hold([(1, 0)], [QUEUED], HELD_BY_OPERATOR)
        read.callback(None)
        await self.queue.when_idle()
        self.assertEqual(await self.states(), [("b@y.test", HELD_BY_OPERATOR, 1, LATER.reply)])
        self.assertEqual((self.notices.all, len(self.queue._wishes)), ([], 0))

    async def test_what_is_held_before_an_outcome_is_written_at_last_is_held(self) -> None:
        """The store could not write the outcome, took the word of the operator, and then the outcome."""
        await self.queue.put(self.message(1, "b@y.test"))
        settle, broken = self.store.settle, [True]
        self.patch(
            self.store, "settle", lambda *what: _raise(StoreError("no")) if broken and broken.pop() else settle(*what)
        )
        self.hanging["b@y.test"].callback([LATER])
        await self.queue.hold([(1, 0)], [QUEUED], HELD_BY_OPERATOR)
        self.clock.advance(SETTLE_AGAIN)
        await self.queue.when_idle()
        self.assertEqual([state for _, state, *_ in await self.states()], [HELD_BY_OPERATOR])
        self.assertEqual(len(self.queue._wishes), 0)

    async def test_what_is_held_is_so_in_the_attempt_that_begins_before_it_is_written(self) -> None:
        """An attempt has just ended, the next one begins, and only then the word of the operator is in the store."""
        await self.queue.put(self.message(1, "b@y.test"))
        self.hanging.pop("b@y.test").callback([LATER])
        gate: Deferred[None] = Deferred()
        change = self.store.change

        def slowly(keys: Sequence[Key], states: Sequence[int], state: int, due: float) -> Deferred[None]:
            late = state == HELD_BY_OPERATOR
            return (
                gate.addCallback(lambda _: change(keys, states, state, due))
                if late
                else change(keys, states, state, due)
            )

        self.patch(self.store, "change", slowly)
        held = self.queue.hold([(1, 0)], [QUEUED], HELD_BY_OPERATOR)
        await self.queue.when_idle()
        self.clock.advance(100.0)
        await until(lambda: len(self.tried) == 2)
        gate.callback(None)
        await held
        self.hanging["b@y.test"].callback([LATER])
        await self.queue.when_idle()
        self.assertEqual([state for _, state, *_ in await self.states()], [HELD_BY_OPERATOR])
        self.assertEqual(len(self.queue._wishes), 0)

    async def test_a_retry_takes_no_hold_back(self) -> None:
        """Of what is under way; only a release does."""
        await self.queue.put(self.message(1, "b@y.test"))
        held = self.queue.hold([(1, 0)], [QUEUED], HELD_BY_OPERATOR)
        await self.queue.resume([(1, 0)], [QUEUED, FAILED])
        await held
        self.hanging["b@y.test"].callback([LATER])
        await self.queue.when_idle()
        self.assertEqual([state for _, state, *_ in await self.states()], [HELD_BY_OPERATOR])

    async def test_one_recipient_can_be_dropped(self) -> None:
        """By a filter; the others of its message stay."""
        self.answers = {"b@y.test": [LATER], "c@z.test": [LATER]}
        await self.queue.put(self.message(1, "b@y.test", "c@z.test"))
        await self.queue.when_idle()
        self.assertEqual(await self.ask("drop", recipient="z.test"), {"changed": 1, "next": None})
        self.assertEqual([state[0] for state in await self.states()], ["b@y.test"])

    async def test_a_message_is_shown_with_its_header(self) -> None:
        """Envelope, recipients with their last replies, the header and nothing of the body, the path of its file."""
        path = spool_path(self.store.spool, 31)
        path.write_bytes(b"Subject: x\r\nTo: \xff\r\n\r\nsecret\r\n")
        self.answers = {"b@y.test": [LATER], "c@y.test": [LATER]}
        await self.queue.put(self.message(31, "b@y.test", "c@y.test", octets=None))
        await self.queue.when_idle()
        shown = (await self.ask("show", message="1f"))["message"]
        self.assertEqual(
            (shown["message"], shown["sender"], shown["header"], shown["spool"], shown["more"]),
            ("1f", "a@x.test", "Subject: x\nTo: \ufffd\n", str(path), False),
        )
        self.assertEqual(
            [(one["recipient"], one["state"], one["due"], one["reply"]) for one in shown["recipients"]],
            [("b@y.test", "deferred", 1100.0, LATER.reply), ("c@y.test", "deferred", 1100.0, LATER.reply)],
        )

    async def test_questions_without_sense_are_told(self) -> None:
        """With a status of HTTP; nothing is changed by a word that is not understood."""
        await self.queue.put(self.message(1, "hangs@y.test"))
        for status, words, fields in (
            (400, "cannot", {"do": "explode"}),
            (400, "say that all", {"do": "drop"}),
            (400, "say that all", {"do": "drop", "all": "yes"}),
            (400, "a list", {"do": "drop", "messages": []}),
            (400, "a list", {"do": "drop", "messages": "1"}),
            (400, "state: one of", {"do": "list", "state": "lost"}),
            (400, "rule: text", {"do": "list", "rule": 7}),
            (400, "older: ", {"do": "list", "older": "tomorrow"}),
            (400, "older: ", {"do": "list", "older": -1}),
            (400, "limit: ", {"do": "list", "limit": 0}),
            (400, "after: ", {"do": "list", "after": "1"}),
            (404, "no message 77", {"do": "show", "message": "77"}),
            (404, "no message zz", {"do": "drop", "messages": ["zz"]}),
        ):
            answer = await self.operator.ask(fields)
            self.assertEqual(answer.get("status"), status, fields)
            self.assertIn(words, answer["error"])
        self.assertEqual(self.store.messages, 1)

    async def test_many_are_changed_part_by_part(self) -> None:
        """Each request says where the next one begins; together they meet each recipient once."""
        self.patch(self.queue, "_start_due", lambda page: None)
        addresses = [f"b{number}@y.test" for number in range(6500)]
        await self.queue.put(self.message(1, *addresses))
        place, parts = None, []
        while True:
            answer = await self.ask("hold", all=True, after=place)
            parts.append(answer["changed"])
            place = answer["next"]
            if place is None:
                break
        self.assertEqual(parts, [5000, 1500])
        self.assertEqual((await self.ask("stats"))["stats"]["held"], 6500)


class MemoryOperatorTests(OperatorTests):
    """The same over the store in memory."""

    def make(self) -> Store:
        return MemoryStore(self.directory, reactor)


class WakeTests(QueueCase):
    async def test_a_next_hop_that_is_back_wakes_its_mail(self) -> None:
        """And only its own: what another one deferred waits for its time, and what it has itself asked to wait."""
        self.queue.start([], self.notices)
        other = Later("4.4.1 other:25: Connection refused", "other:25")
        self.answers = {"b@y.test": [DOWN, YES], "c@y.test": [other], "d@y.test": [LATER]}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.queue.put(self.message(2, "c@y.test"))
        await self.queue.put(self.message(3, "d@y.test"))
        await self.queue.when_idle()
        self.queue.wake("unknown:25")
        self.queue.wake("t:25")
        await until(lambda: len(self.tried) == 4)
        await self.queue.when_idle()
        self.assertEqual([one.id for one in self.tried], [1, 2, 3, 1])
        self.assertEqual([state[0] for state in await self.states()], ["c@y.test", "d@y.test"])
        self.assertEqual(self.clock.seconds(), 1000.0)

    async def test_it_is_woken_at_a_pace_and_no_further_when_it_fails_again(self) -> None:
        """PACE at once, as many each second; when many of them are deferred by the same next hop anew, that ends it."""
        self.queue.start([], self.notices)
        addresses = [f"b{number}@y.test" for number in range(3 * PACE)]
        self.answers = {address: [DOWN, YES] for address in addresses}
        await self.queue.put(self.message(1, *addresses))
        await self.queue.when_idle()
        self.queue.wake("t:25")
        await until(lambda: len(self.done) == 4 * PACE)
        await self.queue.when_idle()
        self.answers.update({address: [DOWN] for address in addresses[PACE:]})
        self.clock.advance(1.0)
        await until(lambda: len(self.done) == 5 * PACE)
        await self.queue.when_idle()
        self.clock.advance(3.0)
        states = await self.states()
        self.assertEqual(sorted({attempts for _, _, attempts, _ in states}), [1, 2])
        self.assertEqual(len([1 for _, _, attempts, _ in states if attempts == 2]), PACE)

    async def test_a_few_that_fail_again_do_not_end_it(self) -> None:
        """A session that breaks now and then is no next hop that is down: all others are woken, those few once more at
        most.
        """
        self.queue.start([], self.notices)
        addresses = [f"b{number}@y.test" for number in range(4 * PACE)]
        sick = addresses[PACE : 4 * PACE : PACE // 3]
        self.answers = {address: [DOWN, *([DOWN] * 9 if address in sick else [YES])] for address in addresses}
        await self.queue.put(self.message(1, *addresses))
        await self.queue.when_idle()
        self.queue.wake("t:25")
        for batch in range(1, 5):
            await self.until_done((4 + batch) * PACE)
            await self.queue.when_idle()
            self.clock.advance(1.0 if batch < 4 else 60.0)
        await self.queue.when_idle()
        states = await self.states()
        self.assertEqual(sorted(state[0] for state in states), sorted(sick))
        self.assertLessEqual(len(self.done), 8 * PACE + len(sick))


class RoomTests(QueueCase):
    async def test_a_full_queue_takes_nothing_and_goes_on_sending(self) -> None:
        """`full` says so before; when one has left there is room again."""
        self.queue = self.make_queue(room=Room(lambda: self.store.messages, 1, self.directory, 0, self.clock.seconds))
        self.queue.start([], self.notices)
        self.assertFalse(self.queue.full)
        await self.queue.put(self.message(1, "hangs@y.test"))
        self.assertTrue(self.queue.full)
        await self.assertFailure(self.queue.put(self.message(2)), StoreFull)
        self.hanging["hangs@y.test"].callback([YES])
        await self.queue.when_idle()
        self.assertFalse(self.queue.full)

    def test_the_disk_is_looked_at_once_a_second(self) -> None:
        """And it must have recovered a little before mail is taken again."""
        free = [100.0]
        looks = []

        def statvfs(path: Path) -> object:
            looks.append(path)
            return type("Disk", (), {"f_bavail": free[0], "f_frsize": 1})()

        self.patch(__import__("os"), "statvfs", statvfs)
        room = Room(lambda: 0, 10, self.directory, 100, self.clock.seconds)
        answers = []
        for amount, wait in ((100, 0.0), (99, 0.5), (99, 0.5), (104, 1.0), (105, 0.9), (105, 0.1)):
            self.clock.advance(wait)
            free[0] = amount
            answers.append(room.shortage is not None)
        self.assertEqual(answers, [False, False, True, True, True, False])
        self.assertEqual(len(looks), 4)

    def test_what_is_on_its_way_counts(self) -> None:
        """Granted octets until the disk shows them, and those that come; a look where they do not fit."""
        free, coming = [1000], [0]
        self.patch(__import__("os"), "statvfs", lambda path: type("Disk", (), {"f_bavail": free[0], "f_frsize": 1})())
        room = Room(lambda: 0, 10, self.directory, 100, self.clock.seconds, lambda: coming[0])
        self.assertTrue(room.grant(500))
        coming[0] = 500
        self.assertEqual((room.fits(398), room.fits(399), room.fits(400, whole=True)), (True, False, True))
        self.assertTrue(room.grant(398))
        coming[0], free[0] = 398, 500
        self.assertFalse(room.grant(1))
        self.assertTrue(room.grant(2, whole=True))
        free[0], coming[0] = 500, -300
        self.assertTrue(room.grant(600))
        self.assertTrue(Room(lambda: 0, 10, self.directory, 0, self.clock.seconds).grant(1 << 60))

    def test_a_message_that_does_not_fit_is_told_of(self) -> None:
        """Once in ten minutes, with what is left: clients hear 452 before the disk is as full as `shortage` tells."""
        self.patch(__import__("os"), "statvfs", lambda path: type("Disk", (), {"f_bavail": 101, "f_frsize": 1})())
        room = Room(lambda: 0, 10, self.directory, 100, self.clock.seconds)
        with capturedLogs() as logs:
            for wait in (0.0, 10.0, 590.0):
                self.clock.advance(wait)
                self.assertFalse(room.fits(7))
                self.assertIsNone(room.shortage)
        lines = [formatEvent(line) for line in logs]
        self.assertEqual(len(lines), 2)
        self.assertIn(f"no room for a message of 7 bytes: 1 are left in {self.directory} besides", lines[0])

    async def test_a_message_that_does_not_fit_is_not_put(self) -> None:
        """Though there is room for a smaller one."""
        self.patch(
            __import__("os"), "statvfs", lambda path: type("Disk", (), {"f_bavail": 100 + len(TEXT), "f_frsize": 1})()
        )
        self.queue = self.make_queue(room=Room(lambda: 0, 10, self.directory, 100, self.clock.seconds))
        self.queue.start([], self.notices)
        await self.assertFailure(self.queue.put(evolve(self.message(1), size=len(TEXT) + 1)), StoreFull)
        await self.queue.put(self.message(2))

    async def test_bodies_in_memory_are_bounded(self) -> None:
        """What does not fit is tried without its octets, and is given them when it asks and there is room."""
        self.budget = Budget(len(TEXT) + 1)
        self.queue = self.make_queue()
        self.queue.start([], self.notices)
        await self.queue.put(self.message(1, "one@y.test"))
        await self.queue.put(self.message(2, "two@y.test"))
        self.assertEqual([one.octets for one in self.tried], [TEXT, None])
        waits = self.budget.take((2, 0), len(TEXT))
        self.assertNoResult(waits)
        self.hanging["one@y.test"].callback([YES])
        self.successResultOf(waits)
        self.assertEqual(self.budget.used, len(TEXT))
        self.hanging["two@y.test"].callback([LATER])
        await self.queue.when_idle()
        self.assertEqual(self.budget.used, 0)


class EventTests(QueueCase):
    async def test_each_attempt_of_each_recipient_is_an_event(self) -> None:
        """With the session that brought the message, so that a connection and its deliveries can be joined."""
        self.queue.start([], None)
        self.answers = {"b@y.test": [LATER, YES._replace(tls="TLSv1.3")], "c@y.test": [Held("no rule named r")]}
        await self.queue.put(self.message(31, "b@y.test", "c@y.test"))
        await self.queue.when_idle()
        await self.turn(100.0, 2)
        plain = [event.to_plain() for event in self.done]
        self.assertEqual(
            plain[2],
            {
                "event": "delivery", "message": "1f", "session": "s", "ended": 1100.0, "sender": "a@x.test",
                "recipient": "b@y.test", "rule": "r", "target": "t:25", "tls": "TLSv1.3", "outcome": "delivered",
                "reply": "250 ok", "attempts": 2, "seconds": 100.0, "size": len(TEXT),
            },
        )  # fmt: skip
        self.assertEqual([(one["outcome"], one["attempts"]) for one in plain[:2]], [("deferred", 1), ("held", 0)])
        self.assertNotIn("tls", plain[0])
        self.assertEqual((await self.states())[0][1], HELD)

    async def test_a_held_rule_that_is_back_releases_its_mail_at_the_start(self) -> None:
        """And what the operator holds stays held."""
        self.queue.start([], None)
        self.answers = {"b@y.test": [Held("no rule named r"), YES], "c@y.test": [LATER]}
        await self.queue.put(self.message(1, "b@y.test"))
        await self.queue.put(self.message(2, "c@y.test"))
        await self.queue.when_idle()
        await self.queue.hold([(2, 0)], [QUEUED], HELD_BY_OPERATOR)
        self.queue.stop()
        self.queue = self.make_queue()
        self.queue.start(["r"], None)
        await until(lambda: self.store.messages == 1)
        self.assertEqual([state[:2] for state in await self.states()], [("c@y.test", HELD_BY_OPERATOR)])
