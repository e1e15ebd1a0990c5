"""Who may pass, through the whole service: what the parent reads and fetches, the edge knows."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from typing import Any

import bcrypt
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.edge import Backend, read_anyhow
from tests.support.router import Router, until
from tests.support.web import Message, each, ok

TEXT = """
routes:
  - name: users
    match: {ports: $users}
    security: {basic_auth: {users_file: users}}
    action: {type: static, root: www}
  - name: tokens
    match: {ports: $tokens}
    security: {jwt: {jwks_url: "http://localhost:$issuer/keys", algorithms: [ES256]}}
    action: {type: respond, body: in}
  - name: asked
    match: {ports: $asked}
    security: {forward_auth: {url: "http://localhost:$authority/"}, request_rate: 1000/s}
    action: {type: respond, body: in}
"""
BEFORE = (
    TEXT.partition("  - name: users")[0]
    + "  - {name: free, match: {ports: $asked}, action: {type: respond, body: free}}\n"
)


def hashed(password: str) -> str:
    return "ann:" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode() + "\n"


class AuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.keys: dict[str, Any] = {}
        self.add("one")
        self.fetched = 0
        issuer = Backend(self, each(self.issue))
        authority = Backend(
            self, each(lambda asked: ok(b"", status=b"200 OK" if b"good=1" in asked.head else b"403 No"))
        )
        self.router = Router(
            BEFORE, ports=("users", "tokens", "asked"), issuer=issuer.port, authority=authority.port, start=False
        )
        self.addCleanup(self.router.close)
        (self.router.base / "www").mkdir()
        (self.router.base / "www" / "index.html").write_text("in")
        self.users = self.router.base / "users"
        self.users.write_text(hashed("old"))
        self.router.start()

    def add(self, kid: str) -> None:
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def issue(self, asked: Message) -> bytes:
        self.fetched += 1
        keys = [
            {**json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key())), "kid": kid}
            for kid, key in self.keys.items()
        ]
        return ok(json.dumps({"keys": keys}).encode())

    def status(self, name: str, line: str = "X-Y: z") -> int:
        with self.router.connect(name) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{line}\r\n\r\n".encode())
            return int(read_anyhow(sock).split(b" ")[1])

    def login(self, password: str) -> int:
        text = base64.b64encode(f"ann:{password}".encode()).decode()
        return self.status("users", f"Authorization: Basic {text}")

    def token(self, kid: str) -> int:
        text = jwt.encode({"exp": time.time() + 60}, self.keys[kid], "ES256", {"kid": kid})
        return self.status("tokens", f"Authorization: Bearer {text}")

    def test_the_edge_knows_what_the_parent_knows(self) -> None:
        """After a reload, when files and keys change, and when another edge takes the place of the first."""
        self.assertEqual(self.status("asked"), 200)
        self.router.write(TEXT)
        self.assertTrue(self.router.reload()["ok"])
        self.assertEqual((self.login("old"), self.login("new"), self.status("users")), (200, 401, 401))
        self.assertEqual((self.status("asked"), self.status("asked", "X-A: good=1")), (403, 200))
        until(lambda: self.token("one") == 200)
        self.users.write_text(hashed("new"))
        until(lambda: self.login("new") == 200)
        self.assertEqual(self.login("old"), 401)
        self.add("two")
        self.router.expected.append("edge .* has died")
        before = self.router.pids()["edge"]
        os.kill(before, signal.SIGKILL)
        until(lambda: self.router.pids().get("edge", before) != before and self.router.status() is not None)
        until(lambda: self.token("one") == 200)
        self.assertEqual(self.login("new"), 200)
        until(lambda: self.token("two") == 200)

    def test_a_reload_that_cannot_be_says_why(self) -> None:
        """A file of users that is none changes nothing."""
        self.users.write_text("ann:secret\n")
        self.router.write(TEXT)
        self.router.expected.append("reload")
        answer = self.router.reload()
        self.assertFalse(answer["ok"])
        self.assertIn("users:1:1: 'ann' has no bcrypt or argon2id hash", answer["problems"][0])
        self.assertEqual(self.status("asked"), 200)
