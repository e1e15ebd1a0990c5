"""Certificates from Pebble for the whole service: ordered, shown, shared by web and mail."""

from __future__ import annotations

import stat

from twisted.trial.unittest import SynchronousTestCase

from tests.support.ordering import issued, issuer_of, ordering
from tests.support.pebble import ChallengeDns, Pebble
from tests.support.router import Router

WEB = """
routes:
  - {name: www, match: {ports: $tls, domains: [www.example.test, other.example.test]}, tls: {mode: terminate},
     action: {type: respond, body: hello}}
"""
MAIL = """
email: {hostname: mail.example.test, ports: [{port: $smtp, kind: smtp}, {port: $smtps, kind: smtps}]}
"""


class OrderingCase(SynchronousTestCase):
    dns: ChallengeDns
    pebble: Pebble

    @classmethod
    def setUpClass(cls) -> None:
        cls.dns = ChallengeDns()
        cls.addClassCleanup(cls.dns.close)
        cls.pebble = Pebble(cls.dns.dns)
        cls.addClassCleanup(cls.pebble.close)

    def started(self, router: Router) -> Router:
        self.addCleanup(router.close)
        router.start()
        return router


class TestOrders(OrderingCase):
    def test_web_and_mail_get_their_certificates(self) -> None:
        """By tls-alpn-01 for the web, by http-01 on a port that nobody else wants for mail; keys are their owner's."""
        router = self.started(ordering(self.pebble, WEB + MAIL, ports=("smtp", "smtps")))
        self.assertIn("CN=", issuer_of(self.pebble.tls.port, "www.example.test"))
        for name in ("www.example.test", "other.example.test"):
            leaf = issued(self.pebble.tls.port, name)
            self.assertIn(name, str(leaf.extensions))
        issued(router.ports["smtps"], "mail.example.test")
        issued(router.ports["smtp"], None, starttls=True)
        for path in (router.state / "acme").rglob("*.pem"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(len(router.said("certificate issued by")), 3)
