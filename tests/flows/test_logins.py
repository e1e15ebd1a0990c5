"""Who may send, through the whole service: verifiers that `passwd` made, tokens with fetched keys, slapd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.issuer import AUDIENCE, CLIENT, ISSUER, SECRET, Issuer, said
from tests.support.router import Router, until
from tests.support.scramclient import ScramClient
from tests.support.slapd import ADMIN, ADMIN_PASSWORD, BASE, Slapd
from tests.support.tlsline import TlsLine, challenge

TEXT = """
email:
  hostname: mail.example.test
  ports: [{port: $smtps, kind: smtps}]
  auth: {users_file: users.yaml, %s}
  rules:
    - {name: ours, match: {clients: authenticated}, action: {type: deliver, maildir: "maildir/{recipient}"}}
"""
SIGNED = 'oauth2: {jwks_url: "%s", issuer: "%s", audience: "%s"}'
ASKED = 'oauth2: {introspection_url: "http://%s:%s@%s"}'
LDAP = 'ldap: {url: "ldap://127.0.0.1:%d", bind_dn: "%s", bind_password: {file: ldap.pw}, base_dn: "%s"}'
NAME = "carol@x.test"


def bearer(client: TlsLine, account: str, token: str) -> str:
    client.say("AUTH XOAUTH2")
    reply = client.respond(said("XOAUTH2", account, token))
    return (client.respond(b"") if reply.startswith("334") else reply)[:9]


def proof(client: TlsLine, password: str) -> str:
    """By SCRAM-SHA-256-PLUS."""
    scram = ScramClient(NAME, password, flag="p=tls-exporter", binding=client.binding("tls-exporter"))
    client.say("AUTH SCRAM-SHA-256-PLUS")
    reply = client.respond(scram.final(challenge(client.respond(scram.first()))))
    return (client.say("") if reply.startswith("334") else reply)[:9]


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.issuer = Issuer(self.addCleanup)
        self.signed = SIGNED % (self.issuer.jwks_url, ISSUER, AUDIENCE)
        self.router = Router(
            TEXT % self.signed, ports=("smtps",), start=False, expected=["killed by SIGKILL", "postmaster"]
        )
        self.addCleanup(self.router.close)
        made = subprocess.run(
            [sys.executable, "-m", "dcrouter.admin.cli", "passwd", NAME],
            input=b"p\xc3\xa4ss\n",
            capture_output=True,
            timeout=240,
            check=True,
        )
        (self.router.base / "users.yaml").write_bytes(made.stdout)
        (self.router.base / "ldap.pw").write_text(ADMIN_PASSWORD + "\n")
        self.router.start()

    def connect(self) -> TlsLine:
        client = TlsLine(self.router.ports["smtps"])
        self.addCleanup(client.close)
        return client

    def test_sources_come_and_go(self) -> None:
        """SCRAM with the verifier of `passwd`; tokens by keys that come, and outlive a killed mail process; a reload to
        introspection and to a directory, while who is logged in goes on.
        """
        self.assertIn("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN OAUTHBEARER XOAUTH2", self.connect().hello)
        self.assertEqual(proof(self.connect(), "p\u00e4ss"), "235 2.7.0")
        self.assertEqual(proof(self.connect(), "pass"), "535 5.7.8")
        until(lambda: self.issuer.asked)
        until(lambda: bearer(self.connect(), "dave@x.test", self.issuer.token()) == "235 2.7.0")
        os.kill(self.router.pids()["mail"], signal.SIGKILL)

        def again() -> bool:
            try:
                return bearer(self.connect(), "dave@x.test", self.issuer.token()) == "235 2.7.0"
            except Exception:  # there is no mail process for a moment
                return False

        until(again)
        living = self.connect()
        self.assertEqual(bearer(living, "dave@x.test", self.issuer.token()), "235 2.7.0")

        self.issuer.active["opaque"] = {"active": True, "email": "eve@x.test"}
        place = self.issuer.introspection_url.removeprefix("http://")
        client, secret = CLIENT.replace(" ", "%20"), SECRET.replace(":", "%3A").replace("/", "%2F")
        self.router.write(TEXT % (ASKED % (client, secret, place)))
        self.assertEqual(self.router.reload()["problems"], [])
        self.assertEqual(bearer(self.connect(), "eve@x.test", "opaque"), "235 2.7.0")
        self.assertEqual(bearer(self.connect(), "dave@x.test", self.issuer.token()), "535 5.7.8")

        slapd = Slapd()
        self.addCleanup(slapd.close)
        self.router.write(TEXT % (LDAP % (slapd.port, ADMIN, BASE)))
        self.assertEqual(self.router.reload()["problems"], [])
        erin = self.connect()
        self.assertIn("250-AUTH PLAIN LOGIN\n", erin.hello)
        self.assertEqual(erin.say("AUTH PLAIN AGVyaW5AeC50ZXN0AHNlY3JldA==")[:9], "235 2.7.0")
        self.assertEqual(erin.say("MAIL FROM:<dave@x.test>")[:9], "553 5.7.1")
        self.assertEqual(living.say("MAIL FROM:<dave@x.test>")[:9], "250 2.1.0")

        explained = self.router.command_line(
            "explain", "mail", "--from", "erin@x.test", "--to", "b@y.test", "--auth", "erin@x.test"
        )
        self.assertEqual(explained.returncode, 0, explained.stdout + explained.stderr)
        self.assertIn("250", explained.stdout)
        everything = (self.router.base / "out.log").read_text() + explained.stdout
        for word in (ADMIN_PASSWORD, "opaque", "s%3Ae%2Fc", SECRET, "SCRAM-SHA-256$"):
            self.assertNotIn(word, everything)

    def test_a_new_key_of_the_issuer(self) -> None:
        """The mail process misses it, the parent fetches the set again, and the login that waits is good."""
        until(lambda: bearer(self.connect(), "dave@x.test", self.issuer.token()) == "235 2.7.0")
        self.issuer.keys["two"] = ec.generate_private_key(ec.SECP256R1())
        until(lambda: bearer(self.connect(), "dave@x.test", self.issuer.token(kid="two")) == "235 2.7.0")
