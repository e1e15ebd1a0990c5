"""Certificates of clients through the whole service: curl in front, and an operator who revokes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority, write
from tests.support.peers import require
from tests.support.router import Router, until

TEXT = """
routes:
  - name: members
    match: {ports: $tls, domains: [members.example.test]}
    tls: {mode: terminate, certificate: internal, client_auth: {ca: $files/ca.pem, crl: $files/crl.pem}}
    action: {type: respond, body: "Welcome."}
"""


class ClientAuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = Path(tempfile.mkdtemp())
        self.authority = Authority("members")
        self.alice = self.authority.credential(["alice.example"])
        write(self.alice, self.files, "alice")
        self.put("ca.pem", self.authority.root_pem)
        self.put("crl.pem", b"".join(self.authority.revocations()))
        self.router = Router(TEXT, ports=("tls",), files=self.files, expected=("what was read before stays in use",))
        self.addCleanup(self.router.close)

    def put(self, name: str, data: bytes) -> None:
        (self.files / "new").write_bytes(data)
        os.replace(self.files / "new", self.files / name)

    def curl(self, *options: str) -> tuple[int, str]:
        """Exit status and body."""
        port = self.router.ports["tls"]
        name = "members.example.test"
        argv = [require("curl"), "-sS", "--max-time", "100", "--cacert", str(self.router.state / "internal-ca/ca.pem")]
        argv += ["--resolve", f"{name}:{port}:127.0.0.1", *options, f"https://{name}:{port}/"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout

    def test_members_come_in_until_they_are_revoked(self) -> None:
        """A list that is replaced on the disk holds within seconds; a broken one changes nothing."""
        mine = ("--cert", str(self.files / "alice.pem"), "--key", str(self.files / "alice.key"))
        self.assertEqual(self.curl(*mine), (0, "Welcome."))
        self.assertNotEqual(self.curl()[0], 0)
        line = self.router.access(1, client_certificate="CN=alice.example")[0]
        self.assertEqual((line["route"], line["sni"]), ("members", "members.example.test"))
        self.router.access(1, reason="TLS handshake: peer did not return a certificate")
        self.put("crl.pem", b"nothing at all")
        until(lambda: self.router.said("what was read before stays in use"))
        self.assertEqual(self.curl(*mine), (0, "Welcome."))
        self.put("crl.pem", b"".join(self.authority.revocations(self.alice)))
        until(lambda: self.curl(*mine)[0] != 0, pause=0.5)
        self.assertTrue(self.router.said("client_auth.crl: .* has changed"))
        self.router.access(1, reason="TLS handshake: certificate revoked")
