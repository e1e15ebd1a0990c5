from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.wheel import NEVER, SLOTS, TICK, Wheel


class Sleeper:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.due = NEVER

    def expired(self, now: float) -> None:
        """`expiry` asks the wheel itself."""


def expiry(wheel: Wheel, sleeper: Sleeper, start: float, until: float) -> float | None:
    """When `wheel` gives `sleeper` up, turned every tick."""
    now = start
    while now < until:
        now += TICK
        if sleeper in wheel.turn(now):
            return now
    return None


class WheelTests(SynchronousTestCase):
    @given(st.floats(0.0, 3 * SLOTS * TICK))
    def test_a_deadline_is_kept_within_two_ticks(self, seconds: float) -> None:
        """Never early, at most two ticks late, also beyond one turn of the wheel."""
        wheel = Wheel(1000.0)
        sleeper = Sleeper(1000.0 + seconds)
        wheel.arm(sleeper)
        expired = expiry(wheel, sleeper, 1000.0, 1000.0 + seconds + 10 * TICK)
        self.assertIsNotNone(expired)
        assert expired is not None
        self.assertGreaterEqual(expired, sleeper.deadline)
        self.assertLessEqual(expired, sleeper.deadline + 2.1 * TICK)

    def test_a_deadline_that_moves_on_costs_nothing_and_holds(self) -> None:
        """Pushed forward without a word to the wheel, it expires at the new time."""
        wheel = Wheel(0.0)
        sleeper = Sleeper(5.0)
        wheel.arm(sleeper)
        sleeper.deadline = 20.0
        self.assertIsNone(expiry(wheel, sleeper, 0.0, 19.0))
        self.assertIsNotNone(expiry(wheel, sleeper, 19.0, 21.0))

    def test_a_deadline_that_comes_earlier_is_armed_again(self) -> None:
        wheel = Wheel(0.0)
        sleeper = Sleeper(50.0)
        wheel.arm(sleeper)
        sleeper.deadline = 1.0
        wheel.arm(sleeper)
        self.assertIsNotNone(expiry(wheel, sleeper, 0.0, 1.5))
        self.assertEqual(sleeper.due, NEVER)

    def test_the_disarmed_is_forgotten(self) -> None:
        wheel = Wheel(0.0)
        sleeper = Sleeper(1.0)
        wheel.arm(sleeper)
        wheel.disarm(sleeper)
        self.assertIsNone(expiry(wheel, sleeper, 0.0, 70.0))

    def test_a_clock_that_jumps_a_day_expires_everybody_once(self) -> None:
        wheel = Wheel(0.0)
        sleepers = [Sleeper(float(second)) for second in range(100)]
        for sleeper in sleepers:
            wheel.arm(sleeper)
        self.assertCountEqual(wheel.turn(86400.0), sleepers)
        self.assertEqual(wheel.turn(86401.0), [])
