"""Threads for slow calls, and their end."""

from __future__ import annotations

import threading

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.mail.server.gate import Busy, Gate


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("PoolThread-login-")]


class GateTests(TestCase):
    async def test_what_it_is_asked_after_its_end_starts_no_thread(self) -> None:
        """A client may still come while the process ends; a thread for it would keep the process for ever."""
        for used in (False, True):
            gate = Gate(reactor, 1)
            if used:
                self.assertEqual(await gate.in_thread(int, "7"), 7)
            gate.close()
            self.assertNoResult(gate.in_thread(int, "7"))
            with self.assertRaises(Busy):
                gate.run("192.0.2.1", int)
            self.assertEqual(threads(), [])
