"""What is paused, for how long, and that a restart forgets none of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet.defer import fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rates import Rate
from dcrouter.mail.shaping import pauses as module
from dcrouter.mail.shaping.pauses import Pause, Pauses


class PauseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.directory)
        self.clock = Clock()
        self.offset = 1000.0
        self.told: list[tuple[str, str]] = []

    def made(self, in_thread: Any = maybeDeferred) -> Pauses:
        pauses = Pauses(self.directory, self.clock, self.now, in_thread)
        pauses.began = lambda pause: self.told.append(("began", pause.what))
        pauses.ended = lambda pause: self.told.append(("ended", pause.what))
        pauses.open()
        self.addCleanup(pauses.close)
        return pauses

    def now(self) -> float:
        return self.clock.seconds() + self.offset

    def pause(self, what: str, seconds: float | None = None, **more: Any) -> Pause:
        return Pause(what=what, since=self.now(), until=None if seconds is None else self.now() + seconds, **more)

    def test_a_pause_ends_at_its_time_or_when_it_is_lifted(self) -> None:
        """Once, and whoever waits for it is told."""
        pauses = self.made()
        pauses.add(self.pause("zone a", 60.0, reason="why"))
        pauses.add(self.pause("all"))
        self.assertEqual([one.what for one in pauses.all()], ["zone a", "all"])
        self.clock.advance(59.9)
        self.assertIsNotNone(pauses.get("zone a", "pause"))
        self.clock.advance(0.2)
        self.assertIsNone(pauses.get("zone a", "pause"))
        self.assertEqual([one.what for one in pauses.lift("all")], ["all"])
        self.assertEqual(pauses.lift("all"), [])
        self.assertEqual(self.told, [("began", "zone a"), ("began", "all"), ("ended", "zone a"), ("ended", "all")])

    def test_a_later_word_stands_instead_of_an_earlier_one(self) -> None:
        """Of the same effect on the same thing; others stay beside it."""
        pauses = self.made()
        pauses.add(self.pause("domain a.test", 60.0))
        pauses.add(self.pause("domain a.test", 600.0))
        pauses.add(self.pause("domain a.test", 60.0, effect="slow_down", rate=Rate(rate=(1, 60.0))))
        self.clock.advance(100.0)
        self.assertEqual([one.effect for one in pauses.all()], ["pause"])

    def test_all_of_it_outlives_a_restart(self) -> None:
        """But for what has ended meanwhile."""
        first = self.made()
        first.add(self.pause("zone a", 60.0))
        kept = self.pause("provider p", 600.0, effect="slow_down", by="on_reply", rate=Rate(rate=(3, 60.0), burst=2))
        first.add(kept)
        self.clock.advance(1.0)
        first.add(self.pause("all"))
        first.close()
        self.offset += 100.0
        again = self.made()
        self.assertEqual([one.what for one in again.all()], ["provider p", "all"])
        self.assertEqual(again.get("provider p", "slow_down"), kept)

    def test_a_file_that_is_spoilt_pauses_nothing(self) -> None:
        """It is told of, and written anew."""
        (self.directory / module.FILE).write_text('{"pauses": [{"what": 1}]}')
        pauses = self.made()
        self.assertEqual(pauses.all(), [])
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        pauses.add(self.pause("all"))
        self.clock.advance(1.0)
        self.assertEqual(len(self.made().all()), 1)

    def test_a_disk_that_is_full_is_tried_again(self) -> None:
        """The pause holds meanwhile."""
        answers: list[Any] = [lambda *call: fail(OSError(28, "no space")), maybeDeferred]
        pauses = self.made(lambda *call: answers.pop(0)(*call))
        pauses.add(self.pause("all"))
        self.clock.advance(1.0)
        self.assertFalse((self.directory / module.FILE).exists())
        self.clock.advance(module.AGAIN_AFTER)
        self.assertTrue((self.directory / module.FILE).exists())

    def test_a_clock_that_jumps_ends_nothing_early(self) -> None:
        """Forward: what has ended by it is over within minutes; backward: it stays until its time comes again."""
        pauses = self.made()
        pauses.add(self.pause("zone a", 86400.0))
        self.offset += 86401.0
        self.clock.advance(module.LONGEST_SLEEP)
        self.assertEqual(self.told[-1], ("ended", "zone a"))
        pauses.add(self.pause("zone b", 60.0))
        self.offset -= 3600.0
        self.clock.advance(61.0)
        self.assertIsNotNone(pauses.get("zone b", "pause"))
        self.clock.advance(3601.0)
        self.assertEqual(self.told[-1], ("ended", "zone b"))

    def test_what_replies_pause_is_bounded(self) -> None:
        """What an operator has ordered stays."""
        self.patch(module, "MOST", 3)
        pauses = self.made()
        pauses.add(self.pause("all", 5.0))
        for number in range(4):
            pauses.add(self.pause(f"host mx{number}:25", 60.0 + number, by="on_reply"))
        self.assertEqual([one.what for one in pauses.all()], ["all", "host mx2:25", "host mx3:25"])
