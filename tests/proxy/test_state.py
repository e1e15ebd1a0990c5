from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.security import Security
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.state import Present, RouteCounters, State


class StateTests(SynchronousTestCase):
    def test_what_is_in_use_is_found_by_name(self) -> None:
        """By whoever asks for the same kind and name; other kinds and names have their own."""
        state = State()
        counters = state.keep(RouteCounters, "web")
        counters.connections = 7
        self.assertIs(state.keep(RouteCounters, "web"), counters)
        self.assertIsNot(state.keep(RouteCounters, "other"), counters)
        self.assertIsInstance(state.keep(Present, "web"), Present)

    def test_what_nobody_holds_is_forgotten(self) -> None:
        """A name that comes back after that begins anew."""
        state = State()
        counters = state.keep(RouteCounters, "web")
        counters.connections = 7
        del counters
        self.assertEqual(state.keep(RouteCounters, "web").connections, 0)


class PresentTests(SynchronousTestCase):
    """Limits that change while people are in."""

    def setUp(self) -> None:
        self.state = State()
        self.unlimited = self.admission()

    def admission(self, **security: Any) -> Admission:
        return Admission.kept(Security(**security), self.state, "route", "web")

    def test_who_is_in_counts_for_a_limit_that_is_new(self) -> None:
        """All together; and each leaves where it came in."""
        self.assertIsNone(self.unlimited.enter("192.0.2.1"))
        limited = self.admission(max_connections=1)
        self.assertEqual(limited.enter("192.0.2.2"), "max_connections")
        self.unlimited.leave("192.0.2.1")
        self.assertIsNone(limited.enter("192.0.2.2"))

    def test_leaving_by_another_limit_than_one_came_in_by(self) -> None:
        """Neither raises, nor leaves anybody counted."""
        per_ip = self.admission(max_connections_per_ip=1)
        self.assertIsNone(self.unlimited.enter("192.0.2.1"))
        self.assertIsNone(per_ip.enter("192.0.2.1"))
        self.assertEqual(per_ip.enter("192.0.2.1"), "max_connections_per_ip")
        self.unlimited.leave("192.0.2.1")
        self.assertEqual(per_ip.enter("192.0.2.1"), "max_connections_per_ip")
        per_ip.leave("192.0.2.1")
        self.assertEqual((per_ip.present.connections, per_ip.present.per_ip), (0, {}))

    def test_a_connection_that_goes_over_to_other_limits(self) -> None:
        """As a kept-alive one does with its next request: it is counted as they count, and leaves by them."""
        per_ip = self.admission(max_connections_per_ip=2)
        self.assertIsNone(self.unlimited.enter("192.0.2.1"))
        per_ip.succeed(self.unlimited, "192.0.2.1")
        self.assertEqual(per_ip.present.per_ip, {"192.0.2.1": 1})
        again = self.admission()
        again.succeed(per_ip, "192.0.2.1")
        again.leave("192.0.2.1")
        self.assertEqual((per_ip.present.connections, per_ip.present.per_ip), (0, {}))
