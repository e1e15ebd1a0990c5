"""What every store keeps to: the same tests for the one on disk and the one in memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from dcrouter.errors import StoreError
from dcrouter.mail.envelope import PLAIN, Recipient, Terms
from dcrouter.mail.message import spool_path
from dcrouter.mail.queue.store import (
    FAILED,
    FIRST,
    HELD,
    HELD_BY_OPERATOR,
    QUEUED,
    START,
    Change,
    Key,
    Selection,
    Store,
)
from dcrouter.mail.queue.stores.memory import MemoryStore
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from tests.mail.queue.made import TEXT, entries, message
from tests.support.facts import until


class SqliteContractTests(TestCase):
    def make(self, directory: Path) -> Store:
        return SqliteStore(directory, reactor)

    def open(self) -> Store:
        self.directory = Path(self.mktemp()).absolute()
        store = self.make(self.directory)
        store.open()
        self.addCleanup(store.close)
        return store

    async def test_what_is_put_is_there(self) -> None:
        """Messages, recipients, octets and their beginning; how many there are."""
        store = self.open()
        await gatherResults([store.put(message(number, "b@y.test", "c@y.test"), 1000.0) for number in range(1, 100)])
        self.assertEqual(store.messages, 99)
        found = await entries(store)
        self.assertEqual([entry.key for entry in found], [(m, n) for m in range(1, 100) for n in (0, 1)])
        self.assertEqual(await store.octets(message(7)), TEXT)
        self.assertEqual(await store.head(message(7), 7), b"Subject")
        await self.assertFailure(store.octets(message(1000)), StoreError)
        await self.assertFailure(store.head(message(1000, octets=None), 7), StoreError)

    async def test_due_recipients_come_in_pages_and_in_order(self) -> None:
        """Behind a cursor, only those that are due, each once, as they were put."""
        store = self.open()
        for number in range(1, 31):
            await store.put(message(number, "b@y.test", "c@y.test", may_relay=False), 1000.123 + number // 4)
        seen = []
        cursor = START
        while page := await store.due(cursor, 1006.5, 7):
            seen += page
            cursor = page[-1].at
        keys = [(due.at.message, due.at.number) for due in seen]
        self.assertEqual(keys, [(number, n) for number in range(1, 28) for n in (0, 1)])
        self.assertEqual(
            (seen[1].message.envelope.recipients[0].address, seen[1].message.envelope.may_relay), ("c@y.test", False)
        )
        self.assertEqual(await store.next_due(1006.5), 1007.123)
        self.assertEqual(await store.next_due(2000.0), None)

    async def test_recipients_change_their_rule(self) -> None:
        """Those that are named, whatever their state, and over a reading of what is due; others stay."""
        store = self.open()
        for number in (1, 2):
            await store.put(message(number, "b@y.test", "c@y.test"), 1000.0)
        await store.change([(2, 1)], [QUEUED], HELD, 1000.0)
        await store.reroute([(1, 0), (2, 1), (9, 0)], "other")
        found = await entries(store)
        self.assertEqual([entry.key for entry in found if entry.rule == "other"], [(1, 0), (2, 1)])
        due = await store.due(START, 2000.0, 10)
        self.assertEqual([one.message.envelope.recipients[0].rule for one in due], ["other", "r", "r"])

    async def test_how_old_the_mail_of_domains_is(self) -> None:
        """The domains with most first; each recipient in one column, the last for all that is older."""
        store = self.open()
        now = 1_000_000.0
        for number, minutes in enumerate((0, 5, 6, 1280, 1281), 1):
            await store.put(message(number, "b@Y.test", "c@z.test", received=now - 60 * minutes), now)
        await store.put(message(9, "d@z.test", received=now), now)
        counts = [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]
        found = await store.ages(now, 10)
        total = [sum(pair) for pair in zip([3, *counts[1:]], counts, strict=True)]
        self.assertEqual(found, ([("z.test", [3, *counts[1:]]), ("y.test", counts)], total))
        domains, of_all = await store.ages(now, 1)
        self.assertEqual(([domain for domain, _ in domains], of_all), (["z.test"], total))
        self.assertEqual(await self.open().ages(now, 1), ([], [0] * len(counts)))

    async def test_who_brought_a_message_is_kept(self) -> None:
        """Whether they might relay, and whether SPF or DKIM stands for their sender."""
        store = self.open()
        kinds = [(True, False), (False, False), (False, True)]
        for number, (may_relay, vouched) in enumerate(kinds, 1):
            await store.put(message(number, may_relay=may_relay, vouched=vouched), 1000.0)
        found = await store.due(START, 2000.0, 10)
        envelopes = [due.message.envelope for due in found]
        self.assertEqual([(one.may_relay, one.vouched) for one in envelopes], kinds)

    async def test_what_a_client_asked_for_is_kept(self) -> None:
        """Of the message and of each recipient, its zone too; what nobody asked for is PLAIN."""
        store = self.open()
        terms = Terms(
            smtputf8=True, requiretls=True, tls_optional=True, ret="full", envid='a "b"', priority=-3, release=77.5
        )
        asked = {"zone": "bulk", "notify": "SUCCESS,DELAY", "orcpt": "utf-8;\u00fc x@y.test"}
        await store.put(message(1), 1000.0)
        await store.put(message(2, "b@y.test", "c@y.test", terms=terms, asked=asked, binary=True), 1000.0)
        await store.put(message(3, asked={"orcpt": "rfc822;x@y.test"}, eightbit=True), 1000.0)
        plain, third, second, other = [due.message for due in await store.due(START, 2000.0, 10)]
        self.assertEqual((plain.envelope.terms, plain.binary), (PLAIN, False))
        self.assertEqual((second.envelope.terms, second.binary), (terms, True))
        self.assertEqual((third.eightbit, third.binary), (True, False))
        one = second.envelope.recipients[0]
        self.assertEqual({name: getattr(one, name) for name in asked}, asked)
        self.assertEqual(other.envelope.recipients, (evolve(one, number=1, address="c@y.test"),))
        self.assertEqual(third.envelope.recipients[0].orcpt, "rfc822;x@y.test")
        shown = await entries(store)
        self.assertEqual([one.priority for one in shown], [0, -3, -3, 0])
        self.assertEqual({name: getattr(shown[1], name) for name in asked}, asked)
        self.assertEqual((shown[0].zone, shown[0].notify, shown[3].orcpt), ("", "", "rfc822;x@y.test"))
        self.assertEqual(plain.envelope.recipients, (Recipient(number=0, address="b0@y.test", rule="r"),))

    async def test_the_source_of_an_attempt_is_kept_for_the_next(self) -> None:
        """With the rest of what became of it."""
        store = self.open()
        one = message(1)
        await store.put(one, 1000.0)
        await store.settle(one, [], [Change(0, QUEUED, 1, 1000.0, 0, "451", "192.0.2.1")])
        (due,) = await store.due(START, 2000.0, 10)
        self.assertEqual(due.message.envelope.recipients[0].source, "192.0.2.1")
        self.assertEqual([one.source for one in await entries(store)], ["192.0.2.1"])

    async def test_the_highest_priority_comes_first(self) -> None:
        """Then by time; in pages of any size, each once, and whatever is not due is not among them (RFC 6710 4.1)."""
        store = self.open()
        priorities = [0, 9, -9, 0, 4, -1, 9, 4]
        for number, priority in enumerate(priorities, 1):
            await store.put(message(number, terms=Terms(priority=priority)), 1000.0 - number)
        await store.put(message(9, terms=Terms(priority=5)), 3000.0)
        expected = [7, 2, 8, 5, 4, 1, 6, 3]
        for size in (1, 2, 3, 5, 8, 9):
            seen = []
            cursor = START
            while page := await store.due(cursor, 2000.0, size):
                self.assertLessEqual(len(page), size)
                seen += [due.at.message for due in page]
                cursor = page[-1].at
            self.assertEqual(seen, expected)
        self.assertEqual(await store.next_due(2000.0), 3000.0)
        await store.settle(message(7), [], [Change(0, FAILED, 1, 50.0, 0, "550")])
        await store.settle(message(3), [], [Change(0, FAILED, 1, 40.0, 0, "550")])
        self.assertEqual(await store.first_failed(), 40.0)
        self.assertEqual([entry.message for entry in await store.failed(60.0, 10)], [3, 7])
        self.assertEqual([due.at.message for due in await store.due(START, 2000.0, 2)], [2, 8])
        counts = await store.counts(2000.0)
        self.assertEqual((counts["queued"], counts["deferred"], counts["failed"]), (6, 1, 2))

    async def test_a_message_leaves_with_its_last_recipient(self) -> None:
        """Those that have it go one by one; the message goes at last, and its spool file."""
        store = self.open()
        path = spool_path(store.spool, 5)
        path.write_bytes(TEXT)
        big = message(5, "b@y.test", "c@y.test", "d@y.test", octets=None)
        await store.put(big, 1000.0)
        self.assertEqual(await store.head(big, 7), b"Subject")
        await store.settle(
            big, [0], [Change(1, QUEUED, 1, 2000.0, 1, "451 later"), Change(2, FAILED, 2, 900.0, 0, "550 no")]
        )
        found = await entries(store)
        self.assertEqual(
            [(entry.state, entry.attempts, entry.due, entry.reply, entry.spooled) for entry in found],
            [(QUEUED, 1, 2000.0, "451 later", True), (FAILED, 2, 900.0, "550 no", True)],
        )
        (due,) = await store.due(START, 3000.0, 10)
        self.assertTrue(due.message.envelope.recipients[0].told)
        await store.settle(big, [1], [])
        self.assertTrue(path.exists())
        self.assertEqual(store.messages, 1)
        await store.remove([(5, 2)])
        self.assertEqual(store.messages, 0)
        await until(lambda: not path.exists())
        self.assertEqual(await entries(store), [])

    async def test_a_finished_message_leaves_whole(self) -> None:
        """With all its recipients; finishing what has gone is no error."""
        store = self.open()
        await store.put(message(1, "b@y.test", "c@y.test"), 1.0)
        await store.finish(message(1))
        await store.finish(message(1))
        self.assertEqual((store.messages, await entries(store)), (0, []))

    async def test_a_notification_comes_with_what_it_tells_of(self) -> None:
        """The failed recipient leaves and the notification is due, in one step; it says that it is one."""
        store = self.open()
        failed = message(1, "b@y.test", "c@y.test")
        await store.put(failed, 1.0)
        told = message(2, "a@x.test", sender="", notice="postmaster")
        await store.settle(failed, [0], [], [told, message(3, sender="", notice="sender")], 7.0)
        self.assertEqual([entry.key for entry in await entries(store)], [(1, 1), (2, 0), (3, 0)])
        self.assertEqual(store.messages, 3)
        due = await store.due(START, 8.0, 10)
        self.assertEqual([one.message.notice for one in due], [None, "postmaster", "sender"])
        self.assertEqual([one.at.due for one in due], [1.0, 7.0, 7.0])
        self.assertEqual(await store.octets(told), TEXT)

    async def test_what_is_held_for_a_rule_is_released_by_its_name(self) -> None:
        """And nothing else is."""
        store = self.open()
        for number, rule in ((1, "back"), (2, "gone"), (3, "back")):
            one = message(number, rule=rule)
            await store.put(one, 1.0)
            state = HELD if number < 3 else HELD_BY_OPERATOR
            await store.settle(one, [], [Change(0, state, 0, 5.0, 0, "")])
        await store.release(["back", "other"], 9.0)
        states = [(entry.state, entry.due) for entry in await entries(store)]
        self.assertEqual(states, [(QUEUED, 9.0), (HELD, 5.0), (HELD_BY_OPERATOR, 5.0)])

    async def test_a_clock_that_was_set_takes_along_what_waits(self) -> None:
        """All times but the one that a sender has named, until that has come; one that was taken up already follows."""
        store = self.open()
        named = Terms(release=5000.0)
        for number, terms, due in ((1, PLAIN, 1000.0), (2, named, 5000.0), (3, named, 5060.0), (4, PLAIN, 1000.0)):
            one = message(number)
            one = evolve(one, envelope=evolve(one.envelope, terms=terms))
            await store.put(one, due)
        await store.settle(message(4), [], [Change(0, FAILED, 1, 1100.0, 0, "550 no")])
        before = {entry.key: entry.received for entry in await entries(store)}
        await store.shift(-400.0)
        found = await entries(store)
        self.assertEqual([entry.due for entry in found], [600.0, 5000.0, 4660.0, 700.0])
        self.assertEqual([before[entry.key] - entry.received for entry in found], [400.0] * 4)

    async def test_who_waits_with_a_reply_is_found_and_due_by_it(self) -> None:
        """Two at once and two in each second, who would come first coming first; nobody later than before, and nobody
        else. A reply is no pattern.
        """
        store = self.open()
        said = ("4.3.2 a is paused: x", "4.3.2 a is paused", "4.3.2 ab is paused", "4.3.2 a is paused", "4.3.2 % _ *")
        for number in range(1, 9):
            one = message(number)
            await store.put(one, 1.0)
            reply = said[number - 1] if number < 6 else "4.3.2 a is paused"
            state = HELD if number == 6 else QUEUED
            due = {7: 10.5, 8: 9.0}.get(number, 100.0 - number)
            await store.settle(one, [], [Change(0, state, 1, due, 0, reply)])
        self.assertEqual(sorted(await store.replies(("4.3.2 ",), 10.0, 9)), sorted(set(said)))
        self.assertEqual(await store.replies(("4.3.2 %", "x"), 10.0, 9), ["4.3.2 % _ *"])
        self.assertEqual(len(await store.replies(("4",), 10.0, 2)), 2)
        self.assertEqual(await store.replies((), 10.0, 2), [])
        await store.advance("4.3.2 a is paused", 10.0, 2)
        dues = [entry.due for entry in await entries(store)]
        self.assertEqual(dues, [11.0, 11.0, 97.0, 10.0, 95.0, 94.0, 10.0, 9.0])

    async def test_failed_mail_is_found_by_its_age(self) -> None:
        """Those that failed first come first."""
        store = self.open()
        self.assertEqual(await store.first_failed(), None)
        for number, since in ((1, 30.0), (2, 10.0), (3, 20.0)):
            one = message(number)
            await store.put(one, 1.0)
            await store.settle(one, [], [Change(0, FAILED, 1, since, 0, "550 no")])
        self.assertEqual(await store.first_failed(), 10.0)
        self.assertEqual([entry.message for entry in await store.failed(30.0, 10)], [2, 3])
        self.assertEqual([entry.message for entry in await store.failed(99.0, 1)], [2])

    async def test_a_change_meets_only_the_states_it_names(self) -> None:
        """And where it advances, only what is due later."""
        store = self.open()
        for number, state, due in ((1, QUEUED, 100.0), (2, FAILED, 50.0), (3, QUEUED, 20.0)):
            one = message(number)
            await store.put(one, 1.0)
            await store.settle(one, [], [Change(0, state, 1, due, 0, "no")])
        keys = [(1, 0), (2, 0), (3, 0), (4, 0)]
        await store.change(keys, [QUEUED], QUEUED, 40.0, advance=True)
        states = [(entry.state, entry.due) for entry in await entries(store)]
        self.assertEqual(states, [(QUEUED, 40.0), (FAILED, 50.0), (QUEUED, 20.0)])
        await store.change(keys, [FAILED], HELD_BY_OPERATOR, 60.0)
        states = [(entry.state, entry.due) for entry in await entries(store)]
        self.assertEqual(states, [(QUEUED, 40.0), (HELD_BY_OPERATOR, 60.0), (QUEUED, 20.0)])
        self.assertEqual([due.at.message for due in await store.due(START, 50.0, 10)], [3, 1])

    async def test_filters_mean_what_they_say(self) -> None:
        """By message, rule, state, sender, recipient and age; whole addresses, domains and patterns, in any case."""
        store = self.open()
        await store.put(message(1, "b@y.test", "C@Sub.Y.test", rule="one", received=10.0), 1000.0)
        await store.put(message(2, "d[1]@z.test", sender="", rule="two", received=20.0), 3000.0)
        later = message(3, "e@z.test", sender="Other@X.test", rule="one", received=30.0)
        await store.put(later, 1000.0)
        await store.settle(later, [], [Change(0, HELD, 0, 5.0, 0, "")])

        async def expect(*keys: Key, **selection: Any) -> None:
            found = await entries(store, 2000.0, **selection)
            self.assertEqual([entry.key for entry in found], list(keys), selection)

        await expect((1, 0), (1, 1), messages=(1, 77))
        await expect((2, 0), rule="two")
        await expect((1, 0), (1, 1), state="queued")
        await expect((2, 0), state="deferred")
        await expect((3, 0), state="held")
        await expect(state="failed")
        await expect((1, 0), (1, 1), sender="A@x.TEST")
        await expect((1, 0), (1, 1), (3, 0), sender="x.test")
        await expect((2, 0), sender="")
        await expect((1, 0), recipient="y.test")
        await expect((1, 1), recipient="*@*.y.test")
        await expect((2, 0), recipient="d[1]@z.test")
        await expect((1, 0), (1, 1), before=20.0)
        await expect((3, 0), rule="one", recipient="z.test", before=31.0)

    async def test_pages_of_a_selection_go_on_where_they_ended(self) -> None:
        """Each recipient once, in order, however large the pages are."""
        store = self.open()
        for number in range(1, 8):
            await store.put(message(number, "b@y.test", "c@z.test", "d@y.test"), 1.0)
        for limit in (1, 2, 5, 100):
            seen: list[Key] = []
            place: Key | None = FIRST
            while place is not None:
                page = await store.pick(Selection(recipient="y.test"), place, limit, 2.0)
                self.assertLessEqual(len(page.entries), limit)
                seen += [entry.key for entry in page.entries]
                place = page.next
            self.assertEqual(seen, [(m, n) for m in range(1, 8) for n in (0, 2)])

    async def test_what_is_asked_in_one_breath_happens_in_its_order(self) -> None:
        """Whoever speaks last of a recipient is right: the outcome of an attempt, the operator, a rule that is back."""
        store = self.open()
        tried = message(1, "b@y.test")
        await store.put(tried, 1000.0)
        key, later = [(1, 0)], Change(0, QUEUED, 1, 3000.0, 0, "451")
        gone = Change(0, HELD, 1, 3000.0, 0, "")
        for asked, state, due in (
            ((partial(store.settle, tried, [], [later]), partial(store.change, key, [QUEUED], HELD_BY_OPERATOR, 5.0)),
             HELD_BY_OPERATOR, 5.0),
            ((partial(store.change, key, [HELD_BY_OPERATOR], QUEUED, 6.0), partial(store.settle, tried, [], [later])),
             QUEUED, 3000.0),
            ((partial(store.settle, tried, [], [gone]), partial(store.release, ["r"], 7.0)), QUEUED, 7.0),
            ((partial(store.release, ["r"], 8.0), partial(store.settle, tried, [], [gone])), HELD, 3000.0),
        ):  # fmt: skip
            await gatherResults([ask() for ask in asked])
            (entry,) = await entries(store)
            self.assertEqual((entry.state, entry.due), (state, due))

    async def test_the_whole_is_counted(self) -> None:
        """Recipients by state, rule and domain; messages, their octets, the largest and the oldest."""
        store = self.open()
        self.assertEqual((await store.counts(1.0))["oldest"], None)
        await store.put(message(1, "b@y.test", '"x@y"@Z.test', received=10.0), 1000.0)
        big = message(2, "c@y.test", octets=b"x" * 50, rule="other", received=20.0)
        await store.put(big, 3000.0)
        await store.settle(big, [], [Change(0, FAILED, 1, 2000.0, 0, "")])
        await store.put(message(3, "d@z.test", "e@y.test", received=30.0), 3000.0)
        stats = await store.stats(2000.0, 1)
        self.assertEqual(
            stats,
            {
                "queued": 2, "deferred": 2, "held": 0, "failed": 1, "oldest": 10.0, "messages": 3,
                "octets": 50 + 2 * len(TEXT), "largest": 50,
                "rules": {
                    "other": {"queued": 0, "deferred": 0, "held": 0, "failed": 1},
                    "r": {"queued": 2, "deferred": 2, "held": 0, "failed": 0},
                },
                "domains": {"y.test": 3},
            },
        )  # fmt: skip

    async def test_orphans_are_swept_in_the_background_and_others_stay(self) -> None:
        """Files that an earlier run left and no message names; not what comes in meanwhile, nor what is no message."""
        store = self.open()
        store.close()
        for name in ("1.eml", "fff.eml", "README"):
            (store.spool / name).write_bytes(b"x")
        store = self.make(self.directory)
        self.addCleanup(store.close)
        self.assertGreaterEqual(store.open(), 0xFFF)
        spool_path(store.spool, 0x1000).write_bytes(b"arriving")
        self.assertEqual(await store.sweep(), 2)
        self.assertEqual(await store.sweep(), 0)
        self.assertEqual(sorted(path.name for path in store.spool.iterdir()), ["1000.eml", "README"])

    async def test_a_closed_store_says_so(self) -> None:
        """Nothing is lost silently."""
        store = self.open()
        store.close()
        self.assertRaises(StoreError, store.put, message(1), 1.0)
        self.assertRaises(StoreError, store.finish, message(1))
        await self.assertFailure(store.pick(Selection(), FIRST, 1, 1.0), StoreError)
        await self.assertFailure(store.due(START, 1.0, 1), StoreError)


class MemoryContractTests(SqliteContractTests):
    def make(self, directory: Path) -> Store:
        return MemoryStore(directory, reactor)
