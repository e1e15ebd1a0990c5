"""Messages as they arrive: how much of them is in memory, what their header earns, what stays of those cut off."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import Refused
from dcrouter.mail.message import IN_MEMORY
from dcrouter.mail.queue.room import Room
from dcrouter.mail.server.intake import MAX_BACKLOG, MAX_HOPS, PIECE, Intake
from dcrouter.mail.server.spool import HEADER, Spool

TRACE = b"Received: from c\r\n\tby mx; now\r\n"
CHUNK = b"x" * 65534 + b"\r\n"


class IntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.held: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []
        self.spool = Spool(self.directory, self.later, limit=4 * MAX_BACKLOG)
        self.rooms = 0

    def later(self, call: Any, *args: Any) -> Deferred[Any]:
        """A disk that does nothing until `work`."""
        done: Deferred[Any] = Deferred()
        self.held.append((done, call, args))
        return done

    def work(self, most: int = 1000) -> None:
        while self.held and most:
            most -= 1
            done, call, args = self.held.pop(0)
            done.callback(call(*args))

    def room(self) -> None:
        self.rooms += 1

    def intake(self, number: int = 1, complete: Any = None) -> Intake:
        return Intake(self.spool, number, TRACE, self.room, complete)

    def whole(self, intake: Intake) -> None:
        """It is at its end; what is a file is durable, unless it is refused."""
        ended = intake.end()
        self.work()
        self.assertEqual(ended is not None, intake.spooled and intake.refusal is None)
        if ended is not None:
            self.successResultOf(ended)

    def test_a_small_message_stays_in_memory(self) -> None:
        """In any pieces, with its trace; nothing is written."""
        intake = self.intake()
        for piece in (b"Subject: x\r\n", b"\r\n", b"t\xc3\xa4xt\r\n"):
            intake.add(piece)
        self.assertIsNone(intake.end())
        self.assertEqual(intake.octets, TRACE + b"Subject: x\r\n\r\nt\xc3\xa4xt\r\n")
        self.assertEqual((intake.size, intake.eightbit, intake.spooled), (len(intake.octets or b""), True, False))
        self.assertEqual((self.held, self.spool.unwritten), ([], 0))

    def test_many_messages_at_once_become_files_sooner(self) -> None:
        """What is held in memory is counted until a message is a file, ends, or is abandoned."""
        self.spool = Spool(self.directory, self.later, memory=5 * HEADER + 100)
        first = [self.intake(number) for number in range(5)]
        for intake in first:
            intake.add(b"Subject: x\r\n\r\n" + b"x" * HEADER)
        self.assertEqual([intake.spooled for intake in first], [False] * 5)
        late = self.intake(5)
        late.add(b"Subject: x\r\n\r\n" + b"x" * HEADER)
        self.assertTrue(late.spooled)
        self.assertIsNone(first[0].end())
        first[1].abandon()
        first[2].add(b"x" * (IN_MEMORY - HEADER - 1000))
        self.assertFalse(first[2].spooled)
        first[2].add(b"x" * 1000)
        self.assertTrue(first[2].spooled)
        for intake in first[2:]:
            intake.abandon()
        late.abandon()
        self.assertEqual(self.spool.held, 0)

    def test_a_large_message_is_a_file(self) -> None:
        """Every octet in order, trace first; the end is told when it is durable."""
        intake = self.intake()
        content = b"Subject: x\r\n\r\n" + CHUNK * 5
        for at in range(0, len(content), 10_000):
            intake.add(content[at : at + 10_000])
            self.work(1)
        ended = intake.end()
        assert ended is not None
        self.assertNoResult(ended)
        self.work()
        self.successResultOf(ended)
        self.assertEqual((self.directory / "1.eml").read_bytes(), TRACE + content)
        self.assertEqual((intake.size, intake.octets, self.spool.unwritten), (len(TRACE + content), None, 0))

    def test_fifty_megabytes_never_take_more_than_the_backlog(self) -> None:
        """A client that is read only while there is no backlog, on a disk that is slower than it."""
        intake = self.intake()
        intake.add(b"Subject: x\r\n\r\n")
        most = 0
        for _ in range(800):
            while intake.backlogged:
                before = self.rooms
                self.work(1)
                self.assertEqual(self.rooms > before, not intake.backlogged)
            intake.add(CHUNK)
            most = max(most, self.spool.unwritten)
        self.assertGreater(most, MAX_BACKLOG)
        self.assertLessEqual(most, MAX_BACKLOG + len(CHUNK))
        intake.end()
        self.work()
        self.assertGreater((self.directory / "1.eml").stat().st_size, 50 * 1024 * 1024)

    def test_all_messages_together_have_a_budget(self) -> None:
        """Beyond it each client waits until what it sent is written: none is refused, and all end."""
        limit = 4 * MAX_BACKLOG
        intakes = [self.intake(number) for number in range(100)]
        for intake in intakes:
            intake.add(b"Subject: x\r\n\r\n" + CHUNK)
        most = 0
        for _ in range(40):
            for intake in intakes:
                if not intake.backlogged:
                    intake.add(CHUNK)
                most = max(most, self.spool.unwritten)
            self.work(10)
        # Each may add the chunk that it was reading when the budget was reached.
        self.assertLessEqual(most, limit + len(intakes) * 3 * len(CHUNK))
        ended = [intake.end() for intake in intakes]
        self.work()
        for one in ended:
            assert one is not None
            self.successResultOf(one)
        self.assertEqual(self.spool.unwritten, 0)

    def test_a_full_budget_wakes_each_by_its_own_writes(self) -> None:
        """Nobody is left asleep when others have emptied the budget meanwhile."""
        one, two = self.intake(1), self.intake(2)
        for intake in (one, two):
            for _ in range(40):
                intake.add(CHUNK)
        self.assertTrue(one.backlogged and two.backlogged)
        self.work()
        self.assertFalse(one.backlogged or two.backlogged)
        self.assertGreaterEqual(self.rooms, 2)

    def test_nothing_stays_of_what_is_abandoned(self) -> None:
        """Neither a file nor a share of the budget, at whatever moment."""
        for written in range(5):
            intake = self.intake()
            for _ in range(3):
                intake.add(CHUNK)
            self.work(written)
            intake.abandon()
            self.work()
            self.assertEqual((list(self.directory.iterdir()), self.spool.unwritten), ([], 0))

    def test_bodies_leave_the_space_that_is_to_stay_free(self) -> None:
        """Eight at once, of which three fit: the others are refused at their end, and their files are gone."""
        least = free = 10_000_000 + 4 * 45 * len(CHUNK)
        room, looks = 10_000_000, 0

        def disk(path: Any) -> Any:
            nonlocal looks
            looks += 1
            left = free - sum(path.stat().st_size for path in self.directory.iterdir())
            return type("Disk", (), {"f_bavail": left, "f_frsize": 1})()

        self.patch(os, "statvfs", disk)
        bound = Room(lambda: 0, 100, self.directory, room, lambda: 0.0, lambda: self.spool.coming)
        self.spool = Spool(self.directory, self.later, bound)
        intakes = [self.intake(number) for number in range(8)]
        for step in range(46):
            for intake in intakes:
                intake.add(b"Subject: x\r\n\r\n" if not step else CHUNK)
                self.work(step % 3)
                least = min(least, disk(self.directory).f_bavail)
        self.assertTrue(all(not intake.backlogged for intake in intakes if intake.refusal is not None))
        ended = [intake.end() for intake in intakes]
        self.work()
        for end in ended:
            if end is not None:  # else it was refused
                self.successResultOf(end)
        self.assertGreaterEqual(min(least, disk(self.directory).f_bavail), room)
        self.assertEqual({intake.refusal for intake in intakes}, {None, b"452 4.3.1 Insufficient system storage\r\n"})
        taken = [intake for intake in intakes if intake.refusal is None]
        self.assertEqual(len(taken), 3)
        self.assertEqual([path.stat().st_size for path in self.directory.iterdir()], [taken[0].size] * 3)
        self.assertEqual((self.spool.unwritten, self.spool.leaving, self.spool.held), (0, 0, 0))

    def test_what_is_announced_counts_until_it_is_here(self) -> None:
        """For the next who says a size: of messages that have begun, however they end."""
        free = 1000
        self.patch(os, "statvfs", lambda path: type("Disk", (), {"f_bavail": free, "f_frsize": 1})())
        bound = Room(lambda: 0, 100, self.directory, 100, lambda: 0.0, lambda: self.spool.coming)
        self.spool = Spool(self.directory, self.later, bound)
        self.assertEqual(
            (self.spool.has_room(898), self.spool.has_room(899), self.spool.has_room(0)), (True, False, True)
        )
        ends: tuple[Callable[[Intake], object], ...] = (
            Intake.end,
            Intake.abandon,
            lambda intake: intake.add(b"A: b\r\n\r\n" + b"x" * 600),
        )
        for end in ends:
            intake = Intake(self.spool, 1, TRACE, self.room, announced=600)
            self.assertEqual((self.spool.has_room(298), self.spool.has_room(299)), (True, False))
            intake.add(b"A: b\r\n")
            self.assertEqual(self.spool.announced, 594)
            end(intake)
            self.assertEqual(self.spool.announced, 0)

    def test_mail_that_goes_in_circles_is_refused(self) -> None:
        """By Received fields in its header, whether it is small or not; those in the text do not count."""
        for size in (0, 2 * PIECE):
            for count, refused in ((MAX_HOPS - 1, True), (MAX_HOPS - 2, False)):
                intake = self.intake()
                intake.add(b"Received: x\r\n" * count + b"\r\n" + b"Received: y\r\n" * 90 + b"x" * size + b"\r\n")
                self.assertEqual(len(self.held), int(bool(size) and not refused))
                self.whole(intake)
                self.assertEqual(intake.refusal, b"554 5.4.6 Too many hops\r\n" if refused else None)

    def test_a_message_cannot_continue_our_fields(self) -> None:
        """A first line that begins with a blank would be folded into Received (RFC 5322 2.2.3)."""
        cases = ((b" x: y\r\n", True), (b"\t\r\n", True), (b"\r\n x\r\n", False), (b"A: b\r\n c\r\n", False))
        for number, ((text, refused), size) in enumerate(product(cases, (0, 2 * PIECE)), 1):
            intake = self.intake(number)
            for piece in (text[:1], text[1:], b"\r\n" + b"x" * size + b"\r\n"):
                intake.add(piece)
            self.whole(intake)
            said = b"554 5.6.0 The message begins with a continuation line\r\n"
            self.assertEqual(intake.refusal, said if refused else None)

    def test_fields_are_added_before_the_header(self) -> None:
        """In memory and in a file; the message's own octets are as they were, and the size is right."""
        for text in (b"text\r\n", CHUNK * 2):
            heads: list[bytes] = []

            def complete(head: bytes, heads: list[bytes] = heads) -> bytes:
                heads.append(head)
                return b"Date: now\r\n"

            intake = self.intake(complete=complete)
            for piece in (b"A: b\r\nC:", b" d\r\n\r\n", text):
                intake.add(piece)
            self.whole(intake)
            octets = intake.octets or (self.directory / "1.eml").read_bytes()
            self.assertEqual(heads, [b"A: b\r\nC: d\r\n"])
            self.assertEqual(octets, TRACE + b"Date: now\r\nA: b\r\nC: d\r\n\r\n" + text)
            self.assertEqual(intake.size, len(octets))

    def test_a_refusal_by_the_header_keeps_nothing(self) -> None:
        """The rest is read and not written."""

        def complete(head: bytes) -> bytes:
            raise Refused("no", b"550 5.7.1 No\r\n")

        for text in (b"text\r\n", CHUNK * 20):
            intake = self.intake(complete=complete)
            intake.add(b"A: b\r\n\r\n" + text)
            intake.add(text)
            self.assertIsNone(intake.end())
            self.assertEqual((intake.refusal, self.held, self.spool.unwritten), (b"550 5.7.1 No\r\n", [], 0))
            self.assertEqual(intake._pieces, [])

    def test_a_header_beyond_64_kb_is_refused_where_it_is_read(self) -> None:
        """554 5.6.0 on submission; mail of servers is not judged."""
        for complete, refusal in ((lambda head: b"", b"554 5.6.0"), (None, b"")):
            intake = self.intake(complete=complete)
            intake.add(b"A: " + CHUNK)
            intake.add(b"B: c\r\n\r\ntext\r\n")
            self.whole(intake)
            self.assertEqual((intake.refusal or b"")[:9], refusal)
