"""bench.reliability: its plan can be taken up again, and its ledger says what is lost and what may come twice."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from bench.reliability.ledger import Ledger, Parcel
from bench.reliability.plan import POINTS, Figures, Progress, outstanding, table


class PlanTests(SynchronousTestCase):
    def test_half_of_the_kills_are_of_the_whole_service(self) -> None:
        """At each point, in an order in which no three of the mail process come behind each other."""
        kills = outstanding(list(POINTS), 10, Progress(seed=1))
        for point in POINTS:
            scopes = [kill.scope for kill in kills if kill.point == point]
            self.assertEqual((scopes.count("service"), scopes.count("mail")), (5, 5))
        self.assertNotIn("mailmailmail", "".join(kill.scope for kill in kills))
        self.assertNotEqual([kill.point for kill in kills], sorted(kill.point for kill in kills))

    def test_only_a_kill_of_the_whole_service_takes_the_power(self) -> None:
        """And of those, two of three do."""
        kills = outstanding(["data"], 18, Progress(seed=1))
        self.assertEqual({kill.power for kill in kills if kill.scope == "mail"}, {"kept"})
        powers = [kill.power for kill in kills if kill.scope == "service"]
        self.assertEqual([powers.count("kept"), powers.count("lost"), powers.count("some")], [3, 3, 3])

    def test_a_run_goes_on_where_it_stood(self) -> None:
        """What the file says is done is not done again."""
        path = Path(self.mktemp())
        progress = Progress(seed=3)
        progress.add({"data/service": Figures(kills=4, acknowledged=7), "data/mail": Figures(kills=1)})
        progress.save(path)
        again = Progress.load(path, seed=9)
        self.assertEqual(again, progress)
        left = outstanding(["data"], 10, again)
        self.assertEqual([kill.scope for kill in left].count("service"), 1)
        self.assertEqual([kill.scope for kill in left].count("mail"), 4)
        self.assertIn("| after 354 | 4 (0) | 1 | 7 |", table(again, ["data"]))


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger = Ledger(Random(1))

    def sent(self) -> Parcel:
        parcel = self.ledger.parcel(simple=True)
        self.ledger.told(parcel)
        return parcel

    def arrive(self, parcel: Parcel) -> None:
        self.ledger.take(parcel.sender, list(parcel.recipients), b"Received: x\r\n" + parcel.text, "x")

    def test_what_is_neither_kept_nor_there_is_lost(self) -> None:
        """Once, however often it is looked for; what is in the store or in a Maildir is not."""
        gone, kept, boxed, arrived = (self.sent() for _ in range(4))
        self.arrive(arrived)
        for _ in range(2):
            self.ledger.stock("x", set(kept.items), set(boxed.items))
        self.assertEqual(self.ledger.of("x").lost, 1)
        self.assertIn(gone.token, self.ledger.complaints[0])
        self.assertEqual(self.ledger.of("x").acknowledged, 4)

    def test_what_stays_in_the_queue_at_the_end_is_lost(self) -> None:
        """It was promised."""
        parcel = self.sent()
        self.ledger.final("x", set(parcel.items), set())
        self.assertEqual(self.ledger.of("x").lost, 1)

    def test_twice_is_allowed_where_the_store_still_had_it(self) -> None:
        """And nowhere else."""
        unsettled, settled = self.sent(), self.sent()
        for parcel in (unsettled, settled):
            self.arrive(parcel)
        self.ledger.stock("x", set(unsettled.items), set())
        for parcel in (unsettled, settled):
            self.arrive(parcel)
        self.assertEqual((self.ledger.of("x").again, self.ledger.of("x").doubled), (1, 1))

    def test_what_differs_is_damaged(self) -> None:
        """By one octet."""
        parcel = self.sent()
        self.ledger.take(parcel.sender, list(parcel.recipients), parcel.text[:-3] + b"\r\n", "x")
        self.assertEqual(self.ledger.of("x").damaged, 1)

    def test_a_maildir_has_it_once(self) -> None:
        """A second file with the same message is one too many."""
        parcel = self.sent()
        octets = b"Return-Path: x\n" + parcel.text.replace(b"\r\n", b"\n")
        for _ in range(2):
            item = self.ledger.file(octets, "a@box.test", "x")
            assert item is not None
            self.ledger.filed(item, "x")
        self.assertEqual((self.ledger.of("x").doubled, self.ledger.of("x").damaged), (1, 0))
