"""Token buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rates import Rate
from dcrouter.net.limits import Bucket, Buckets

MINUTE = Rate(rate=(60, 60.0), burst=3)


class BucketTests(SynchronousTestCase):
    def test_a_burst_and_then_the_rate(self) -> None:
        """As many at once as the burst says, then one for each interval, and no more gather than the burst."""
        clock = Clock()
        bucket = Bucket(MINUTE, clock.seconds)
        self.assertEqual([bucket.take() for _ in range(4)], [True, True, True, False])
        self.assertAlmostEqual(bucket.wait(), 1.0, 3)
        clock.advance(1)
        self.assertEqual((bucket.wait(), bucket.take(), bucket.take()), (0.0, True, False))
        clock.advance(1000)
        self.assertEqual([bucket.take() for _ in range(4)], [True, True, True, False])

    def test_without_a_burst_it_is_the_count(self) -> None:
        """`100/min` lets a hundred through at once."""
        bucket = Bucket(Rate(rate=(100, 60.0)), Clock().seconds)
        self.assertEqual(sum(bucket.take() for _ in range(200)), 100)

    def test_several_tokens_are_taken_together_or_not_at_all(self) -> None:
        """And more than the burst are never there."""
        clock = Clock()
        bucket = Bucket(MINUTE, clock.seconds)
        self.assertEqual((bucket.take(4), bucket.take(2), bucket.take(2), bucket.take(1)), (False, True, False, True))
        clock.advance(1e6)
        self.assertGreater(bucket.wait(4), 0)

    @given(
        st.integers(1, 50),
        st.integers(1, 10),
        st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3)), max_size=60),
    )
    def test_it_counts_as_a_bucket_of_tokens_does(self, count: int, burst: int, steps: list[tuple[float, int]]) -> None:
        """Against the definition, at any times; what is within a rounding error of the border may fall to either."""
        clock = Clock()
        bucket = Bucket(Rate(rate=(count, 10.0), burst=burst), clock.seconds)
        tokens = float(burst)
        for pause, wanted in steps:
            clock.advance(pause)
            tokens = min(burst, tokens + pause * count / 10.0)
            taken = bucket.take(wanted)
            if abs(tokens - wanted) > 1e-4:
                self.assertEqual(taken, tokens >= wanted)
            if taken:
                tokens -= wanted


class BucketsTests(SynchronousTestCase):
    def test_each_key_has_its_own(self) -> None:
        """One that is empty takes nothing from the other."""
        buckets = Buckets(MINUTE, Clock().seconds)
        self.assertEqual([buckets.take("a") for _ in range(4)], [True, True, True, False])
        self.assertGreater(buckets.wait("a"), 0)
        self.assertEqual(buckets.wait("b"), 0.0)
        self.assertTrue(buckets.take("b"))

    def test_a_full_one_is_forgotten(self) -> None:
        """Whoever is quiet costs no memory, once others come."""
        clock = Clock()
        buckets = Buckets(MINUTE, clock.seconds)
        for key in range(1000):
            buckets.take(key)
        clock.advance(10)
        for _ in range(1000):
            buckets.take("a")
        self.assertEqual(len(buckets), 1)

    def test_there_is_never_more_than_the_bound(self) -> None:
        """The one that was asked the longest ago goes; one that keeps asking stays, and stays empty."""
        buckets = Buckets(MINUTE, Clock().seconds, most=100)
        for _ in range(3):
            buckets.take("a")
        for key in range(10_000):
            buckets.take(key)
            self.assertFalse(buckets.take("a"))
        self.assertEqual(len(buckets), 100)

    def test_a_refusal_makes_no_entry(self) -> None:
        """More than there can ever be."""
        buckets = Buckets(MINUTE, Clock().seconds)
        self.assertFalse(buckets.take("a", 4))
        self.assertEqual(len(buckets), 0)
