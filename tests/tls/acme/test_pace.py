"""CAs that take their time, and those that are gone in the middle."""

from __future__ import annotations

import time

from attrs import evolve

from dcrouter.errors import AcmeUnreachable
from tests.support.acmeca import CUT, LOST, Says, problem
from tests.tls.acme.cases import NAME, QUICK, FaultCase
from tests.tls.acme.test_pebble import key, names_of


class PaceTests(FaultCase):
    async def test_what_takes_a_while_is_asked_again(self) -> None:
        """Authorizations and orders that are in the making; Retry-After says how soon."""
        self.ca.pending = 3
        await self.authority().issue(NAME, key(), {"http-01": self.solver})
        self.assertEqual(self.ca.kinds().count("authorization"), 1 + 3 + 1)
        self.ca.retry_after = "1"
        self.ca.pending = 1
        began = time.monotonic()
        await self.authority().issue(NAME, key(), {"http-01": self.solver})
        self.assertGreaterEqual(time.monotonic() - began, 2)

    async def test_what_takes_too_long_ends(self) -> None:
        """At the deadline of each phase, also when the CA wants to be asked later than that, or at once."""
        self.ca.pending = 10**6
        short = evolve(QUICK, validation=0.3)
        error = await self.fails(patience=short)
        self.assertEqual(error.names, (("a.example.com", None, "http-01: the CA has not looked within 0.3 s"),))
        self.ca.retry_after = "3600"
        error = await self.fails(patience=short)
        self.assertIn("the CA has not looked within 0.3 s", str(error))
        self.ca.pending = 0
        self.ca.behave("order", None, None, *[Says(200, {"status": "processing"}, {"Retry-After": "0"})] * 1000)
        error = await self.fails(patience=evolve(QUICK, issuance=0.3, retry_at_most=0.1))
        self.assertIn("not made the certificate within 0.3 s", str(error))
        self.assertLess(self.ca.kinds().count("order"), 50)

    async def test_a_ca_that_is_down_for_a_moment(self) -> None:
        """While it is asked whether it is done, is forgiven; one that stays down is not."""
        self.ca.behave("authorization", None, Says(500, b""), CUT, CUT, problem("serverInternal", status=503))
        await self.authority().issue(NAME, key(), {"http-01": self.solver})
        self.ca.behave("authorization", None, *[Says(500, b"")] * 5)
        error = await self.fails()
        self.assertEqual((error.status, error.temporary), (500, True))

    async def test_a_lost_answer_loses_no_certificate(self) -> None:
        """Of the request for it, or of its download: the CA has counted it already."""
        self.ca.behave("finalize", LOST)
        self.ca.behave("certificate", *[CUT] * 4, *[Says(500, b"")] * 2)
        chain = await self.authority().issue(NAME, key(), {"http-01": self.solver})
        self.assertEqual(names_of(chain), list(NAME))
        self.ca.behave("finalize", Says(500, b""))
        self.assertEqual((await self.fails()).status, 500)
        self.assertEqual((self.ca.kinds().count("finalize"), self.ca.kinds().count("certificate")), (3, 7))

    async def test_dies_in_the_middle(self) -> None:
        """At each step of an order the error tells so, and what was shown is gone."""
        for kind in ("account", "order", "authorization", "challenge", "finalize", "certificate"):
            self.ca.behave(kind, CUT, times=20)
            error = await self.fails(AcmeUnreachable)
            self.assertIn("the connection ended before the answer", str(error))
            self.ca.well()
