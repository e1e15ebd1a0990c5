"""Certificates of the operator's in a running service: replaced, broken, restarted with; on web, smtps and STARTTLS."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.tls import CertificateFiles
from dcrouter.tls.credential import Credential
from tests.support.certificates import Authority, write
from tests.support.ordering import leaf_of
from tests.support.router import Router, until

AUTHORITY = Authority()
NAMES = ["www.example.test", "mail.example.test"]
TEXT = """
certificates:
  files: [{cert: $place/site.pem, key: $place/site.key}]
  export: {dir: out, command: [sh, -c, "echo >> exported"]}
routes:
  - {name: www, match: {ports: $tls, domains: [www.example.test]}, tls: {mode: terminate},
     action: {type: respond, body: hello}}
email: {hostname: mail.example.test, ports: [{port: $smtp, kind: smtp}, {port: $smtps, kind: smtps}]}
"""


class TestFiles(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="dcrouter-files-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.first = AUTHORITY.credential(NAMES, days=60)
        self.files = write(self.first, self.place, "site")
        self.router = Router(
            TEXT,
            ports=("tls", "smtp", "smtps"),
            place=self.place,
            expected=["in use stays", "nobody can send through", "edge.*(ended|killed|died)"],
        )
        self.addCleanup(self.router.close)

    def shown(self) -> set[x509.Certificate]:
        """The leaf on every door."""
        ports = self.router.ports
        return {
            leaf_of(ports["tls"], "www.example.test"),
            leaf_of(ports["smtps"], "mail.example.test"),
            leaf_of(ports["smtp"], None, starttls=True),
        }

    def replace(self, credential: Credential) -> None:
        """As it should be done: written beside, and renamed."""
        fresh: CertificateFiles = write(credential, self.place, "new")
        fresh.key.rename(self.files.key)
        fresh.cert.rename(self.files.cert)

    def test_files_are_followed_and_never_trusted_blindly(self) -> None:
        """What is half written changes nothing on any door; a new pair is shown on all of them soon, and exported; a
        connection that was there goes on; whoever is started later shows the same.
        """
        context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
        with (
            socket.create_connection(("127.0.0.1", self.router.ports["tls"]), 30) as plain,
            context.wrap_socket(plain, server_hostname="www.example.test") as live,
        ):
            self.assertEqual(self.shown(), {self.first.certificates()[0]})
            second = AUTHORITY.credential(NAMES, days=60)
            self.files.cert.write_bytes(second.chain[:700])
            until(lambda: self.router.said("in use stays"))
            self.assertEqual(self.shown(), {self.first.certificates()[0]})
            self.replace(second)
            until(lambda: self.shown() == {second.certificates()[0]}, pause=0.3)
            live.sendall(b"GET / HTTP/1.1\r\nHost: www.example.test\r\nConnection: close\r\n\r\n")
            self.assertIn(b"hello", live.makefile("rb").read())
        exported, told = self.router.state / "out" / "www.example.test.pem", self.router.base / "exported"
        until(lambda: exported.exists() and exported.read_bytes() == second.key + second.chain)
        until(lambda: told.exists() and len(told.read_text().splitlines()) >= 2)
        os.kill(self.router.pids()["edge"], signal.SIGKILL)
        until(lambda: edge_shows(self.router, second))
        self.assertEqual(self.shown(), {second.certificates()[0]})


def edge_shows(router: Router, credential: Credential) -> bool:
    try:
        return leaf_of(router.ports["tls"], "www.example.test") == credential.certificates()[0]
    except (OSError, SSL.Error):
        return False
