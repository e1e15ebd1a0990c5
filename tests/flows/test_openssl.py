"""What `openssl s_client` is shown at every door: by name and without one, old and narrow clients among them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority, write
from tests.support.peers import require
from tests.support.router import Router

TEXT = """
certificates: {files: [$ecdsa, $rsa]}
routes:
  - {name: www, match: {ports: $tls, domains: [www.example.test, in.example.test]}, tls: {mode: terminate},
     action: {type: respond, body: hello}}
email: {hostname: mail.example.test, ports: [{port: $smtp, kind: smtp}, {port: $smtps, kind: smtps}]}
"""
NAMES = ("www.example.test", "mail.example.test")
NO_ECDSA = ("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:rsa_pkcs1_sha256")
NO_ECDSA_EITHER = ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")


@frozen
class Shown:
    """`alert`: its number, None: there was a handshake. `signed`: with which kind of key."""

    version: str | None
    signed: str | None
    issuer: str | None
    alert: int | None


class TestOpenssl(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        authority = Authority()
        base = Path(tempfile.mkdtemp())
        cls.addClassCleanup(rmtree, base)
        files: dict[str, Any] = {}
        for kind, rsa in (("ecdsa", False), ("rsa", True)):
            made = write(authority.credential(NAMES, rsa_key=rsa), base, kind)
            files[kind] = f"{{cert: {made.cert}, key: {made.key}}}"
        expected = ["nobody can send through", "is for in.example.test: clients get one of the internal CA"]
        cls.router = Router(TEXT, ports=("tls", "smtp", "smtps"), expected=expected, **files)
        cls.addClassCleanup(cls.router.close)

    def shown(self, door: str, *options: str) -> Shown:
        starttls = ("-starttls", "smtp") if door == "smtp" else ()
        argv = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{self.router.ports[door]}", *starttls, *options]
        done = subprocess.run(argv, input="", capture_output=True, text=True, timeout=240, check=False)

        def said(pattern: str) -> str | None:
            found = re.search(pattern, done.stdout + done.stderr)
            return found[1] if found else None

        alert = said(r"SSL alert number (\d+)")
        return Shown(
            version=said(r"New, (TLSv1\.\d), Cipher is"),
            signed=said(r"Peer signature type: (\S+)"),
            issuer=said(r"issuer=CN ?= ?(.+)"),
            alert=int(alert) if alert else None,
        )

    def test_names_and_clients(self) -> None:
        """With a name and without, TLS 1.2 alone, without ECDSA in either version: all get what they can use."""
        for door, name in (("tls", NAMES[0]), ("smtps", NAMES[1]), ("smtp", NAMES[1])):
            for options, version, signed in (
                (("-servername", name), "TLSv1.3", "ECDSA"),
                (("-noservername",), "TLSv1.3", "ECDSA"),
                (("-servername", name, "-tls1_2"), "TLSv1.2", "ECDSA"),
                (("-noservername", "-tls1_2"), "TLSv1.2", "ECDSA"),
                (("-servername", name, *NO_ECDSA), "TLSv1.3", "RSA-PSS"),
                (("-noservername", *NO_ECDSA_EITHER), "TLSv1.2", "RSA-PSS"),
            ):
                shown = self.shown(door, *options)
                self.assertEqual(shown, Shown(version, signed, "test intermediate", None), (door, options))

    def test_who_gets_nothing(self) -> None:
        """TLS 1.1 at every door; on the web a name that no route is for. Mail servers may ask for any name."""
        for door in ("tls", "smtps", "smtp"):
            self.assertEqual(self.shown(door, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0").alert, 70, door)
        self.assertEqual(self.shown("tls", "-servername", "nobody.example.test").alert, 112)
        self.assertEqual(self.shown("smtp", "-servername", "nobody.example.test").issuer, "test intermediate")

    def test_what_no_file_is_for(self) -> None:
        """Is served by the internal CA."""
        issuer = self.shown("tls", "-servername", "in.example.test").issuer or ""
        self.assertTrue(issuer.startswith("dcrouter internal CA"), issuer)
