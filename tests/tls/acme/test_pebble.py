"""The client against Pebble, strict: what Let's Encrypt's own small CA takes."""

from __future__ import annotations

import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.acme import hmac_key
from dcrouter.errors import AcmeError
from dcrouter.tls.acme.authority import Authority
from dcrouter.tls.acme.external import ExternalAccount
from dcrouter.tls.acme.jws import AccountKey
from tests.support.pebble import EXTERNAL, ChallengeDns, Pebble
from tests.tls.acme.solvers import AlpnSolver, Failing, HttpSolver, Remembering


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def names_of(chain: bytes) -> list[str]:
    leaf = x509.load_pem_x509_certificate(chain)
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


class PebbleCase(TestCase):
    settings: dict[str, Any] = {}
    dns: ChallengeDns
    pebble: Pebble

    @classmethod
    def setUpClass(cls) -> None:
        cls.dns = ChallengeDns()
        cls.addClassCleanup(cls.dns.close)
        cls.pebble = Pebble(cls.dns.dns, **cls.settings)
        cls.addClassCleanup(cls.pebble.close)

    def authority(self, account_key: Any = None, **settings: Any) -> Authority:
        settings.setdefault("trust", self.pebble.trust)
        authority = Authority(reactor, self.pebble.url, account_key or key(), **settings)
        self.addCleanup(authority.close)
        return authority

    def http(self) -> HttpSolver:
        solver = HttpSolver(self.pebble.http.port)
        self.addCleanup(solver.listener.stopListening)
        return solver

    def alpn(self) -> AlpnSolver:
        solver = AlpnSolver(self.pebble.tls.port)
        self.addCleanup(solver.listener.stopListening)
        return solver


class IssueTests(PebbleCase):
    async def test_http(self) -> None:
        """Two names in one order by http-01; what was shown is gone afterwards."""
        solver, own = self.http(), key()
        told: list[str] = []
        names = ("a.example.com", "b.example.com")
        chain = await self.authority(email="ops@example.com").issue(names, own, {"http-01": solver}, told=told.append)
        self.assertEqual(sorted(names_of(chain)), list(names))
        leaf, *issuers = x509.load_pem_x509_certificates(chain)
        self.assertEqual(leaf.public_key(), own.public_key())
        self.assertTrue(issuers)
        self.assertEqual(solver.shown, {})
        self.assertEqual(sorted(solver.log), [(what, name) for what in ("cleanup", "present") for name in names])
        self.assertIn("a.example.com is proved (http-01)", told)
        self.assertGreater(leaf.not_valid_after_utc.timestamp(), time.time())

    async def test_tls_alpn(self) -> None:
        """The first of the solvers that the CA has a challenge for is taken."""
        solver, other = self.alpn(), Remembering()
        chain = await self.authority().issue(("c.example.com",), key(), {"tls-alpn-01": solver, "http-01": other})
        self.assertEqual(names_of(chain), ["c.example.com"])
        self.assertEqual((solver.shown, other.log), ({}, []))

    async def test_one_that_cannot_present_leaves_it_to_the_next(self) -> None:
        """The CA has not been told to look, so the authorization is as good as before."""
        failing, solver = Failing(), self.http()
        solvers = {"tls-alpn-01": failing, "http-01": solver}
        chain = await self.authority().issue(("d.example.com",), key(), solvers)
        self.assertEqual(names_of(chain), ["d.example.com"])
        self.assertEqual(failing.shown, {})

    async def test_key_types(self) -> None:
        """Accounts and certificates by ECDSA P-384 and RSA."""
        solver = self.http()
        for account, own in (
            (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)),
            (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())),
        ):
            chain = await self.authority(account).issue(("e.example.com",), own, {"http-01": solver})
            self.assertEqual(x509.load_pem_x509_certificate(chain).public_key(), own.public_key())

    async def test_a_name_that_is_not_proved_is_told(self) -> None:
        """With the CA's own words; the others are proved all the same, and everything is cleaned up."""
        solver, idle = self.http(), Remembering()

        class Half(Remembering):
            async def present(self, name: str, token: str, key_authorization: str) -> None:
                await (idle if name.startswith("bad") else solver).present(name, token, key_authorization)

            async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
                await (idle if name.startswith("bad") else solver).cleanup(name, token, key_authorization)

        told: list[str] = []
        names = ("bad1.example.com", "good.example.com", "bad2.example.com")
        with self.assertRaises(AcmeError) as caught:
            await self.authority().issue(names, key(), {"http-01": Half()}, told=told.append)
        error = caught.exception
        self.assertEqual(sorted(one.name for one in error.names), ["bad1.example.com", "bad2.example.com"])
        self.assertEqual(error.type, "unauthorized")
        self.assertIn("404", str(error))
        self.assertFalse(error.temporary)
        self.assertIn("good.example.com is proved (http-01)", told)
        self.assertEqual((solver.shown, idle.shown), ({}, {}))

    async def test_no_challenge_in_common(self) -> None:
        """A wildcard is proved by dns-01 and by nothing else."""
        with self.assertRaisesRegex(AcmeError, r"example.com: the CA offers dns-01, and here is http-01"):
            await self.authority().issue(("*.example.com",), key(), {"http-01": Remembering()})

    async def test_revoke(self) -> None:
        """Once, and a second time, which is no error."""
        solver, authority = self.http(), self.authority()
        chain = await authority.issue(("f.example.com",), key(), {"http-01": solver})
        leaf = x509.load_pem_x509_certificate(chain)
        await authority.revoke(leaf, 4)
        await authority.revoke(leaf, 4)
        with self.assertRaisesRegex(AcmeError, "refuses"):
            await self.authority().revoke(x509.load_pem_x509_certificate(self.pebble.trust), 0)

    async def test_no_ari_and_no_profiles(self) -> None:
        """A CA without them: no window, and a profile that was asked for is an error before there is an order."""
        self.assertIsNone(await self.authority().renewal_info(x509.load_pem_x509_certificate(self.pebble.trust)))
        with self.assertRaisesRegex(AcmeError, "no profile 'shortlived', it offers none"):
            await self.authority(profile="shortlived").issue(("g.example.com",), key(), {})


class AccountTests(PebbleCase):
    async def test_the_account_is_found_again(self) -> None:
        """By its key; another key is another account."""
        own = key()
        first = await self.authority(own, email="a@example.com").register()
        self.assertEqual(await self.authority(own, email="b@example.com").register(), first)
        self.assertNotEqual(await self.authority().register(), first)

    async def test_the_key_is_changed(self) -> None:
        """The account stays, and the old key has none any more."""
        old, new = key(), ec.generate_private_key(ec.SECP384R1())
        change = Change(new)
        authority = self.authority(old, change=change)
        account = await authority.register()
        await authority.change_key()
        self.assertEqual(change.changed, 1)
        with self.assertRaisesRegex(AcmeError, "no key that the account could have"):
            await authority.change_key()
        # Whoever was ended after the authority had done it, and before that was kept, finds out.
        change = Change(new)
        self.assertEqual(await self.authority(old, change=change).register(), account)
        self.assertEqual(change.changed, 1)
        again = self.authority(old, change=(change := Change(new)))
        await again.change_key()
        self.assertEqual(change.changed, 1)
        self.assertEqual(await self.authority(new).register(), account)
        self.assertNotEqual(await self.authority(old).register(), account)
        chain = await authority.issue(("h.example.com",), key(), {"http-01": self.http()})
        self.assertEqual(names_of(chain), ["h.example.com"])


class Change:
    """Of a key to another, which is kept nowhere. `changed`: how often it was done."""

    def __init__(self, key: AccountKey) -> None:
        self._key: AccountKey | None = key
        self.changed = 0

    def next(self) -> AccountKey | None:
        return self._key

    def done(self) -> None:
        self._key = None
        self.changed += 1


class ExternalTests(PebbleCase):
    settings = {"external": True}

    def external(self, key_id: str, text: str) -> ExternalAccount:
        return ExternalAccount(key_id=key_id, hmac_key=hmac_key(text))

    async def test_bound_to_an_external_account(self) -> None:
        """With its key there is an account; without one it is told what is missing, with a wrong one the CA's words."""
        await self.authority(external_account=self.external(*EXTERNAL)).register()
        with self.assertRaisesRegex(AcmeError, "external account") as caught:
            await self.authority().register()
        self.assertEqual(caught.exception.type, "externalAccountRequired")
        with self.assertRaises(AcmeError) as caught:
            await self.authority(external_account=self.external("kid-1", "AAAA")).register()
        self.assertEqual(caught.exception.status, 403)


class NonceTests(PebbleCase):
    settings = {"rejects": 40}

    async def test_refused_nonces_are_replaced(self) -> None:
        """A CA that refuses four of ten good nonces gives certificates all the same."""
        solver = self.http()
        chain = await self.authority().issue(("i.example.com", "j.example.com"), key(), {"http-01": solver})
        self.assertEqual(sorted(names_of(chain)), ["i.example.com", "j.example.com"])


class ManyTests(PebbleCase):
    settings = {"believes": True}

    async def test_fifty_names(self) -> None:
        """In one order, proved some at once."""
        solver = Remembering()
        names = tuple(f"n{number}.example.com" for number in range(50))
        chain = await self.authority().issue(names, key(), {"http-01": solver})
        self.assertEqual(set(names_of(chain)), set(names))
        self.assertEqual((solver.shown, len(solver.log)), ({}, 100))
