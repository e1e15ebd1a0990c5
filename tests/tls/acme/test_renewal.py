"""What the CA says of renewal, and what an order may have: replaces, profiles, addresses."""

from __future__ import annotations

from cryptography import x509

from dcrouter.errors import AcmeUnreachable
from tests.support.acmeca import problem
from tests.tls.acme.cases import NAME, FaultCase
from tests.tls.acme.test_pebble import key


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
            assert info is not None
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
