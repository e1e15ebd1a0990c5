"""Which target a connection goes to, as a callable of the operator's says: the side of the handlers."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.facts import ConnectionFacts
from dcrouter.handlers.selects import Selects, facts_of, places_of, told_places
from dcrouter.interfaces import SELECT_WITHIN, Facts


class PlaceTests(SynchronousTestCase):
    def test_every_form_is_understood(self) -> None:
        """One or several; None stays None."""
        for choice, places in (
            (None, None),
            ("192.0.2.1:80", ["192.0.2.1:80"]),
            (("192.0.2.1", 80), ["192.0.2.1:80"]),
            (("2001:db8::1", 80), ["[2001:db8::1]:80"]),
            (["unix:/run/a", ("192.0.2.1", 80)], ["unix:/run/a", "192.0.2.1:80"]),
            (("192.0.2.1:80", "192.0.2.2:80"), ["192.0.2.1:80", "192.0.2.2:80"]),
        ):
            self.assertEqual(places_of(choice), places)

    def test_others_are_told(self) -> None:
        """A bare number is nobody's port."""
        for choice in (80, [], [None], {"host": "a"}, ("192.0.2.1", True), object(), ["a:1"] * 101, b"192.0.2.1:80"):
            self.assertRaises((TypeError, ValueError), places_of, choice)


class SelectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.selects = Selects(self.reactor, SELECT_WITHIN, facts_of, told_places)
        self.replies: list[dict[str, Any]] = []
        self.seen: list[Facts] = []

    def ask(self, select: Any, *, ago: float = 0.0, request: dict[str, Any] | None = None) -> None:
        facts = ConnectionFacts("s-1", ("192.0.2.7", 4711), ("192.0.2.1", 443), 1.0)
        facts.sni = "a.example.test"
        plain = {"id": 7, "name": "x:y", "facts": facts.to_plain(), "request": request, "asked": time.monotonic() - ago}
        self.selects.answer(select, plain, self.replies.append)

    def test_it_is_told_what_is_known(self) -> None:
        """Of the connection, and of the request."""
        head = [["x-a", "1"], ["x-a", "2"]]
        fields = {"method": "GET", "host": "a", "path": "/", "query": "", "client_ip": "192.0.2.8", "headers": head}
        self.ask(self.seen.append)
        self.ask(self.seen.append, request=fields)
        self.assertEqual(self.replies, [{"id": 7, "places": None}] * 2)
        connection, request = self.seen
        self.assertEqual((connection.peer, connection.sni), (("192.0.2.7", 4711), "a.example.test"))
        self.assertIsNone(connection.request)
        assert request.request is not None
        self.assertEqual((request.request.header("X-A"), request.request.header("y")), ("1", None))

    def test_it_may_take_its_time_but_not_for_ever(self) -> None:
        """One that answers too late is cancelled."""
        first: Deferred[Any] = Deferred()
        self.ask(lambda facts: first)
        first.callback("192.0.2.1:80")
        self.assertEqual(self.replies, [{"id": 7, "places": ["192.0.2.1:80"]}])
        second: Deferred[Any] = Deferred()
        self.ask(lambda facts: second)
        self.reactor.advance(SELECT_WITHIN)
        self.assertIn("TimeoutError", self.replies[1]["error"])
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_a_coroutine_is_run(self) -> None:
        async def select(facts: Facts) -> str:
            return "192.0.2.1:80"

        self.ask(select)
        self.assertEqual(self.replies, [{"id": 7, "places": ["192.0.2.1:80"]}])

    def test_a_question_that_waited_too_long_is_not_asked(self) -> None:
        """The edge has gone on without: after a hang there is no second one over old questions."""
        self.ask(self.seen.append, ago=1.0)
        self.assertEqual((self.seen, self.replies), ([], []))

    def test_tracebacks_are_few(self) -> None:
        """Each failure is told to the edge, one in ten seconds to the log; even a wish to end is no more than that."""

        def fails(facts: Facts) -> None:
            raise SystemExit(1)

        for _ in range(3):
            self.ask(fails)
        self.assertEqual(self.replies, [{"id": 7, "error": "SystemExit: 1"}] * 3)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.reactor.advance(11)
        self.ask(fails)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
