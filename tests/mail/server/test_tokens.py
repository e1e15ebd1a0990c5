"""OAUTHBEARER and XOAUTH2 as a whole: a real issuer, tokens that are good and those that are not, and real clients."""

from __future__ import annotations

import json
import subprocess
import time
from base64 import b64encode
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.logger import formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures
from dcrouter.config.directory import Introspection, OAuth2
from dcrouter.config.forms import Secret
from dcrouter.mail.server import failures
from dcrouter.mail.server import issuer as module
from tests.mail.house import House, in_thread
from tests.mail.server.test_auth import ALICE, MAIL, OURS
from tests.support.facts import until
from tests.support.issuer import AUDIENCE, CLIENT, ISSUER, SECRET, Issuer, said
from tests.support.logged import logged
from tests.support.peers import require
from tests.support.tlsline import TlsLine, challenge

NAME = "dave@x.test"


def log_in(client: TlsLine, mechanism: str, token: str, account: str = NAME) -> tuple[str, ...]:
    """The replies of one login, the challenge of a refusal answered as its document says."""
    client.say(f"AUTH {mechanism}")
    reply = client.respond(said(mechanism, account, token))
    if not reply.startswith("334"):
        return (reply,)
    return reply, client.respond(b"\x01" if mechanism == "OAUTHBEARER" else b"")


class TokenCase(TestCase):
    def setUp(self) -> None:
        self.issuer = Issuer(self.addCleanup)

    def house(self, oauth2: OAuth2 | None = None, **auth: Any) -> House:
        if oauth2 is None:
            oauth2 = OAuth2(jwks_url=self.issuer.jwks_url, issuer=ISSUER, audience=(AUDIENCE,))
        house = House(self, OURS, auth=Auth(oauth2=oauth2, **auth))
        house.mta.key_sets.update({self.issuer.jwks_url: self.issuer.key_set()})
        return house

    def asking(self, **more: Any) -> OAuth2:
        place = Introspection(self.issuer.introspection_url, CLIENT, Secret(SECRET))
        return OAuth2(introspection_url=place, **more)

    async def replies(self, house: House, *logins: tuple[str, ...], mechanism: str = "OAUTHBEARER") -> list[str]:
        """The last replies' beginnings, each login on a connection of its own."""
        port = house.listen("smtps")

        def act() -> list[str]:
            found = []
            for login in logins:
                client = TlsLine(port)
                found.append(log_in(client, mechanism, *login)[-1][:9])
                client.close()
            return found

        return await in_thread(act)


class SignedTests(TokenCase):
    async def test_both_mechanisms(self) -> None:
        """With an initial response and without; the account may send as itself, and as nobody else (envelope, From)."""
        house = self.house()
        port = house.listen("smtps")

        def act() -> None:
            for mechanism in ("OAUTHBEARER", "XOAUTH2"):
                client = TlsLine(port)
                self.assertIn("250-AUTH OAUTHBEARER XOAUTH2\n", client.hello)
                self.assertEqual(log_in(client, mechanism, self.issuer.token())[0][:9], "235 2.7.0")
                self.assertEqual(client.say("MAIL FROM:<eve@x.test>")[:9], "553 5.7.1")
                self.assertEqual(client.say(f"MAIL FROM:<{NAME}>")[:3], "250")
                client.say("RCPT TO:<b@local.test>")
                client.say("DATA")
                self.assertEqual(client.say("From: eve@x.test\r\n\r\nx\r\n.")[:9], "550 5.7.1")
                client.close()

        await in_thread(act)
        self.assertEqual(house.mta.status()["logins"], 2)

    async def test_what_a_table_says_of_the_account_holds(self) -> None:
        """`may_send_as` of `users` is that of the same name with a token; and a claim is never a pattern."""
        house = self.house(users=(ALICE,))
        port = house.listen("smtps")

        def act() -> list[str]:
            found = []
            for name, sender in (
                ("Alice@x.test", "any@alice.test"),
                ("*@x.test", "eve@x.test"),
                ("re:.+@x.test", "eve@x.test"),
            ):
                client = TlsLine(port)
                log_in(client, "OAUTHBEARER", self.issuer.token(name), "")
                found.append(client.say(f"MAIL FROM:<{sender}>")[:3])
                client.close()
            return found

        self.assertEqual(await in_thread(act), ["250", "553", "553"])

    async def test_tokens_that_nobody_should_take(self) -> None:
        """RFC 8725: run out, of another issuer, for others, unsigned, by a secret, by another key, without a name,
        with an address that nobody has verified, of another account; each is 535, after a challenge with JSON.
        """
        issuer, make = self.issuer, self.issuer.token
        claims = {"email": NAME, "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}
        self.patch(module, "KEY_WITHIN", 0.1)
        self.patch(failures, "UNDELAYED", 1000)
        house = self.house(failures=AuthFailures(max=1000))
        replies = await self.replies(
            house,
            (make(exp=time.time() - 60),),
            (make(exp=None),),
            (make(iss="https://other.test"),),
            (make(iss=None),),
            (make(aud="other"),),
            (make(aud=None),),
            (make(email=None),),  # type: ignore[arg-type]
            (make(email=""), ""),
            (make(email_verified=False),),
            (make("eve@x.test"),),
            (make(nbf=time.time() + 600),),
            (jwt.encode(claims, "", "none"),),
            (jwt.encode(claims, issuer.key_set()[:64], "HS256", {"kid": "one"}),),
            (jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "one"}),),
            (jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "two"}),),
            ("a.b.c",),
            (f"{b64encode(b'[' * 5000).decode().rstrip('=')}.e30.eA",),
            ("opaque",),
            ("x" * 9000,),
        )
        self.assertEqual(replies, ["535 5.7.8"] * 19)
        self.assertEqual(await self.replies(house, (make(), ""), (make(), "DAVE@x.test")), ["235 2.7.0"] * 2)

    async def test_the_challenge_of_a_refusal(self) -> None:
        """RFC 7628 3.2.2: JSON, then 535 whatever comes; `*` ends it with 501."""
        port = self.house().listen("smtps")

        def act() -> None:
            client = TlsLine(port)
            first, last = log_in(client, "OAUTHBEARER", "bad")
            self.assertEqual(json.loads(challenge(first))["status"], "invalid_token")
            self.assertEqual(last[:9], "535 5.7.8")
            first, last = log_in(client, "XOAUTH2", "bad")
            self.assertEqual((json.loads(challenge(first))["status"], last[:9]), ("401", "535 5.7.8"))
            client.say("AUTH XOAUTH2")
            client.respond(said("XOAUTH2", NAME, "bad"))
            self.assertEqual(client.say("*")[:9], "501 5.7.0")
            self.assertEqual(client.say("AUTH XOAUTH2 dXNlcj0=")[:9], "501 5.5.2")
            self.assertEqual(client.say(f"MAIL FROM:<{NAME}>")[:9], "530 5.7.0")

        await in_thread(act)

    async def test_failures_count(self) -> None:
        """The address is banned by bad tokens, too; with a good one it is not listened to then."""
        house = self.house(failures=AuthFailures(max=2))
        replies = await self.replies(house, ("bad",), ("bad",))
        self.assertEqual(replies, ["535 5.7.8", "421 4.7.0"])
        self.assertEqual(house.mta.status()["banned"], 1)

    async def test_an_issuer_that_nobody_has_heard_of_yet(self) -> None:
        """454 4.7.0 and no failure of the client's: nobody is banned for it, and nobody let in."""
        house = self.house(failures=AuthFailures(max=1))
        house.mta.key_sets.update({})
        self.assertEqual(await self.replies(house, (self.issuer.token(),), ("bad",)), ["454 4.7.0"] * 2)
        self.assertEqual(house.mta.status()["banned"], 0)

    async def test_a_new_key_is_waited_for(self) -> None:
        """The first token that is signed with it is good, once the set that was asked for has come."""
        house = self.house()
        sets = house.mta.key_sets
        sets.wanted = lambda url: sets.update({url: self.issuer.key_set()})
        self.issuer.keys["two"] = ec.generate_private_key(ec.SECP256R1())
        self.assertEqual(await self.replies(house, (self.issuer.token(kid="two"),)), ["235 2.7.0"])

    async def test_a_reload_changes_what_is_taken(self) -> None:
        """Another audience, then no issuer at all; who is logged in stays so."""
        house = self.house()
        port = house.listen("smtps")
        client = await in_thread(TlsLine, port)
        self.assertEqual((await in_thread(log_in, client, "XOAUTH2", self.issuer.token()))[0][:3], "235")
        login = house.mta._login
        login.reload(Auth(oauth2=OAuth2(jwks_url=self.issuer.jwks_url, audience=("other",))))
        answers = await self.replies(house, (self.issuer.token(),), (self.issuer.token(aud="other"),))
        self.assertEqual(answers, ["535 5.7.8", "235 2.7.0"])
        login.reload(Auth(users=(ALICE,)))
        self.assertEqual(login.offered(), ("PLAIN", "LOGIN"))
        self.assertEqual((await in_thread(client.say, f"MAIL FROM:<{NAME}>"))[:3], "250")

    async def test_msmtp_and_curl(self) -> None:
        """Real clients by both mechanisms; a bad token is their error."""
        msmtp, curl = require("msmtp"), require("curl")
        house = self.house()
        port = house.listen("smtps")
        for token, good in ((self.issuer.token(), True), ("bad", False)):
            for mechanism in ("oauthbearer", "xoauth2"):
                with_msmtp = [
                    msmtp, "--host=127.0.0.1", f"--port={port}", "--tls=on", "--tls-starttls=off",
                    "--tls-certcheck=off", f"--auth={mechanism}", f"--user={NAME}", f"--from={NAME}",
                    f"--passwordeval=echo {token}", "b@local.test",
                ]  # fmt: skip
                with_curl = [
                    curl, "--silent", "--insecure", f"smtps://127.0.0.1:{port}", "--user", f"{NAME}:",
                    "--oauth2-bearer", token, "--login-options", f"AUTH={mechanism.upper()}",
                    "--mail-from", NAME, "--mail-rcpt", "b@local.test", "--upload-file", "-",
                ]  # fmt: skip
                for argv in (with_msmtp, with_curl):
                    mail = MAIL.replace("alice", "dave").encode()
                    done = await in_thread(subprocess.run, argv, input=mail, capture_output=True, timeout=240)
                    self.assertEqual(done.returncode == 0, good, (argv, done.stdout + done.stderr))
        await until(lambda: len(house.mails("b@local.test")) == 4)


class AskedTests(TokenCase):
    async def test_the_issuer_is_asked(self) -> None:
        """RFC 7662: as our client, by POST; what it affirms is remembered, what it denies is not; it decides."""
        self.issuer.active = {
            "good": {"active": True, "email": NAME},
            "late": {"active": True, "email": NAME, "exp": time.time() - 1},
            "text": {"active": "true", "email": NAME},
            "nobody": {"active": True},
            "eve": {"active": True, "email": "eve@x.test"},
        }
        house = self.house(self.asking())
        logins = [("good",), ("good",), ("late",), ("text",), ("nobody",), ("eve",), ("unknown",), ("unknown",)]
        replies = await self.replies(house, *logins)
        self.assertEqual(replies, ["235 2.7.0"] * 2 + ["535 5.7.8"] * 6)
        self.assertEqual(self.issuer.asked, ["good", "late", "text", "nobody", "eve", "unknown", "unknown"])

    async def test_issuer_and_audience_count_here_too(self) -> None:
        """Where they are told, the answer must say them; another claim may be the name."""
        self.issuer.active = {
            "good": {"active": True, "username": NAME, "iss": ISSUER, "aud": ["x", AUDIENCE]},
            "other": {"active": True, "username": NAME, "iss": "https://other.test", "aud": AUDIENCE},
            "none": {"active": True, "username": NAME, "iss": ISSUER},
        }
        house = self.house(self.asking(issuer=ISSUER, audience=(AUDIENCE,), user_claim="username"))
        replies = await self.replies(house, ("good",), ("other",), ("none",))
        self.assertEqual(replies, ["235 2.7.0", "535 5.7.8", "535 5.7.8"])

    async def test_an_issuer_that_does_not_answer(self) -> None:
        """Late, broken, refusing us, gone: 454 4.7.0 within its time, never a pass, and nobody is banned for it. The
        log says so once, and no token and no secret.
        """
        told = logged(self)
        self.patch(module, "WITHIN", 2.0)
        self.issuer.active = {"geheim": {"active": True, "email": NAME}}
        house = self.house(self.asking(), failures=AuthFailures(max=1))
        self.issuer.held.set()
        late = await self.replies(house, ("geheim",))
        self.issuer.held.clear()
        self.issuer.status = 500
        broken = await self.replies(house, ("geheim",))
        self.issuer.status = 200
        well = await self.replies(house, ("geheim",))
        await in_thread(self.issuer.close)
        remembered = await self.replies(house, ("geheim",))
        gone = await self.replies(house, ("other",))
        self.assertEqual(late + broken + gone, ["454 4.7.0"] * 3)
        self.assertEqual(well + remembered, ["235 2.7.0"] * 2)
        self.assertEqual(house.mta.status()["banned"], 0)
        lines = [formatEvent(event) for event in told]
        self.assertEqual(len([line for line in lines if "the issuer cannot be asked, no" in line]), 2)
        self.assertEqual(len([line for line in lines if "the issuer answers again" in line]), 1)
        everything = "".join(lines) + repr(told)
        for secret in ("geheim", SECRET, "s%3Ae%2Fc"):
            self.assertNotIn(secret, everything)

    async def test_questions_at_once_are_bounded(self) -> None:
        """Those beyond are told to come again."""
        self.patch(module, "AT_ONCE", 2)
        house = self.house(self.asking(), failures=AuthFailures(max=100))
        self.issuer.held.set()
        port = house.listen("smtps")

        def act(token: str) -> str:
            client = TlsLine(port)
            return log_in(client, "XOAUTH2", token)[-1][:9]

        waiting = [in_thread(act, f"t{number}") for number in range(2)]
        await until(lambda: len(self.issuer.asked) == 2)
        third = await in_thread(act, "t3")
        self.issuer.held.clear()
        first = await waiting[0]
        second = await waiting[1]
        self.assertEqual([first, second, third], ["535 5.7.8", "535 5.7.8", "454 4.7.0"])
