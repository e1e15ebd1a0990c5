"""Orders that somebody cancels, at whatever step."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from dcrouter.errors import AcmeError
from tests.support.acmeca import ENDLESS, HELD, SILENT
from tests.support.facts import until
from tests.tls.acme.cases import NAME, QUICK, FaultCase
from tests.tls.acme.solvers import Remembering, Stuck
from tests.tls.acme.test_pebble import key


class CancelTests(FaultCase):
    async def test_at_every_request(self) -> None:
        """A cancelled order cleans up, and leaves no connection that waits for an answer."""
        for kind in ("directory", "nonce", "account", "order", "authorization", "challenge", "finalize", "certificate"):
            for temper in (SILENT, ENDLESS) if kind != "nonce" else (SILENT,):
                self.ca.asked.clear()
                self.ca.behave(kind, temper)
                authority = self.authority()
                running = Deferred.fromCoroutine(authority.issue(NAME, key(), {"http-01": self.solver}))
                await until(lambda kind=kind: kind in self.ca.kinds())
                running.cancel()
                await self.assertFailure(running, CancelledError)
                self.assertEqual(self.solver.shown, {})
                await authority.close()
                await until(lambda: not self.ca.connections)

    async def test_while_a_solver_works(self) -> None:
        """Its cleanup has run when the order's Deferred fires."""
        solver = Stuck()
        running = Deferred.fromCoroutine(self.authority().issue(("a", "b"), key(), {"http-01": solver}))
        await until(lambda: len(solver.shown) == 2)
        running.cancel()
        await self.assertFailure(running, CancelledError)
        self.assertEqual(solver.shown, {})
        self.assertEqual(len(solver.log), 4)

    async def test_while_the_ca_looks(self) -> None:
        """The same for an order that waits between two questions."""
        self.ca.pending = 10**6
        self.ca.retry_after = "4"
        running = Deferred.fromCoroutine(self.authority().issue(NAME, key(), {"http-01": self.solver}))
        await until(lambda: "challenge" in self.ca.kinds() and self.solver.shown)
        running.cancel()
        await self.assertFailure(running, CancelledError)
        self.assertEqual(self.solver.shown, {})

    async def test_while_it_is_cleaned_up(self) -> None:
        """Also a second time: what was begun is finished, and then the order has been cancelled."""
        held: Deferred[None] = Deferred()

        class Slow(Remembering):
            async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
                self.log.append(("begun", name))
                await held
                await super().cleanup(name, token, key_authorization)

        solver = Slow()
        running = Deferred.fromCoroutine(self.authority().issue(NAME, key(), {"http-01": solver}))
        await until(lambda: ("begun", *NAME) in solver.log)
        running.cancel()
        running.cancel()
        self.assertEqual(len(solver.shown), 1)
        held.callback(None)
        await self.assertFailure(running, CancelledError)
        self.assertEqual(solver.shown, {})
        self.assertNotIn("finalize", self.ca.kinds())

    async def test_one_of_two(self) -> None:
        """The other, which waits for the same registration, gets it."""
        authority = self.authority()
        self.ca.behave("account", HELD)
        first, second = (Deferred.fromCoroutine(authority.register()) for _ in range(2))
        await until(lambda: "account" in self.ca.kinds())
        first.cancel()
        await self.assertFailure(first, CancelledError)
        self.ca.release()
        self.assertTrue(await second)
        self.assertEqual(self.ca.payloads("account"), [{"onlyReturnExisting": True}, {"termsOfServiceAgreed": True}])

    async def test_two_of_two(self) -> None:
        """With both gone, the registration is over, and can be begun anew."""
        authority = self.authority()
        self.ca.behave("account", HELD)
        both = [Deferred.fromCoroutine(authority.register()) for _ in range(2)]
        await until(lambda: "account" in self.ca.kinds())
        for one in both:
            one.cancel()
            await self.assertFailure(one, CancelledError)
        await until(lambda: not self.ca.connections)
        self.assertTrue(await authority.register())

    async def test_many_at_once(self) -> None:
        """They share one registration, however many they are."""
        authority = self.authority()
        urls = await gatherResults([Deferred.fromCoroutine(authority.register()) for _ in range(500)])
        self.assertEqual(len(set(urls)), 1)
        self.assertEqual(self.ca.kinds(), ["directory", "nonce", "account", "account"])

    async def test_a_solver_that_takes_too_long(self) -> None:
        """Is the name's failure; one whose cleanup fails hides nothing."""

        class Careless(Stuck):
            async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
                raise RuntimeError("no broom")

        self.solver = Stuck()
        error = await self.fails(patience=evolve(QUICK, solver=0.1))
        self.assertIn("http-01: not presented within 0.1 s", str(error))
        self.solver = Careless()
        with self.assertRaisesRegex(AcmeError, "not presented within 0.1 s"):
            authority = self.authority(patience=evolve(QUICK, solver=0.1))
            await authority.issue(NAME, key(), {"http-01": self.solver})
