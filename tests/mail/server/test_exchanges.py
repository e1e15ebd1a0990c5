"""Every mechanism as a dialogue with `Login`: what is random, what fails, what counts, and what is given up."""

from __future__ import annotations

import random
from base64 import b64decode
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures, User
from dcrouter.config.directory import Introspection, OAuth2
from dcrouter.config.methods import ALL
from dcrouter.mail.envelope import Client
from dcrouter.mail.server import failures
from dcrouter.mail.server.login import Login
from dcrouter.wire.scram import Verifier
from tests.mail.server.accounts import HASHES
from tests.support.edge import Backend
from tests.support.scramclient import ScramClient
from tests.support.web import each, ok

CAROL = User(
    name="carol@x.test",
    password_hash=HASHES["secret"],
    scram=str(Verifier.make("secret", iterations=4096)),
)
HERE = Client(address="192.0.2.1", kind="submission")
PIECES = (
    b"n,,", b"y,,", b"p=tls-exporter,,", b"n=carol@x.test", b",r=abc", b"c=biws", b",p=", b"user=carol@x.test", b"\x01",
    b"auth=Bearer ", b"abc", b"\0", b"carol@x.test", b"secret", b"\xff", b"", b"=", b",",
)  # fmt: skip


class ExchangeTests(TestCase):
    def login(self, **auth: Any) -> Login:
        issuer = Backend(self, each(lambda asked: ok(b'{"active": false}')))
        oauth2 = OAuth2(introspection_url=Introspection(f"http://127.0.0.1:{issuer.port}/"))
        auth.setdefault("failures", AuthFailures(max=100_000))
        login = Login(Auth(users=(CAROL,), oauth2=oauth2, **auth), reactor)
        login.open()
        self.addCleanup(login.close)
        return login

    def begin(self, login: Login, mechanism: str, client: Client = HERE) -> Any:
        return login.begin(mechanism, client, "s", lambda: {"tls-exporter": b"x" * 32}, login.offered())

    async def test_no_octets_break_it(self) -> None:
        """Whatever is said by whatever mechanism: a challenge or an end of RFC 4954, and nobody is in."""
        self.patch(failures, "LONGEST_DELAY", 0.0)
        login = self.login()
        self.assertEqual(login.offered(), ALL)
        chance = random.Random(4954)
        for number in range(300):
            mechanism = ALL[number % len(ALL)]
            exchange = self.begin(login, mechanism)
            response: bytes | None = None
            for _ in range(6):
                verdict = await exchange.receive(response)
                self.assertTrue(verdict.reply.endswith(b"\r\n"))
                self.assertIn(verdict.reply[:3], (b"334", b"501", b"535"), (mechanism, response))
                self.assertIsNone(verdict.user)
                if not verdict.reply.startswith(b"334"):
                    break
                response = b"".join(chance.choice(PIECES) for _ in range(chance.randrange(7)))

    async def test_proofs_and_tokens_count_as_passwords_do(self) -> None:
        """Wrong ones slow the account and ban the address; a token that names nobody slows nobody."""
        login = self.login(failures=AuthFailures(max=6))
        tables = login._failures
        for mechanism in ("SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"):
            before = tables._by_account.copy()
            exchange = self.begin(login, mechanism)
            if mechanism == "SCRAM-SHA-256":
                scram = ScramClient("carol@x.test", "wrong")
                challenge = await exchange.receive(scram.first())
                verdict = await exchange.receive(scram.final(_octets(challenge.reply)))
                self.assertEqual(verdict.reply[:3], b"535")
            else:
                head = b"user=carol@x.test" if mechanism == "XOAUTH2" else b"n,a=carol@x.test,"
                verdict = await exchange.receive(head + b"\x01auth=Bearer abc\x01\x01")
                self.assertEqual(verdict.reply[:3], b"334")
            self.assertNotEqual(tables._by_account, before)
        self.assertGreater(tables.delay("198.51.100.1", "carol@x.test"), 0)
        before = tables._by_account.copy()
        for _ in range(3):
            await self.begin(login, "OAUTHBEARER").receive(b"n,,\x01auth=Bearer abc\x01\x01")
        self.assertEqual(tables._by_account, before)
        self.assertTrue(login.banned(HERE.address))

    async def test_a_changed_verifier_counts_at_once(self) -> None:
        """Also between the challenge and the proof: that is of the old password."""
        login = self.login()
        exchange = self.begin(login, "SCRAM-SHA-256")
        scram = ScramClient("carol@x.test", "secret")
        challenge = await exchange.receive(scram.first())
        fresh = evolve(CAROL, scram=str(Verifier.make("other", iterations=4096)))
        login.reload(Auth(users=(fresh,)))
        verdict = await exchange.receive(scram.final(_octets(challenge.reply)))
        self.assertEqual(verdict.reply[:9], b"535 5.7.8")

    async def test_what_breaks_is_answered(self) -> None:
        """A defect in a source is in the log, and 454 4.7.0 for the client, which is not banned for it."""
        login = self.login(failures=AuthFailures(max=1))
        login._portal.checkers.clear()
        verdict = await self.begin(login, "PLAIN").receive(b"\0carol@x.test\0secret")
        self.assertEqual(verdict.reply[:9], b"454 4.7.0")
        self.assertFalse(login.banned(HERE.address))
        self.assertEqual(len(self.flushLoggedErrors()), 1)


def _octets(reply: bytes) -> bytes:
    """What a 334 says."""
    return b64decode(reply[4:])
