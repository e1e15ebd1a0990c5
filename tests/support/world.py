"""A world of its own for a whole service that sends: names, exchangers and web servers at the ports that count."""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority
from tests.support.network import own_network
from tests.support.router import Router, until
from tests.support.signed import AUTHORITY, SignedNamed

EMAIL = """
resolver: {servers: ["$dns"], timeout: 20s}
email:
  hostname: mail.example.test
  postmaster: root@local.test
  ports: [{port: $smtp, kind: smtp}]
  trusted: [127.0.0.1/32]
  authentication_results: {spf: false, dkim: false, dmarc: ignore, arc: false, iprev: false}
  queue: {retry: {base: 1s, max: 1s, jitter: 0}}
  rules:
    - {name: local, match: {recipients: ["*@local.test"]}, action: {type: deliver, maildir: "maildir/{recipient}"}}
    - {name: mta, match: {clients: may_relay}, action: {type: mta}}
"""
POLICY = "version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: 86400\r\n"
"""Of MTA-STS: mode, and the exchanger."""
WEB = "127.0.2.1"
"""The address of web servers."""


class WorldCase(SynchronousTestCase):
    """`authority`: whom the service trusts; `stranger`: whom it does not. `environment`: the service's."""

    addresses: tuple[str, ...] = ()
    """Those of the network, beside 127/8 and ::1."""

    def setUp(self) -> None:
        own_network(self, f"{AUTHORITY}/32", *self.addresses)
        self.dns = SignedNamed()
        self.addCleanup(self.dns.close)
        self.authority = Authority()
        self.stranger = Authority("stranger")
        root = Path(self.mktemp()).absolute()
        root.write_bytes(self.authority.root_pem)
        self.environment = {"SSL_CERT_FILE": str(root)}

    def router(self, more: str = "", text: str = EMAIL, **options: Any) -> Router:
        """The service, with `more` of its `email`."""
        router = Router(text + more, ports=("smtp",), environment=self.environment, dns=self.dns.dns, **options)
        self.addCleanup(router.close)
        return router

    def send(self, router: Router, *recipients: str, sender: str = "a@local.test", headers: str = "") -> None:
        """One message to all of them."""
        with smtplib.SMTP("127.0.0.1", router.ports["smtp"], timeout=240) as client:
            client.sendmail(sender, recipients, f"Subject: x\r\n{headers}\r\nx\r\n")

    def outcomes(self, router: Router, *recipients: str) -> dict[str, dict[str, Any]]:
        """recipient -> the line of its last attempt, once each has had one."""

        def found() -> dict[str, dict[str, Any]] | None:
            lines = {line["recipient"]: line for line in router.access_lines() if line["event"] == "delivery"}
            return lines if lines.keys() >= set(recipients) else None

        return until(found)
