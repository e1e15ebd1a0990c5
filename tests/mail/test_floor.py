"""How long a body may take: silence, and a floor for what moves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.mail.floor import FLOOR, SPAN, Floor


class FloorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.floor = Floor(1000.0)

    def due(self, patience: float = 600.0) -> float:
        return self.floor.due(1000.0 + self.now, patience) - 1000.0

    def test_a_body_that_trickles_has_ten_minutes(self) -> None:
        """However often an octet comes; as long as silence may last, where that is longer; silence ends it sooner."""
        self.assertEqual((self.due(), self.due(30.0), self.due(900.0)), (SPAN, 30.0, 900.0))
        for _ in range(10):
            self.now += 50.0
            self.floor.moved += 3
            self.assertEqual((self.due(), self.due(900.0)), (SPAN, 900.0))
        self.assertEqual(self.due(30.0), 530.0)

    def test_a_body_that_moves_goes_on(self) -> None:
        """Each span of ten minutes on its own: what came before does not keep it alive."""
        for span in range(5):
            self.now += SPAN - 10.0
            self.floor.moved += int(FLOOR * SPAN)
            self.assertEqual(self.due(), (span + 2) * SPAN - 10.0)
            self.now += 10.0
            self.floor.moved += 1
            self.assertEqual(self.due(), (span + 2) * SPAN)
        self.now += SPAN - 1.0
        self.floor.moved += 3
        self.assertEqual(self.due(), 6 * SPAN)
        self.assertEqual(self.due(), 6 * SPAN)
