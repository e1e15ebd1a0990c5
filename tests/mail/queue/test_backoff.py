"""When a deferred recipient is tried again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.queue import Retry
from dcrouter.mail.queue.backoff import next_attempt

PLAIN = Retry(base=300.0, max=14400.0, max_age=432000.0, jitter=0.0)


class BackoffTests(SynchronousTestCase):
    def test_waits_double_up_to_the_longest(self) -> None:
        """base, 2 base, 4 base ... max."""
        waits = [
            next_attempt(PLAIN, attempts=attempts, received=0.0, now=0.0, random=lambda: 0.5)
            for attempts in (1, 2, 3, 6, 7, 1000)
        ]
        self.assertEqual(waits, [300.0, 600.0, 1200.0, 9600.0, 14400.0, 14400.0])

    def test_jitter_is_a_share_both_ways(self) -> None:
        """times 1 - jitter to 1 + jitter."""
        retry = Retry(base=100.0, jitter=0.2)
        ends = [
            next_attempt(retry, attempts=1, received=0.0, now=0.0, random=random)
            for random in (lambda: 0.0, lambda: 1.0)
        ]
        self.assertEqual(ends, [80.0, 120.0])

    def test_the_last_attempt_comes_when_the_age_is_reached(self) -> None:
        """Not before, and none after."""
        age = PLAIN.max_age
        self.assertEqual(next_attempt(PLAIN, attempts=50, received=0.0, now=age - 10, random=lambda: 0.5), age)
        self.assertIsNone(next_attempt(PLAIN, attempts=50, received=0.0, now=age, random=lambda: 0.5))

    def test_unless_told_otherwise_mail_is_tried_for_days(self) -> None:
        """At least twice in the first hour, then every few hours, for four to five days (RFC 5321 4.5.4.1)."""
        retry, now, tried = Retry(), 0.0, [0.0]
        while (due := next_attempt(retry, attempts=len(tried), received=0.0, now=now, random=lambda: 0.5)) is not None:
            now = due
            tried.append(now)
        self.assertGreaterEqual(len([when for when in tried if when <= 3600.0]), 3)
        self.assertLessEqual(max(later - earlier for earlier, later in pairwise(tried)), 4 * 3600.0)
        self.assertTrue(4 * 86400.0 <= tried[-1] <= 5 * 86400.0)

    @given(st.integers(1, 10_000), st.floats(0, 1e6), st.floats(0, 1))
    def test_the_next_attempt_is_never_now(self, attempts: int, now: float, random: float) -> None:
        """And never further away than the longest wait with its jitter."""
        retry = Retry()
        due = next_attempt(retry, attempts=attempts, received=0.0, now=now, random=lambda: random)
        if due is not None:
            self.assertTrue(now < due <= now + retry.max * (1 + retry.jitter))
