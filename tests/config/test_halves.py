"""`email.remote`: what it makes of a file, for either half, and what `check` says of it."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from textwrap import dedent

from dcrouter.admin.table import rows
from dcrouter.config.actions import MailRelay
from dcrouter.config.effective import bind_addresses, effective_routes
from dcrouter.config.halves import certifies_mail
from dcrouter.config.load import from_plain, load_service, load_with_warnings, to_plain
from dcrouter.config.tls import CertificateFiles
from dcrouter.errors import ConfigError
from dcrouter.mail.delivery.exchangers import OwnAddresses
from tests.config.written import FileTestCase

REMOTE = """\
    version: 1
    routes:
      - {name: web, match: {ports: 443}, tls: {mode: terminate, certificate: internal}, action: {type: respond}}
      - {name: more, match: {ports: [2500, {from: 2600, to: 2602}]}, action: {type: mail, kind: smtp}}
    email:
      hostname: mail.example.com
      postmaster: p@example.com
      remote: {host: 10.0.0.5, from: [10.0.0.4/32], ports: {587: 1587, "2601": 9}}
      security: {max_connections: 7}
      rules: [{name: all, match: {recipients: ["*@example.com"]}, action: {type: deliver, maildir: m}}]
"""


class HalvesTests(FileTestCase):
    def test_the_edge_relays_mail_ports(self) -> None:
        """Each to its own port between the halves: as `ports` says, else 10000 more; also those of mail routes."""
        config = self.config(REMOTE)
        shown = {row["name"]: row["action"] for row in rows(config)}
        self.assertEqual(shown["smtp-25"], "mail (smtp) at 10.0.0.5:10025")
        self.assertEqual(shown["submission-587"], "mail (submission) at 10.0.0.5:1587")
        self.assertEqual(shown["smtps-465"], "mail (smtps) at 10.0.0.5:10465")
        self.assertEqual(shown["more"], "mail (smtp) at 10.0.0.5:12500,12600,9,12602")
        for one in (config, from_plain(to_plain(config))):
            relays = [route for route in effective_routes(one) if isinstance(route.action, MailRelay)]
            self.assertEqual(len(relays), 4)

    def test_the_mail_half_listens_for_its_edges(self) -> None:
        """On `host` alone, on the ports between the halves, for `from` and nobody else; the web is not its own."""
        config, warnings = load_with_warnings(self._written(REMOTE), {}, "mail")
        self.assertEqual(warnings, ())
        bound = {(str(address), port) for address, port in bind_addresses(config)}
        ports = (10025, 1587, 10465, 12500, 12600, 9, 12602)
        self.assertEqual(bound, {("10.0.0.5", port) for port in ports})
        (introduced,) = config.proxy_protocol
        self.assertEqual((introduced.from_, introduced.only), ((ip_network("10.0.0.4/32"),), True))
        assert config.email is not None
        self.assertEqual([port.kind for port in config.email.ports], ["smtp", "submission", "smtps"])
        self.assertEqual(config.email.security.max_connections, 7)
        self.assertEqual([port.port for port in config.email.doors], [25, 587, 465])
        self.assertEqual(config.email.edges, introduced.from_)
        own = OwnAddresses(config.email, config.listen)
        self.assertEqual([own(address) for address in ("10.0.0.4", "127.0.0.1", "192.0.2.1")], [True, True, False])
        state = self.directory / "state"
        self.assertEqual((config.email.home, config.state_dir), (state, state / "mail-half"))
        self.assertEqual(config.admin.socket, state / "mail-half" / "admin.sock")
        self.assertEqual(from_plain(to_plain(config)), config)

    def test_what_is_the_other_halfs_need_not_be_here(self) -> None:
        """Files of the mail half on the edge's host, and of the web on the mail half's."""
        text = REMOTE.replace("certificate: internal", "certificate: {cert: web.pem, key: web.key}")
        text += "      auth: {users_file: users.yaml}\n      certificate: {cert: mail.pem, key: mail.key}\n"
        here = self.problems(text)
        self.assertTrue(any("web.pem" in one for one in here) and any("mail.pem" in one for one in here), here)
        for half, missing, other in (("mail", "mail.pem", "web."), ("proxy", "web.pem", "users")):
            error = self.assertRaises(ConfigError, load_with_warnings, Path("routes.yaml"), {}, half)
            self.assertIn(missing, str(error))
            self.assertNotIn(other, str(error))

    def test_certificates_of_the_mail_half(self) -> None:
        """Without dns-01 it shows what the edge has exported, where that is here; files that are not, are left out."""
        text = REMOTE + "    certificates:\n      acme: {email: a@example.com}\n      export: {dir: /nowhere}\n"
        text += "      files: [{cert: web.pem, key: web.key}]\n"
        config, warnings = load_with_warnings(self._written(text), {}, "mail")
        assert config.email is not None
        self.assertEqual((config.certificates.acme, config.email.certificate), (None, "auto"))
        self.assertIn("is not on this host", warnings[1])
        self.assertIn("until /nowhere/mail.example.com.pem is on this host", warnings[0])
        self.assertTrue(certifies_mail(self.config(text.partition("      files:")[0])))
        self.assertFalse(certifies_mail(self.config(REMOTE)))
        exported = self.directory / "mail.example.com.pem"
        exported.touch()
        config, _ = load_with_warnings(self._written(text.replace("/nowhere", str(self.directory))), {}, "mail")
        assert config.email is not None
        self.assertEqual(config.email.certificate, CertificateFiles(cert=exported, key=exported))
        dns = "challenges: [http-01, dns-01], dns: {provider: exec, command: [x]}"
        config, _ = load_with_warnings(self._written(text.replace("{email:", f"{{{dns}, email:")), {}, "mail")
        assert config.certificates.acme is not None
        self.assertEqual(config.certificates.acme.challenges, ("dns-01",))

    def test_a_service_says_which_half_it_is(self) -> None:
        """With `remote` none is both; without it none is a half, but a file without mail is all an edge's."""
        file = self._written(REMOTE)
        self.assertIn("--only proxy and --only mail", str(self.assertRaises(ConfigError, load_service, file, None)))
        file = self._written(REMOTE.replace("remote: {", "remote_: {").replace("      remote_:", "#"))
        for half in ("proxy", "mail"):
            self.assertIn("'remote' is missing", str(self.assertRaises(ConfigError, load_service, file, half)))
        file = self._written("version: 1\nroutes: [{name: a, match: {ports: 1}, action: {type: block}}]\n")
        self.assertIsNone(load_service(file, "proxy")[0].email)
        self.assertIn("'email' is missing", str(self.assertRaises(ConfigError, load_service, file, "mail")))

    def test_ports_that_cannot_be(self) -> None:
        """What is wrong stands where it is written."""
        for old, new, wrong in (
            ("587: 1587", "588: 1587", "588 is no mail port"),
            ("587: 1587", "587: 10025", "ports 25 and 587 cannot share 10025"),
            ("587: 1587", "587: 70000", "'70000' is not a port"),
            ("587: 1587", "x: 1", "'x' is not a port"),
            ("match: {ports: [2500,", "match: {ports: [60000,", "port 60000 needs another one between the halves"),
            ("from: [10.0.0.4/32]", "from: []", "no edge could send anything"),
            ("host: 10.0.0.5", 'host: "0.0.0.0"', "no address that the edge could send to"),
            (
                "10.0.0.5, from: [10.0.0.4/32], ports: {587: 1587",
                "127.0.0.1, from: [10.0.0.4], ports: {587: 25",
                "edge's own",
            ),
        ):
            with self.subTest(wrong):
                self.assertIn(old, REMOTE)
                found = self.problems(REMOTE.replace(old, new))
                self.assertTrue(any(wrong in one for one in found), found)

    def _written(self, text: str) -> Path:
        file = self.directory / "routes.yaml"
        file.write_text(dedent(text))
        return file
