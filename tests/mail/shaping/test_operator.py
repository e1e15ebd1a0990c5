"""What an operator asks of pauses: names are checked, answers are plain."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.pauses import pause_lines
from dcrouter.mail.shaping.operator import PauseOrders
from dcrouter.mail.shaping.pauses import Pauses

SOURCES = ["203.0.113.5", "2001:db8::1"]


class PauseOrderTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, directory)
        clock = Clock()
        pauses = Pauses(directory, clock, clock.seconds, maybeDeferred)
        self.addCleanup(pauses.close)
        self.orders = PauseOrders(
            pauses, clock.seconds, lambda: ["default", "bulk"], lambda: ["google"], lambda: SOURCES
        )

    def test_what_can_be_paused(self) -> None:
        """Under one name each, however it is written."""
        for what, name in (
            ("all", "all"),
            ("zone bulk", "zone bulk"),
            ("domain EXAMPLE.net", "domain example.net"),
            ("domain bücher.example", "domain xn--bcher-kva.example"),
            ("source 2001:DB8:0::1", "source 2001:db8::1"),
            ("provider google", "provider google"),
            ("host mx.example:2525", "host mx.example:2525"),
            ("host MX.example", "host mx.example:25"),
        ):
            answer = self.orders.ask({"do": "pause", "what": what, "seconds": "1h", "reason": "why"})
            self.assertEqual((answer["paused"]["what"], answer["paused"]["seconds"]), (name, 3600.0))
            (line,) = pause_lines(self.orders.ask({"do": "pauses"})["pauses"])
            self.assertEqual(line, f"{name}  stands still for another 1 h, since 1970-01-01 00:00:00 UTC by order: why")
            self.assertEqual(len(self.orders.ask({"do": "resume", "what": what})["lifted"]), 1)
        self.assertEqual(list(pause_lines(self.orders.ask({"do": "pauses"})["pauses"])), ["nothing is paused"])

    def test_what_makes_no_sense(self) -> None:
        """Is told, and changes nothing."""
        for fields, status, text in (
            ({"do": "pause"}, 400, "pause what?"),
            ({"do": "pause", "what": "everything"}, 400, "'everything' is not all, and none of zone, domain"),
            ({"do": "pause", "what": "zone bulky"}, 400, "there is no zone 'bulky' (did you mean 'bulk'?)"),
            ({"do": "pause", "what": "source here"}, 400, "'here' does not appear to be an IPv4 or IPv6 address"),
            ({"do": "pause", "what": "source 203.0.113.6"}, 400, "there is no source '203.0.113.6' (did you mean"),
            ({"do": "pause", "what": "all", "seconds": 0}, 400, "seconds: more than none"),
            ({"do": "pause", "what": "all", "seconds": "soon"}, 400, "'soon' is not a duration"),
            ({"do": "resume"}, 400, "resume what?"),
            ({"do": "resume", "what": "all"}, 404, "all is not paused"),
        ):
            answer = self.orders.ask(fields)
            self.assertEqual(answer["status"], status)
            self.assertIn(text, answer["error"])
        self.assertEqual(self.orders.ask({"do": "pauses"}), {"pauses": []})

    def test_all_of_them_at_once(self) -> None:
        """With nothing paused, too."""
        self.assertEqual(self.orders.ask({"do": "resume", "all": True}), {"lifted": []})
        for what in ("all", "zone bulk"):
            self.orders.ask({"do": "pause", "what": what})
        self.assertEqual(len(self.orders.ask({"do": "resume", "all": True})["lifted"]), 2)
