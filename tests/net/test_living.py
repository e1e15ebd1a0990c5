from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.security import MinRate
from dcrouter.events import SessionClosed
from dcrouter.facts import ConnectionFacts
from dcrouter.net.living import TICK, Living


@define(eq=False)
class One:
    facts: ConnectionFacts


class Connections(Living[One]):
    """`looks`: when they were looked at; `was_cut`: whom the operator has ended."""

    def __init__(self, clock: Clock, told: list[SessionClosed]) -> None:
        super().__init__(clock, told.append)
        self.looks: list[float] = []
        self.was_cut: list[str] = []

    def look(self, now: float) -> None:
        self.looks.append(now)

    def cut(self, one: One) -> None:
        self.was_cut.append(one.facts.session)

    def shown(self, one: One, now: float) -> dict[str, Any]:
        return {"session": one.facts.session}


class LivingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[SessionClosed] = []
        self.connections = Connections(self.clock, self.told)

    def begin(self, session: str) -> One:
        facts = ConnectionFacts(session, ("192.0.2.1", 4711), ("192.0.2.2", 25), 0.0)
        facts.route = "in"
        one = One(facts)
        self.connections.enter(one, MinRate(bytes=1, over=1.0))
        return one

    def end(self, one: One) -> None:
        event = SessionClosed(
            **one.facts.to_plain(), phases={}, ended_by="client", termination="done", reason="closed", bytes_in=3
        )
        self.connections.leave(one, event)

    def test_they_are_looked_at_while_there_are_any(self) -> None:
        """Once a TICK, and nothing is left on the clock when the last has gone."""
        one, other = self.begin("a"), self.begin("b")
        self.clock.pump([TICK, TICK])
        self.assertEqual(self.connections.looks, [TICK, 2 * TICK])
        self.end(one)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.end(other)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_waits_hears_when_the_last_has_gone(self) -> None:
        """At once where there is none."""
        self.successResultOf(self.connections.empty())
        one, other = self.begin("a"), self.begin("b")
        waiting = self.connections.empty()
        self.end(one)
        self.assertNoResult(waiting)
        self.end(other)
        self.successResultOf(waiting)

    def test_ends_are_counted_by_route(self) -> None:
        """And told, and their bytes added up."""
        for session in "ab":
            self.end(self.begin(session))
        self.assertEqual(self.connections.ends, {"in": {"done": 2}})
        self.assertEqual((self.connections.begun, self.connections.bytes_in, len(self.connections)), (2, 6, 0))
        self.assertEqual([event.session for event in self.told], ["a", "b"])

    def test_they_are_shown_page_by_page(self) -> None:
        """In the order of their ids, until a page is not full."""
        for session in ("c", "a", "b"):
            self.begin(session)
        self.assertEqual(self.connections.living()[0][1:], ("192.0.2.1", "in"))
        first = self.connections.page(None, 2)
        self.assertEqual(first, {"connections": [{"session": "a"}, {"session": "b"}], "next": "b"})
        self.assertEqual(self.connections.page("b", 2), {"connections": [{"session": "c"}], "next": None})

    def test_one_is_ended_by_its_id(self) -> None:
        """How many there were is told."""
        self.begin("a")
        self.assertEqual((self.connections.kill("b"), self.connections.kill("a")), (0, 1))
        self.assertEqual(self.connections.was_cut, ["a"])
