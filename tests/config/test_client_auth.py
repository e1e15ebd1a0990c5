"""`tls.client_auth` and `tls.upstream.client_certificate`: what `check` says of their files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.table import rows
from dcrouter.config.load import from_plain, load_with_warnings, to_plain
from dcrouter.config.tls import CertificateFiles, ClientAuth
from dcrouter.errors import ConfigError
from tests.support.certificates import Authority

ROUTE = """routes:
  - name: a
    match: {ports: [8443], domains: [a.example]}
    tls: {mode: MODE, certificate: internal, KEYS}
    action: {type: forward, target: {host: 127.0.0.1, port: 80}}
"""


class ClientAuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.authority = Authority()
        (self.directory / "ca.pem").write_bytes(self.authority.root_pem)
        (self.directory / "crl.pem").write_bytes(b"".join(self.authority.revocations()))
        self.pair = self.authority.files(self.directory, ["router.example"], stem="own")

    def load(self, keys: str, mode: str = "terminate") -> tuple[ClientAuth | None, CertificateFiles | None, list[str]]:
        """(client_auth, client_certificate, warnings) of a route's tls."""
        file = self.directory / "routes.yaml"
        file.write_text(ROUTE.replace("MODE", mode).replace("KEYS", keys))
        config, warnings = load_with_warnings(file)
        self.assertEqual(from_plain(to_plain(config)), config)
        tls = config.routes[0].tls
        assert tls is not None
        return tls.client_auth, tls.upstream.client_certificate, [one.partition(": ")[2] for one in warnings]

    def problem(self, keys: str, mode: str = "terminate") -> str:
        error = self.assertRaises(ConfigError, self.load, keys, mode)
        return "\n".join(one.partition(": ")[2] for one in error.problems)

    def test_what_is_written_is_read(self) -> None:
        """`require` unless told; a revocation list only where it is named; our own certificate."""
        ca, crl = self.directory / "ca.pem", self.directory / "crl.pem"
        self.assertEqual(self.load("client_auth: {ca: ca.pem}"), (ClientAuth(ca=ca), None, []))
        auth = ClientAuth(ca=ca, crl=crl, mode="request")
        self.assertEqual(self.load("client_auth: {ca: ca.pem, crl: crl.pem, mode: request}"), (auth, None, []))
        keys = "upstream: {ca: ca.pem, client_certificate: {cert: own.pem, key: own.key}}"
        self.assertEqual(self.load(keys, "terminate-and-reencrypt"), (None, self.pair, []))

    def test_the_table_of_routes_shows_it(self) -> None:
        """Beside the certificate that clients see."""
        file = self.directory / "routes.yaml"
        file.write_text(ROUTE.replace("MODE", "terminate").replace("KEYS", "client_auth: {ca: ca.pem}"))
        self.assertEqual(rows(load_with_warnings(file)[0])[0]["tls"], "terminate (internal; clients: require)")

    def test_files_that_cannot_be_used_are_told(self) -> None:
        """Missing, of another kind, or of nobody who could sign."""
        (self.directory / "crl.der").write_bytes(b"\x30\x00")
        broken = self.directory / "broken.pem"
        broken.write_text("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        for keys, said in (
            ("client_auth: {}", "routes[0].tls.client_auth: 'ca' is missing"),
            ("client_auth: {ca: none.pem}", "client_auth.ca: "),
            ("client_auth: {ca: crl.pem}", "is not a PEM certificate"),
            ("client_auth: {ca: ca.pem, crl: none.pem}", "client_auth.crl: "),
            ("client_auth: {ca: ca.pem, crl: ca.pem}", "is not a PEM revocation list"),
            ("client_auth: {ca: ca.pem, crl: crl.der}", "openssl crl -inform DER"),
            ("client_auth: {ca: ca.pem, crl: broken.pem}", "is not a PEM revocation list"),
            ("client_auth: {ca: ca.pem, mode: maybe}", "'maybe' is not one of require, request"),
        ):
            self.assertIn(said, self.problem(keys), keys)
        keys = "upstream: {client_certificate: {cert: own.pem, key: ca.pem}}"
        self.assertIn("upstream.client_certificate.key: ", self.problem(keys, "terminate-and-reencrypt"))

    def test_where_tls_is_passed_through_nobody_can_ask(self) -> None:
        """That is the target's business."""
        file = self.directory / "routes.yaml"
        text = ROUTE.replace("MODE, certificate: internal, KEYS", "passthrough, client_auth: {ca: ca.pem}")
        file.write_text(text)
        error = self.assertRaises(ConfigError, load_with_warnings, file)
        self.assertIn("tls.client_auth: a passthrough route leaves clients' certificates to the target", str(error))

    def test_lists_by_which_clients_would_be_refused_are_warned_of(self) -> None:
        """That have run out, or that an authority lacks."""
        (self.directory / "crl.pem").write_bytes(b"".join(self.authority.revocations(days=-1)))
        *_, warnings = self.load("client_auth: {ca: ca.pem, crl: crl.pem}")
        self.assertEqual(len(warnings), 2)
        self.assertIn("the list of CN=test root has run out on ", warnings[0])
        (self.directory / "crl.pem").write_bytes(self.authority.revocations()[1])
        *_, warnings = self.load("client_auth: {ca: ca.pem, crl: crl.pem}")
        self.assertEqual(len(warnings), 1)
        self.assertIn("holds no list of CN=test root: clients that it has signed are refused", warnings[0])
