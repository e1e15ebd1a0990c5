"""Which source a message leaves from: by weight, the same each time, and what warming up means."""

from __future__ import annotations

import tempfile
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from shutil import rmtree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.zones import Source, Warmup
from dcrouter.mail.ledger import Ledger
from dcrouter.mail.shaping.pauses import Effect, Pause, Pauses
from dcrouter.mail.shaping.sources import DAY, Sources, rendezvous

NOON = 20_788 * DAY + DAY / 2
"""2026-12-01, 12:00 UTC."""


def source(number: int, *, weight: int = 1, warmup: Warmup | None = None) -> Source:
    return Source(address=ip_address(f"192.0.2.{number}"), weight=weight, warmup=warmup)


POOLS = st.lists(
    st.tuples(st.integers(1, 250), st.integers(1, 20)), min_size=1, max_size=8, unique_by=lambda one: one[0]
)


class RendezvousTests(SynchronousTestCase):
    @given(POOLS, st.integers(0, 2**50), st.integers(0, 7))
    def test_who_goes_moves_only_what_was_theirs(self, pool: list[tuple[int, int]], first: int, gone: int) -> None:
        """Take one away: every message that was not with it stays where it was; put it back: all is as before."""
        sources = [source(number, weight=weight) for number, weight in pool]
        left = [one for at, one in enumerate(sources) if at != gone % len(sources)]
        for ticket in (f"{first + step:x}" for step in range(20)):
            before = rendezvous(ticket, sources)
            after = rendezvous(ticket, left)
            self.assertEqual(after, [one for one in before if one in left])
            self.assertEqual(rendezvous(ticket, sources[::-1]), before)

    @given(POOLS, st.integers(0, 2**50), st.integers(2, 5))
    def test_more_weight_only_attracts(self, pool: list[tuple[int, int]], first: int, factor: int) -> None:
        """A source whose weight grows keeps all that it had."""
        sources = [source(number, weight=weight) for number, weight in pool]
        heavier = [source(pool[0][0], weight=pool[0][1] * factor), *sources[1:]]
        for ticket in (f"{first + step:x}" for step in range(20)):
            if rendezvous(ticket, sources)[0] == sources[0]:
                self.assertEqual(rendezvous(ticket, heavier)[0], heavier[0])
            elif rendezvous(ticket, heavier)[0] != heavier[0]:
                self.assertEqual(rendezvous(ticket, heavier)[0], rendezvous(ticket, sources)[0])

    @settings(max_examples=10)
    @given(st.integers(0, 2**50))
    def test_weights_are_shares(self, first: int) -> None:
        """1, 2 and 5: of 4000 messages an eighth, a quarter and five eighths, within what chance allows."""
        sources = [source(1), source(2, weight=2), source(3, weight=5)]
        won = Counter(rendezvous(f"{first + step:x}", sources)[0].weight for step in range(4000))
        for weight in (1, 2, 5):
            self.assertLess(abs(won[weight] - 500 * weight), 160)


class SourcesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.directory)
        self.now = NOON
        self.clock = Clock()
        self.made()

    def made(self) -> None:
        """As a start makes them."""
        self.ledger = Ledger(self.directory, self.clock, lambda: self.now, maybeDeferred)
        self.pauses = Pauses(self.directory, self.clock, lambda: self.now, maybeDeferred)
        self.sources = Sources(self.ledger, self.pauses, lambda: self.now)

    def choose(self, message: int = 1, kept: str = "", provider: str = "p", versions: tuple[int, ...] = (4,)) -> str:
        found = self.sources.choose("main", message, kept, ("provider p",), versions, provider)
        return str(found.address) if found is not None else ""

    def test_a_retry_keeps_its_source(self) -> None:
        """Whatever the pool has become meanwhile; where it is gone, the next in line has it."""
        first, second = source(1), source(2, weight=1_000_000)
        self.sources.reload({"main": (first, second)})
        self.assertEqual(self.choose(kept="192.0.2.1"), "192.0.2.1")
        self.sources.reload({"main": (second,)})
        self.assertEqual(self.choose(kept="192.0.2.1"), "192.0.2.2")

    def test_families(self) -> None:
        """A source reaches only hosts of its own; where none does, there is none."""
        six = Source(address=ip_address("2001:db8::1"))
        self.sources.reload({"main": (source(1), six)})
        self.assertEqual(self.choose(versions=(6,)), "2001:db8::1")
        self.assertEqual({self.choose(number) for number in range(50)}, {"192.0.2.1"})
        self.assertEqual({self.choose(number, versions=(4, 6)) for number in range(50)}, {"192.0.2.1", "2001:db8::1"})
        self.assertEqual(self.choose(versions=()), "")

    def test_what_is_too_much_for_a_warming_source_takes_a_warm_one(self) -> None:
        """So many a day for each provider; more each day, and all that it is due when it is warm. Nothing waits."""
        warming = source(1, weight=1_000_000, warmup=Warmup(start="2026-12-01", daily=(2, 3)))
        self.sources.reload({"main": (warming, source(2))})

        def send(provider: str = "p") -> str:
            chosen = self.choose(provider=provider)
            self.sources.count(warming if chosen == "192.0.2.1" else source(2), provider)
            return chosen[-1]

        self.assertEqual([send() for _ in range(4)], ["1", "1", "2", "2"])
        self.assertEqual(send("q"), "1")
        self.now += DAY
        self.assertEqual([send() for _ in range(4)], ["1", "1", "1", "2"])
        self.now += DAY
        self.assertEqual([send() for _ in range(9)], ["1"] * 9)
        self.now = NOON - 2 * DAY
        self.assertEqual(send(), "2")
        self.sources.reload({"main": (warming,)})
        self.assertEqual(send(), "1")

    def test_counts_outlive_a_restart(self) -> None:
        """And what has not left is not counted."""
        warming = source(1, weight=1_000_000, warmup=Warmup(start="2026-12-01", daily=(3,)))
        self.sources.reload({"main": (warming, source(2))})
        for count in (1, 1, 1, -1):
            self.sources.count(warming, "p", count)
        self.ledger.close()
        self.made()
        self.sources.reload({"main": (warming, source(2))})
        self.assertEqual(self.sources.left(warming, "p"), 1)
        self.ledger.close()

    def test_a_paused_source_is_passed_over(self) -> None:
        """Everywhere, or for one destination; for as long as that holds."""
        self.sources.reload({"main": (source(1, weight=1_000_000), source(2))})
        effects: tuple[tuple[str, Effect], ...] = (
            ("source 192.0.2.1", "pause"),
            ("source 192.0.2.1 for provider p", "rotate"),
        )
        for what, effect in effects:
            self.pauses.add(Pause(what=what, effect=effect, since=self.now, until=self.now + 60, by="on_reply"))
            self.assertEqual(self.choose(kept="192.0.2.1"), "192.0.2.2")
            self.pauses.lift(what)
            self.assertEqual(self.choose(), "192.0.2.1")
        self.pauses.close()
