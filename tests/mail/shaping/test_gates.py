"""Limits that next hops share: who gets a slot or a token, in which order, and who is told to come later."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rates import Rate
from dcrouter.mail.shaping import gate as module
from dcrouter.mail.shaping.gate import Gate
from dcrouter.mail.shaping.gates import Gates

INF = float("inf")


class Guest:
    """A next hop that always wants one more; `idle`: connections that it could do without."""

    def __init__(self, *gates: Gate) -> None:
        self.gates = Gates(gates)
        self.connections = 0
        self.sent: list[float] = []
        self.waiting = 0
        self.idle = 0

    def open_again(self) -> None:
        if self.gates.take(self):
            self.connections += 1

    def token(self) -> None:
        self.send()

    def spare(self) -> bool:
        self.idle -= 1
        return self.idle >= 0

    def send(self) -> None:
        while self.waiting and self.gates.free() >= 1:
            self.gates.spend()
            self.waiting -= 1
            self.sent.append(self.gates.all[0]._now())
            if self.waiting:
                self.gates.line_up(self)
            return
        if self.waiting:
            self.gates.line_up(self)


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.recovered: list[str] = []

    def gate(self, name: str = "zone a", *, size: float = INF, rate: Rate | None = None) -> Gate:
        gate = Gate(name, self.clock, self.clock.seconds, self.recovered.append)
        gate.limit(size, INF, INF, rate)
        return gate

    def test_slots_go_round(self) -> None:
        """Who waits gets the next one that is given back, in turn, and never more than there are."""
        gate = self.gate(size=2)
        guests = [Guest(gate) for _ in range(4)]
        for guest in guests:
            guest.open_again()
        self.assertEqual([guest.connections for guest in guests], [1, 1, 0, 0])
        self.assertTrue(gate.wanted)
        guests[0].gates.give(guests[0])
        guests[0].open_again()
        guests[1].gates.give(guests[1])
        self.assertEqual([guest.connections for guest in guests], [1, 1, 1, 1])
        self.assertEqual(gate.used, 2)

    def test_a_full_gate_does_not_keep_the_slots_of_another(self) -> None:
        """Who finds its own domain full leaves the zone's slot to others."""
        zone, domain = self.gate(size=2), self.gate("domain x", size=1)
        busy, other = Guest(zone, domain), Guest(zone)
        for _ in range(3):
            busy.open_again()
        other.open_again()
        self.assertEqual((busy.connections, other.connections, zone.used), (1, 1, 2))
        busy.gates.give(busy)
        self.assertEqual((busy.connections, zone.used, domain.used), (2, 2, 1))

    def test_more_room_is_used_at_once(self) -> None:
        """A reload that widens a gate calls who waits; one that narrows it says that there are too many."""
        gate = self.gate(size=1)
        guests = [Guest(gate) for _ in range(3)]
        for guest in guests:
            guest.open_again()
        gate.limit(3, INF, INF, None)
        self.assertEqual([guest.connections for guest in guests], [1, 1, 1])
        gate.limit(2, INF, INF, None)
        self.assertTrue(guests[0].gates.enough(0, 0.0))

    def test_tokens_go_round_at_their_time(self) -> None:
        """Three next hops of one zone, 2 a second: each its turn, at the instant of the token, without a poll."""
        gate = self.gate(rate=Rate(rate=(2, 1.0)))
        guests = [Guest(gate) for _ in range(3)]
        for guest in guests:
            guest.waiting = 4
            guest.send()
        while self.clock.getDelayedCalls():
            self.clock.advance(max(self.clock.getDelayedCalls()[0].getTime() - self.clock.seconds(), 0.0))
        self.assertEqual([len(guest.sent) for guest in guests], [4, 4, 4])
        left = sorted(at for guest in guests for at in guest.sent)
        self.assertTrue(all(b - a >= 1.0 for a, b in zip(left, left[2:], strict=False)), left)
        self.assertLess(left[-1], 5.1)
        self.assertLessEqual(max(guest.sent[0] for guest in guests), 2.1)

    def test_who_would_wait_long_is_told_when_to_come(self) -> None:
        """One after the other, at the rate's pace; who comes as told waits here, who is new stands behind."""
        gate = self.gate(rate=Rate(rate=(1, 60.0)))
        gates = Gates((gate,))
        self.assertIsNone(gates.book("first"))
        gates.spend()
        told = [gates.book(name) for name in "abc"]
        self.assertEqual([later and (later.seconds, later.name) for later in told],
            [(60.0, "zone a"), (120.0, "zone a"), (180.0, "zone a")])  # fmt: skip
        self.clock.advance(60.0)
        self.assertIsNone(gates.book("a"))
        self.assertEqual(gates.free(), 1)
        late = gates.book("new")
        self.assertIsNotNone(late)
        self.assertEqual(late and late.seconds, 180.0)

    def test_another_rate_forgets_what_was_told(self) -> None:
        """Those who come early or late find the line as it is then."""
        gate = self.gate(rate=Rate(rate=(1, 60.0)))
        gates = Gates((gate,))
        gates.spend()
        for name in "abc":
            gates.book(name)
        gate.limit(INF, INF, INF, None)
        self.assertIsNone(gates.book("a"))
        gate.slow_down(Rate(rate=(1, 10.0)))
        self.assertIsNone(gates.book("b"))
        gates.spend()
        later = gates.book("c")
        self.assertEqual(later and later.seconds, 10.0)
        gate.slow_down(None)
        self.assertEqual(gates.free(), INF)

    def test_a_clock_that_jumps_opens_nothing(self) -> None:
        """All that were told to come arrive at once, and are told the same again."""
        gate = self.gate(rate=Rate(rate=(1, 60.0)))
        gates = Gates((gate,))
        gates.spend()
        told = [gates.book(number) for number in range(100)]
        self.assertEqual([gates.book(number) for number in range(100)], told)
        self.assertEqual(gates.free(), 0)

    def test_who_comes_late_waits_here_with_a_few_others(self) -> None:
        """After a time without anybody, all who were told come at once: more than a few are told again."""
        gate = self.gate(rate=Rate(rate=(1, 60.0)))
        gates = Gates((gate,))
        gates.spend()
        for number in range(100):
            gates.book(number)
        self.clock.advance(101 * 60.0)
        kept = 0
        for number in range(100):
            if gates.book(number) is None:
                gates.came()
                kept += 1
        self.assertEqual((kept, gates.free()), (module.RETURNING, 1))

    def test_who_is_called_before_his_time_loses_nothing(self) -> None:
        """An operator who says `retry` again and again moves nobody; where others have gone, who comes may leave."""
        gate = self.gate(rate=Rate(rate=(10, 3600.0)))
        gates = Gates((gate,))
        for _ in range(10):
            gates.spend()
        told = [gates.book(number) for number in range(5)]
        for _ in range(20):
            self.clock.advance(60.0)
            again = [gates.book(number) for number in range(5)]
            for before, after in zip(told, again, strict=True):
                assert before is not None and after is not None
                self.assertLess(abs(before.seconds - 60.0 - after.seconds), 0.001)
            told = again
        self.clock.advance(3600.0 - 20 * 60.0)
        self.assertIsNone(gates.book(4))

    def test_a_gate_that_many_wait_for_is_crowded(self) -> None:
        """Only when it is slow; and its name is told when those who were sent away may come again."""
        self.patch(module, "KEPT", 10)
        gate = self.gate()
        gates = Gates((gate,))
        for _ in range(30):
            gates.came()
        self.assertIsNone(gates.crowded())
        self.clock.advance(module.STALLED + 1)
        self.assertIs(gates.crowded(), gate)
        self.assertEqual((gate.share(30), gate.share(1)), (10, 1))
        gate.cut_down = True
        gates.left(20)
        self.assertEqual(self.recovered, [])
        gates.left(5)
        self.assertEqual(self.recovered, ["zone a"])
