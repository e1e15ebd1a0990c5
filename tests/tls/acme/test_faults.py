"""CAs that are down, slow, wrong or limiting: what is told, and that nothing is left behind."""

from __future__ import annotations

import email.utils
import time
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from dcrouter.errors import AcmeUnreachable, TlsError
from dcrouter.tls.acme.client import TRIES
from tests.support.acmeca import CUT, ENDLESS, HALF, HUGE, SILENT, URN, AcmeCa, Says, problem
from tests.support.certificates import Authority as Certificates
from tests.support.hole import Hole
from tests.support.ports import Reserved
from tests.support.serving import listen
from tests.tls.acme.cases import AGENT, NAME, QUICK, FaultCase
from tests.tls.acme.test_pebble import key, names_of


class _Plain(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.transport.loseConnection()


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

    async def test_no_tls(self) -> None:
        """A port of plain HTTP: in a few words."""
        factory = Factory.forProtocol(_Plain)
        factory.noisy = False
        port = listen(factory)
        self.addCleanup(port.stopListening)
        error = await self.fails(AcmeUnreachable, url=f"https://127.0.0.1:{port.getHost().port}/dir")
        self.assertRegex(str(error), "/dir: TLS failed: [a-z, ]+$")

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
        self.patch(
            self.ca.authority, "signed", lambda request, days: signed(request, days=days, without="b.example.com")
        )
        error = await self.fails(names=("a.example.com", "b.example.com"))
        self.assertIn("a certificate that is not for b.example.com", str(error))
