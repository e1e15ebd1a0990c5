"""Greylisting on a clock that is turned by hand. RFC 6647."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.guards import Greylist
from dcrouter.mail.server.guards.greylist import KNOWN, RETRY, Greylisting
from tests.mail.server.guards.made import START, made_ledger


class GreylistTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.clock = Clock()
        self.greylist = self.opened()

    def opened(self) -> Greylisting:
        ledger = made_ledger(self.directory, self.clock)
        self.addCleanup(ledger.close)
        self.close_ledger = ledger.close
        made = Greylisting(ledger, lambda: START + self.clock.seconds())
        made.reload(Greylist(delay=300.0))
        return made

    def wait(self, client: str = "192.0.2.1", sender: str = "a@x.test", recipient: str = "u@ours.test") -> int:
        return self.greylist.wait(client, sender, recipient)

    def test_who_is_unknown_must_come_again(self) -> None:
        """After the delay from the first attempt, whatever is tried meanwhile (RFC 6647 2.3, 5)."""
        self.assertEqual(self.wait(), 300)
        self.clock.advance(299.5)
        self.assertEqual(self.wait(), 1)
        self.clock.advance(0.5)
        self.assertEqual(self.wait(), 0)

    def test_client_sender_and_recipient_count_together(self) -> None:
        """Each other one waits for itself; case makes no difference, nor where in a network it is (RFC 6647 4.2)."""
        self.wait()
        self.clock.advance(300)
        self.assertEqual(self.wait(sender="b@x.test"), 300)
        self.assertEqual(self.wait(recipient="v@ours.test"), 300)
        self.assertEqual(self.wait(client="192.0.3.1"), 300)
        self.assertEqual(self.wait("192.0.2.200", "A@X.test", "U@ours.TEST"), 0)

    def test_bounces_too(self) -> None:
        """The null reverse-path is a sender as any other (RFC 6647 2.3)."""
        self.assertEqual(self.wait(sender=""), 300)
        self.clock.advance(300)
        self.assertEqual(self.wait(sender=""), 0)

    def test_who_has_come_again_is_known(self) -> None:
        """Its network waits no more, for anybody, until it was away for long (RFC 6647 5)."""
        self.wait("2001:db8::1")
        self.clock.advance(300)
        self.wait("2001:db8::1")
        for _ in range(3):
            self.assertEqual(self.wait("2001:db8::2", "other@x.test", "other@ours.test"), 0)
            self.assertEqual(self.wait("2001:db8:0:1::2", "other@x.test"), 300)
            self.clock.advance(KNOWN - 1)
        self.clock.advance(1)
        self.assertEqual(self.wait("2001:db8::2"), 300)

    def test_who_comes_again_too_late_begins_anew(self) -> None:
        """Two days after the first attempt (RFC 6647 5 wants one at least)."""
        self.wait()
        self.clock.advance(RETRY)
        self.assertEqual(self.wait(), 300)

    def test_a_restart_holds_nobody_up_again(self) -> None:
        """Attempts and known clients are durable."""
        self.wait()
        self.wait("198.51.100.1")
        self.clock.advance(300)
        self.wait("198.51.100.1")
        self.close_ledger()
        self.greylist = self.opened()
        self.assertEqual(self.wait("198.51.100.7", "z@x.test"), 0)
        self.assertEqual(self.wait(), 0)

    def test_another_delay(self) -> None:
        """It counts from the first attempt too; without greylisting nobody waits, and nothing is forgotten."""
        self.wait()
        self.clock.advance(60)
        self.greylist.reload(Greylist(delay=100.0))
        self.assertEqual(self.wait(), 40)
        self.greylist.reload(None)
        self.assertFalse(self.greylist)
        self.assertEqual(self.wait(), 0)
        self.greylist.reload(Greylist(delay=61.0))
        self.assertEqual(self.wait(), 1)
