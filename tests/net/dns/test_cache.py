"""Answers are believed for their time, and no longer; and there are only so many of them."""

from __future__ import annotations

import dns.rdata
from dns.rdataclass import IN
from dns.rdatatype import RdataType
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.dns.cache import FAILURE, LONGEST, LONGEST_DENIAL, SHORTEST, Cache
from dcrouter.net.dns.message import Answer, Question

RECORDS = (dns.rdata.from_text(IN, RdataType.A, "192.0.2.1"),)


def question(name: str) -> Question:
    return Question(name, RdataType.A)


class CacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = 0.0
        self.cache = Cache(lambda: self.clock, 10)

    def lifetime(self, said: Answer | str) -> float:
        """Whole seconds for which it is given."""
        start = self.clock
        self.cache.put(question("a"), said)
        while self.cache.get(question("a")) is not None:
            self.clock += 1
        return self.clock - start

    def test_lifetimes_have_bounds(self) -> None:
        """Not below SHORTEST, not above LONGEST, denials and failures less."""
        self.assertEqual(self.lifetime(Answer(name="a", records=RECORDS, ttl=0)), SHORTEST)
        self.assertEqual(self.lifetime(Answer(name="a", records=RECORDS, ttl=50)), 50)
        self.assertEqual(self.lifetime(Answer(name="a", records=RECORDS, ttl=1e9)), LONGEST)
        self.assertEqual(self.lifetime(Answer(name="a", exists=False, ttl=1e9)), LONGEST_DENIAL)
        self.assertEqual(self.lifetime(Answer(name="a", ttl=1e9)), LONGEST_DENIAL)
        self.assertEqual(self.lifetime("SERVFAIL"), FAILURE)

    def test_the_least_used_leaves_first(self) -> None:
        """Ten have room; the one that was asked for lately stays."""
        for number in range(10):
            self.cache.put(question(f"n{number}"), Answer(name="x", ttl=60))
        self.cache.get(question("n0"))
        self.cache.put(question("new"), Answer(name="x", ttl=60))
        self.assertEqual(len(self.cache), 10)
        self.assertIsNotNone(self.cache.get(question("n0")))
        self.assertIsNone(self.cache.get(question("n1")))
