from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.actions import Respond
from dcrouter.config.admin import Admin, Config
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.tls import Certificates
from dcrouter.control.certificates import CertificateWatch
from dcrouter.control.certs import Certs
from dcrouter.net.resolver import Resolver
from dcrouter.tls.store import CertificateStore
from tests.support.certificates import Authority
from tests.support.nameserver import Nameserver

AUTHORITY = Authority()
NOW = 1.9e9


class CertsTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.told: list[tuple[str, dict[str, Any]]] = []
        match = Match(ports=(PortRange(start=443, end=443),), domains=("file.test", "inside.test", "*.inside.test"))
        files = AUTHORITY.files(self.directory, ["file.test"], days=100000)
        config = Config(
            state_dir=self.directory,
            admin=Admin(socket=self.directory / "admin.sock"),
            certificates=Certificates(files=(files,)),
            routes=(Route(name="r", match=match, tls=RouteTls(mode="terminate"), action=Respond()),),
        )
        resolver = Resolver(Nameserver(self).config(), reactor)
        self.addCleanup(resolver.close)
        store = CertificateStore(config, config.routes, lambda: NOW)
        self.watch = CertificateWatch(store, lambda kind, fields: self.told.append((kind, fields)), reactor, resolver)
        self.watch.load()
        self.addCleanup(self.watch.close)
        self.certs = Certs(self.watch)

    def test_every_certificate_is_listed(self) -> None:
        """The operator's, which nobody here renews, and ours, with what is known of them."""
        operators, inside = self.certs.list()["certificates"]
        self.assertEqual((operators["names"], operators["source"]), (("file.test",), "file"))
        self.assertEqual((operators["issuer"], operators["key"]), ("test intermediate", "ecdsa-p256"))
        self.assertEqual((operators["next_renewal"], operators["last_error"]), (None, None))
        self.assertEqual((inside["names"], inside["source"]), (("inside.test", "*.inside.test"), "internal"))
        self.assertTrue(inside["issuer"].startswith("dcrouter internal CA"))
        self.assertEqual((inside["not_after"] - NOW, inside["next_renewal"] - NOW), (90 * 86400, 60 * 86400))

    def test_what_is_wrong_with_a_file_is_listed(self) -> None:
        """While the certificate that was read before is in use."""
        (self.directory / "site.key").write_text("half")
        self.watch.store.load()
        self.assertIn("site.key", self.certs.list()["certificates"][0]["last_error"])

    async def test_an_internal_certificate_is_renewed_at_once(self) -> None:
        """Children hear of it; every other certificate stays as it is."""
        before = self.watch.credentials
        self.assertEqual(await self.certs.renew("Inside.test"), {"renewed": ["Inside.test"]})
        after = self.watch.credentials
        self.assertEqual(before[0], after[0])
        self.assertNotEqual((before[1].id, before[1].key), (after[1].id, after[1].key))
        self.assertEqual(
            self.told,
            [("credentials", {"credentials": [after[1].to_plain()]}), ("shelve", {"order": [one.id for one in after]})],
        )

    async def test_what_cannot_be_done_is_refused_with_the_reason(self) -> None:
        """The operator's files are his; the internal CA has no list of what it has revoked; some names have nothing."""
        self.assertIn("site.pem is yours", (await self.certs.renew("file.test"))["error"])
        self.assertIn("where it was issued", (await self.certs.revoke("file.test"))["error"])
        self.assertIn("certs renew", (await self.certs.revoke("inside.test"))["error"])
        for answer in (await self.certs.renew("other.test"), await self.certs.revoke("other.test")):
            self.assertEqual(answer, {"error": "there is no certificate for other.test", "status": 404})
        self.assertIn("*.inside.test serves it", (await self.certs.renew("some.inside.test"))["error"])
        self.assertEqual(self.certs.order("inside.test")["status"], 404)
        self.assertEqual(self.told, [])
