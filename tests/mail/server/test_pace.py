"""How long a body may take: silence, and a floor for what moves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.envelope import Client
from dcrouter.mail.message import Ids
from dcrouter.mail.server.admitted import Course
from dcrouter.mail.server.spool import Spool
from dcrouter.mail.server.transaction import FLOOR, SPAN, Transaction
from dcrouter.wire.smtp.command import Sender


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        sessions: Any = SimpleNamespace(
            spool=Spool(Path(self.mktemp()), self.never), ids=Ids.after(0), hostname="mx.test", clock=self.clock
        )
        client = Client(address="192.0.2.1", kind="smtp")
        self.transaction = Transaction(
            sessions, "smtp-1", client, None, Sender("a@x.test", None, False), Course("a@x.test")
        )
        self.clock.advance(1000.0)
        self.transaction.begin(lambda name, only: b"Received: x\r\n", lambda: None)

    def never(self, call: Any, *args: Any) -> Deferred[Any]:
        return Deferred()

    def due(self, patience: float = 600.0) -> float:
        return self.transaction.due(self.clock.seconds(), patience) - 1000.0

    def test_a_body_that_trickles_has_ten_minutes(self) -> None:
        """However often an octet comes; `timeouts.data` where that is longer; silence ends it sooner."""
        self.assertEqual((self.due(), self.due(30.0), self.due(900.0)), (SPAN, 30.0, 900.0))
        for _ in range(10):
            self.clock.advance(50.0)
            self.transaction.add(b"x\r\n")
            self.assertEqual((self.due(), self.due(900.0)), (SPAN, 900.0))
        self.assertEqual(self.due(30.0), 530.0)

    def test_a_body_that_moves_goes_on(self) -> None:
        """Each span of ten minutes on its own: what came before does not keep it alive."""
        for span in range(5):
            self.clock.advance(SPAN - 10.0)
            self.transaction.add(b"x" * int(FLOOR * SPAN))
            self.assertEqual(self.due(), (span + 2) * SPAN - 10.0)
            self.clock.advance(10.0)
            self.transaction.add(b"x")
            self.assertEqual(self.due(), (span + 2) * SPAN)
        self.clock.advance(SPAN - 1.0)
        self.transaction.add(b"x\r\n")
        self.assertEqual(self.due(), 6 * SPAN)
        self.assertEqual(self.due(), 6 * SPAN)
