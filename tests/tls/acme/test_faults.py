"""CAs that are down, slow, wrong, limiting or gone in the middle: what is told, and that nothing is left behind."""

from __future__ import annotations

import email.utils
import time
from typing import Any

from attrs import evolve
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dcrouter import __version__
from dcrouter.errors import AcmeError, AcmeUnreachable, TlsError
from dcrouter.tls.acme.authority import Authority
from dcrouter.tls.acme.client import TRIES
from dcrouter.tls.acme.waiting import Patience
from tests.support.acmeca import CUT, ENDLESS, HALF, HELD, HUGE, LOST, SILENT, URN, AcmeCa, Says, problem
from tests.support.certificates import Authority as Certificates
from tests.support.facts import until
from tests.support.hole import Hole
from tests.support.router import Reserved
from tests.tls.acme.solvers import Remembering, Stuck
from tests.tls.acme.test_pebble import key, names_of

QUICK = Patience(connect=5, answer=5, solver=5, validation=5, issuance=5, pause=0.01, pause_at_most=0.05)
NAME = ("a.example.com",)
AGENT = f"dcrouter/{__version__}"


class FaultCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.ca = AcmeCa(self)
        self.solver = Remembering()

    def authority(self, ca: AcmeCa | None = None, **settings: Any) -> Authority:
        ca = ca or self.ca
        settings = {"trust": ca.trust, "patience": QUICK, **settings}
        authority = Authority(reactor, settings.pop("url", ca.url), settings.pop("key", None) or key(), **settings)
        self.addCleanup(authority.close)
        return authority

    async def fails(self, kind: type[AcmeError] = AcmeError, names: tuple[str, ...] = NAME, **settings: Any) -> Any:
        """The error of an order, for which everything is cleaned up."""
        with self.assertRaises(kind) as caught:
            await self.authority(**settings).issue(names, key(), {"http-01": self.solver})
        self.assertEqual(self.solver.shown, {})
        return caught.exception


class UnreachableTests(FaultCase):
    async def test_down(self) -> None:
        """Nobody listens."""
        place = Reserved()
        self.addCleanup(place.close)
        error = await self.fails(AcmeUnreachable, url=f"https://127.0.0.1:{place.port}/dir")
        self.assertIn(f"https://127.0.0.1:{place.port}/dir: no connection: Connection was refused", str(error))
        self.assertTrue(error.temporary)

    async def test_nobody_answers(self) -> None:
        """An address that takes no connection: the time for one is over, or somebody cancels."""
        place = Hole(self)
        url = f"https://127.0.0.1:{place.port}/dir"
        error = await self.fails(AcmeUnreachable, url=url, patience=evolve(QUICK, connect=0.2))
        self.assertIn("no connection: ", str(error))
        error = await self.fails(AcmeUnreachable, url=url, patience=evolve(QUICK, answer=0.2))
        self.assertIn("no answer within 0.2 s", str(error))
        running = Deferred.fromCoroutine(self.authority(url=url).register())
        running.cancel()
        await self.assertFailure(running, CancelledError)

    async def test_no_such_host(self) -> None:
        """A name without address."""
        error = await self.fails(AcmeUnreachable, url="https://nowhere.invalid/dir")
        self.assertIn("its host has no address", str(error))

    async def test_not_believed(self) -> None:
        """Signed by nobody whom we believe, or for another name: no request is made."""
        for ca, settings, reason in (
            (self.ca, {"trust": Certificates().root_pem}, "certificate verify failed: "),
            (AcmeCa(self, "a.test", "b.test"), {}, "not for localhost but for a.test, b.test"),
            (AcmeCa(self, "a.test"), {"trust": None}, "certificate verify failed: "),
        ):
            error = await self.fails(AcmeUnreachable, ca=ca, **settings)
            self.assertIn(reason, str(error))
            self.assertEqual(ca.asked, [])

    async def test_nobody_to_believe(self) -> None:
        """A file of authorities without any is told at once."""
        with self.assertRaises(TlsError):
            self.authority(trust=b"none here")

    async def test_by_address(self) -> None:
        """A directory may be at an address, which its certificate has to name."""
        authority = self.authority(url=f"https://127.0.0.1:{self.ca.port}/directory")
        await authority.register()
        six = AcmeCa(self, "::1", address="::1")
        self.assertEqual(six.url, f"https://[::1]:{six.port}/directory")
        await self.authority(six).issue(NAME, key(), {"http-01": self.solver})
        other = AcmeCa(self, "localhost")
        error = await self.fails(AcmeUnreachable, ca=other, url=f"https://127.0.0.1:{other.port}/directory")
        self.assertIn("not for 127.0.0.1 but for localhost", str(error))

    async def test_only_https(self) -> None:
        """Neither the directory nor what it names is asked in clear."""
        error = await self.fails(AcmeUnreachable, url="http://localhost/dir")
        self.assertIn("is no https URL", str(error))
        places = dict.fromkeys(("newNonce", "newAccount", "newOrder"), "http://localhost:1/x")
        self.ca.behave("directory", Says(200, places))
        error = await self.fails(AcmeUnreachable)
        self.assertIn("'http://localhost:1/x' is no https URL", str(error))

    async def test_answers_that_are_none(self) -> None:
        """Silence, at once or in a body; an end in the middle; too much; no JSON; JSON of the wrong shape."""
        for temper, reason in (
            (SILENT, "no answer within 0.5 s"),
            (ENDLESS, "no answer within 0.5 s"),
            (HALF, "the answer is broken off"),
            (HUGE, "larger than 1048576 octets"),
            (Says(200, b"<html>"), "was answered with 200 and no JSON object"),
            (Says(200, b"[]"), "was answered with 200 and no JSON object"),
            (Says(200, b"[" * 100000), "was answered with 200 and no JSON object"),
            (Says(200, {"newNonce": 1}), "'newNonce' of the answer is not a string"),
            (Says(200, {"newNonce": "https://[::1"}), "the answer has a URL that is none"),
            (Says(200, {}, {"Location": b"https://[\xff"}), "the answer has a URL that is none"),
            (Says(502, b"<html>"), "answered /directory with 502"),
            (Says(404, problem("malformed", "no\nsuch\x1b[0m thing").body), "refuses: no such [0m thing (malformed)"),
        ):
            self.ca.behave("directory", temper)
            silent = temper in (SILENT, ENDLESS)
            error = await self.fails(patience=evolve(QUICK, answer=0.5) if silent else QUICK)
            self.assertIn(reason, " ".join(str(error).split()))
        self.assertEqual(self.solver.log, [])

    async def test_a_connection_that_ended_meanwhile(self) -> None:
        """Is one more request and no error; a second time it is one."""
        self.ca.behave("order", CUT)
        chain = await self.authority().issue(NAME, key(), {"http-01": self.solver})
        self.assertEqual(names_of(chain), list(NAME))
        self.ca.behave("order", CUT, CUT)
        error = await self.fails(AcmeUnreachable)
        self.assertIn("the connection ended before the answer", str(error))

    async def test_no_nonce(self) -> None:
        """A CA that gives none cannot be asked anything."""
        self.ca.behave("nonce", Says(503, b"", {"Retry-After": "7"}))
        error = await self.fails()
        self.assertEqual((error.status, error.retry_after, error.temporary), (503, 7.0, True))


class RefusalTests(FaultCase):
    async def test_rate_limits(self) -> None:
        """With the time after which to come again, as seconds or as a date; nobody knocks again by himself."""
        date = email.utils.formatdate(time.time() + 3600, usegmt=True)
        for text, least, most in (("120", 120, 120), (date, 3500, 3601), (str(10**12), 604800, 604800)):
            self.ca.behave("order", problem("rateLimited", "too many certificates", 429, text))
            error = await self.fails()
            self.assertTrue(error.rate_limited)
            self.assertEqual((error.type, error.detail), ("rateLimited", "too many certificates"))
            self.assertTrue(least <= error.retry_after <= most, error.retry_after)
        self.assertEqual(self.ca.kinds().count("order"), 3)
        self.ca.behave("order", problem("rateLimited", "x", 429, "soon"))
        self.assertIsNone((await self.fails()).retry_after)

    async def test_which_name(self) -> None:
        """A CA that refuses an order says for which of its names."""
        subproblems = [
            {
                "type": URN + "rejectedIdentifier",
                "detail": "forbidden",
                "identifier": {"value": "b"},
            },
            {"type": 1, "identifier": []},
            7,
        ]
        self.ca.behave("order", problem("compound", "see below", subproblems=subproblems))
        error = await self.fails(names=("a", "b"))
        self.assertEqual(error.names, (("b", "rejectedIdentifier", "forbidden"),))
        self.assertIn("see below (compound); b: forbidden (rejectedIdentifier)", str(error))

    async def test_an_order_that_the_ca_gives_up(self) -> None:
        """After the certificate was asked for: its reason."""
        given_up = {
            "status": "invalid",
            "error": {"type": URN + "caa", "detail": "CAA forbids it"},
        }
        self.ca.behave("finalize", Says(200, given_up))
        self.ca.behave("order", None, None, Says(200, given_up))
        error = await self.fails()
        self.assertEqual(error.type, "caa")
        self.assertIn("given the order up: CAA forbids it (caa)", str(error))

    async def test_nonces(self) -> None:
        """Every answer's nonce is used, one is fetched only for the first request; refusals end some time."""
        await self.authority().issue(NAME, key(), {"http-01": self.solver})
        self.assertEqual(self.ca.kinds().count("nonce"), 1)
        self.assertEqual(self.ca.kinds().count("directory"), 1)
        self.assertTrue(all(one.headers.getRawHeaders("User-Agent") == [AGENT] for one in self.ca.asked))
        self.ca.asked.clear()
        self.ca.behave("order", problem("badNonce"), times=TRIES)
        error = await self.fails()
        self.assertEqual((error.type, error.temporary), ("badNonce", True))
        self.assertEqual((self.ca.kinds().count("order"), self.ca.kinds().count("nonce")), (TRIES, 1))

    async def test_an_account_that_the_ca_has_forgotten(self) -> None:
        """Is made anew within the request."""
        authority = self.authority()
        await authority.register()
        self.ca.forget_accounts()
        self.ca.behave("order", problem("accountDoesNotExist"))
        await authority.issue(NAME, key(), {"http-01": self.solver})
        made = [{"onlyReturnExisting": True}, {"termsOfServiceAgreed": True}]
        self.assertEqual(self.ca.payloads("account"), made * 2)

    async def test_a_contact_that_is_not_taken(self) -> None:
        """Is no reason to be without certificates."""
        own = key()
        await self.authority(key=own, email="a@example.com").register()
        self.ca.behave("account", None, problem("invalidContact"))
        self.assertTrue(await self.authority(key=own, email="b@example").register())

    async def test_contact(self) -> None:
        """An account that is known under another address is told the new one; one that is right is left alone."""
        own = key()
        await self.authority(key=own, email="a@example.com").register()
        await self.authority(key=own, email="b@example.com").register()
        self.ca.asked.clear()
        await self.authority(key=own, email="b@example.com").register()
        self.assertEqual(self.ca.kinds(), ["directory", "nonce", "account"])


class CertificateTests(FaultCase):
    async def test_what_is_not_what_was_asked_for(self) -> None:
        """Other keys, other names, times that are over, chains that are none."""
        authority = self.ca.authority

        def other(names: tuple[str, ...] = NAME, **settings: Any) -> Says:
            return Says(200, authority.credential(names, **settings).chain)

        for said, reason in (
            (other(), "a certificate of another key"),
            (Says(200, b""), "a chain of 0 certificates"),
            (Says(200, authority.intermediate_pem * 20), "a chain of 20 certificates"),
            (Says(200, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "a chain that is none"),
        ):
            self.ca.behave("certificate", said)
            self.assertIn(reason, str(await self.fails()))
        self.ca.days = -1
        self.assertIn("has expired", str(await self.fails()))
        self.ca.days = 90
        self.assertIn("not valid yet", str(await self.fails()))
        self.ca.days = 30
        self.ca.authority = Certificates()
        self.ca.authority.intermediate = Certificates().intermediate
        self.assertIn("a chain that is none", str(await self.fails()))

    async def test_a_name_that_is_missing(self) -> None:
        """The CA is slow to say so, but says for whom it is."""
        signed = self.ca.authority.signed
        self.ca.authority.signed = lambda request, days: signed(request, days=days, without="b.example.com")
        error = await self.fails(names=("a.example.com", "b.example.com"))
        self.assertIn("a certificate that is not for b.example.com", str(error))


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


class RenewalTests(FaultCase):
    def leaf(self) -> x509.Certificate:
        return self.ca.authority.credential(NAME).certificates()[0]

    async def test_the_window(self) -> None:
        """Start, end and reason, and when to ask again: as the CA says within bounds, else after six hours."""
        window = {"start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00.5+00:00"}
        self.ca.renewal = {"suggestedWindow": window, "explanationURL": "https://ca.test/why"}
        for said, again in ((None, 21600.0), ("1", 60.0), ("7200", 7200.0), ("10000000", 86400.0)):
            self.ca.retry_after = said
            info = await self.authority().renewal_info(self.leaf())
            self.assertEqual((info.start, info.end), (1735790400.0, 1735876800.5))
            self.assertEqual((info.explanation_url, info.retry_after), ("https://ca.test/why", again))

    async def test_windows_that_make_no_sense(self) -> None:
        """Are errors, and no instants."""
        for window in (
            {},
            {"start": "tomorrow", "end": "2025-01-03T04:00:00Z"},
            {"start": "2025-01-03T04:00:00", "end": "2025-01-04T04:00:00"},
            {"start": "2025-01-03T04:00:00Z", "end": "2025-01-02T04:00:00Z"},
            7,
        ):
            self.ca.renewal = {"suggestedWindow": window}
            with self.assertRaises(AcmeUnreachable):
                await self.authority().renewal_info(self.leaf())

    async def test_replaces(self) -> None:
        """The order says what it renews, where the CA has ARI; one that does not take it gets the order without."""
        await self.authority().issue(NAME, key(), {"http-01": self.solver}, replaces="a.b")
        self.ca.renewal = {}
        await self.authority().issue(NAME, key(), {"http-01": self.solver}, replaces="a.b")
        self.ca.behave("order", problem("alreadyReplaced", status=409))
        await self.authority().issue(NAME, key(), {"http-01": self.solver}, replaces="a.b")
        said = [one.get("replaces") for one in self.ca.payloads("order") if one is not None]
        self.assertEqual(said, [None, "a.b", "a.b", None])

    async def test_profiles(self) -> None:
        """One that the CA offers is in the order; another is no order at all."""
        self.ca.profiles = {"shortlived": "six days", "classic": "ninety"}
        await self.authority(profile="shortlived").issue(NAME, key(), {"http-01": self.solver})
        self.assertEqual(self.ca.payloads("order")[0]["profile"], "shortlived")
        error = await self.fails(profile="tlsserver")
        self.assertEqual(error.type, "invalidProfile")
        self.assertIn("it offers shortlived, classic", str(error))

    async def test_addresses(self) -> None:
        """Are identifiers of their own kind (RFC 8738)."""
        await self.authority().issue(("192.0.2.1", "2001:db8::1"), key(), {"http-01": self.solver})
        self.assertEqual([one["type"] for one in self.ca.payloads("order")[0]["identifiers"]], ["ip", "ip"])
