"""The files that a configuration names are looked at while it is checked."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from tests.config.written import FORWARD, FileTestCase

ROUTE = (
    "routes: [{name: a, match: {ports: 1}, tls: {mode: terminate, certificate: {cert: a.pem, key: a.key}}, "
    f"action: {FORWARD}}}]\n"
)
REENCRYPT = (
    "routes: [{name: a, match: {ports: 1}, tls: {mode: terminate-and-reencrypt, upstream: {ca: ca.pem}}, "
    f"action: {FORWARD}}}]\n"
)


def pair(
    name: str, *, days: int = 1, encryption: KeySerializationEncryption | None = None, names: tuple[str, ...] = ()
) -> None:
    """`name`.pem and `name`.key in the working directory; valid for `days` from now, or until that many ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=30))
        .not_valid_after(end)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    Path(f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    Path(f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))


class CertificateTests(FileTestCase):
    def path(self, name: str) -> str:
        return str(self.directory / name)

    def test_a_pair_that_fits(self) -> None:
        """Is fine wherever it is named."""
        pair("a", names=("a.b",))
        config = self.config(
            ROUTE + "certificates: {files: [{cert: a.pem, key: a.key}]}\n"
            "email: {hostname: a.b, certificate: {cert: a.pem, key: a.key}}\n"
        )
        self.assertEqual(config.certificates.files[0].cert, self.directory / "a.pem")

    def test_files_that_cannot_be_read(self) -> None:
        """Missing, or something else than a file; both of a pair in one run."""
        Path("a.key").mkdir()
        self.assertEqual(
            self.problems(ROUTE),
            [
                f"1:76: routes[0].tls.certificate.cert: {self.path('a.pem')} cannot be read: no such file or directory",
                f"1:89: routes[0].tls.certificate.key: {self.path('a.key')} is a directory, not a file",
            ],
        )

    def test_a_tilde_is_no_home(self) -> None:
        """It would be a directory of that name, wherever the file is."""
        for text in ("state_dir: ~/state\n", "log: {file: ~dcrouter/router.log}\n", ROUTE.replace("a.pem", "~/a.pem")):
            with self.subTest(text=text):
                (problem, *_) = self.problems(text)
                self.assertIn(": ~ is nobody's home here: write ${HOME}, or the whole path", problem)

    def test_only_files_are_read(self) -> None:
        """A pipe named by mistake would keep the check waiting for somebody to write into it."""
        os.mkfifo("a.pem")
        os.mkfifo("a.key")
        self.assertEqual(
            self.problems(ROUTE),
            [
                f"1:76: routes[0].tls.certificate.cert: {self.path('a.pem')} is not a file",
                f"1:89: routes[0].tls.certificate.key: {self.path('a.key')} is not a file",
            ],
        )

    def test_files_that_are_something_else(self) -> None:
        """No PEM, or too long for one."""
        Path("a.pem").write_text("hello")
        Path("a.key").write_bytes(b"x" * (1 << 20 | 1))
        self.assertEqual(
            self.problems(ROUTE),
            [
                f"1:76: routes[0].tls.certificate.cert: {self.path('a.pem')} is not a PEM certificate",
                f"1:89: routes[0].tls.certificate.key: {self.path('a.key')} is larger than 1 MB",
            ],
        )

    def test_a_key_of_another_certificate(self) -> None:
        """Clients would be refused one by one."""
        pair("a")
        pair("b")
        Path("b.key").rename("a.key")
        self.assertEqual(
            self.problems(ROUTE),
            [f"1:89: routes[0].tls.certificate.key: {self.path('a.key')} is not the key of {self.path('a.pem')}"],
        )

    def test_keys_that_cannot_be_used(self) -> None:
        """With a pass phrase, or no key at all."""
        pair("a", encryption=BestAvailableEncryption(b"secret"))
        (problem,) = self.problems(ROUTE)
        self.assertTrue(problem.endswith("is encrypted: dcrouter needs the key without a pass phrase"), problem)
        Path("a.key").write_bytes(Path("a.pem").read_bytes())
        (problem,) = self.problems(ROUTE)
        self.assertTrue(problem.endswith("is not a PEM private key"), problem)

    def test_an_expired_certificate_is_a_warning(self) -> None:
        """It can still be renewed while dcrouter runs."""
        pair("a", days=-1)
        _, (warning,) = self.load(ROUTE)
        self.assertIn(f"1:76: routes[0].tls.certificate.cert: {self.path('a.pem')} expired on 20", warning)

    def test_authorities_of_a_target(self) -> None:
        """Named, they must be there; and be certificates."""
        (problem,) = self.problems(REENCRYPT)
        self.assertEqual(
            problem, f"1:87: routes[0].tls.upstream.ca: {self.path('ca.pem')} cannot be read: no such file or directory"
        )
        pair("ca")
        self.config(REENCRYPT)
        self.assertEqual(
            self.load(REENCRYPT.replace("{ca:", "{verify: false, ca:"))[1],
            ["1:102: routes[0].tls.upstream.ca: nothing is verified against it: verify is false"],
        )

    def test_a_certificate_for_other_names_is_a_warning(self) -> None:
        """Of a route and of mail; a wildcard stands for one label, and a name of nobody's is not asked for."""
        domains = ["www.a.test", "*.b.test", "x.b.test", "**.b.test", "A.test"]
        text = ROUTE.replace("ports: 1", f"ports: 1, domains: {domains}") + (
            "email: {hostname: mail.a.test, certificate: {cert: a.pem, key: a.key}}\n"
        )
        pair("a", names=("A.test", "*.b.test", "*.a.test"))
        self.config(text)
        pair("a", names=("a.test", "b.test"))
        self.assertEqual(
            self.load(text)[1],
            [
                f"1:134: routes[0].tls.certificate: {self.path('a.pem')} is not for www.a.test, *.b.test, x.b.test "
                "and 1 more: clients would refuse it",
                f"2:32: email.certificate: {self.path('a.pem')} is not for mail.a.test: clients would refuse it",
            ],
        )
        pair("a")
        self.assertEqual(self.load(ROUTE)[1], [])

    def test_what_has_nothing_to_act_upon_is_a_warning(self) -> None:
        """A rollover without a key of ours, a program that is not there."""
        pair("a", names=("mail.a.test",))
        words = "certificates: {dane: {rollover: true}, export: {dir: out, command: [no-such-program]}}\n"
        for more, why in (
            (ROUTE, "there is no `email`"),
            (
                "email: {hostname: mail.a.test, certificate: {cert: a.pem, key: a.key}}\n",
                "email.certificate has a key of its own",
            ),
        ):
            warnings = [one.split(": ", 1)[1] for one in self.load(words + more)[1] if "certificates." in one]
            self.assertEqual(
                warnings,
                [
                    f"certificates.dane.rollover: no key rolls over: {why}",
                    "certificates.export.command: there is no program 'no-such-program' to run here",
                ],
            )

    def test_a_chain_that_is_cut_off_is_refused(self) -> None:
        """What stands before would do for OpenSSL, and not for clients."""
        pair("a")
        with Path("a.pem").open("ab") as file:
            file.write(b"-----BEGIN CERTIFICATE-----\nMIIB")
        (problem,) = self.problems(ROUTE)
        self.assertTrue(problem.endswith("a.pem is cut off: it ends within a PEM block"), problem)

    def test_names_that_no_certificate_of_the_operators_is_for_are_a_warning(self) -> None:
        """Where he brings some: the internal CA's would be shown. Not where that is asked for, nor behind somebody
        else's TLS.
        """
        pair("a", names=("www.a.test", "*.b.test"))
        tls = "tls: {mode: terminate%s}, action: {type: respond}"
        others = (
            tls % ", certificate: internal",
            "tls: {mode: passthrough}, action: {type: forward, targets: [{host: h, port: 1}]}",
            tls % "" + ", enabled: false",
        )
        text = (
            "certificates: {files: [{cert: a.pem, key: a.key}]}\n"
            "routes:\n"
            f"  - {{name: r, match: {{ports: 1, domains: [www.a.test, x.b.test, other.test]}}, {tls % ''}}}\n"
        )
        for number, other in enumerate(others):
            text += f"  - {{name: r{number}, match: {{ports: {number + 2}, domains: [other.test]}}, {other}}}\n"
        text += "email: {hostname: mail.a.test}\n"
        words = "clients get one of the internal CA (`certificate: internal` where that is meant)"
        warnings = [warning for warning in self.load(text)[1] if "internal CA" in warning]
        self.assertEqual(
            [warning.split(": ", 1)[1] for warning in warnings],
            [
                f"routes[0].tls: no certificate of certificates.files is for other.test: {words}",
                f"email.hostname: no certificate of certificates.files is for mail.a.test: {words}",
            ],
        )

    def test_authorities_of_a_next_hop(self) -> None:
        """As those of a route; and they are of use only where the next hop must prove its name."""
        forward = "type: forward, targets: [{host: h.test}], ca: ca.pem"
        text = f"email: {{hostname: a.b, rules: [{{name: r, match: {{clients: may_relay}}, action: {{{forward}}}}}]}}\n"
        (problem,) = self.problems(text)
        self.assertTrue(problem.endswith(f"action.ca: {self.path('ca.pem')} cannot be read: no such file or directory"))
        pair("ca")
        (warning,) = self.load(text)[1]
        self.assertTrue(warning.endswith("action.ca: nothing is verified against it: tls is opportunistic"), warning)
        self.config(text.replace("ca: ca.pem", "ca: ca.pem, tls: required"))

    def test_paths_that_no_socket_can_have(self) -> None:
        """107 bytes (unix(7)); they are told before a connect fails."""
        path = "/" + "x" * 107
        forward = "match: {ports: 1}, action: {type: forward, target: {unix: %s}}"
        deliver = "{type: deliver, lmtp: %s}"
        text = (
            "admin: {socket: %s}\n"
            f"routes: [{{name: a, {forward}}}]\n"
            f"email: {{hostname: a.b, rules: [{{name: r, match: {{clients: may_relay}}, action: {deliver}}}]}}\n"
        )
        self.assertEqual(
            [problem.partition(": ")[2] for problem in self.problems(text.replace("%s", path))],
            [
                f"{key}: {path} is longer than the 107 bytes that a unix socket's path may have"
                for key in ("admin.socket", "routes[0].action.target.unix", "email.rules[0].action.lmtp")
            ],
        )
        self.config(text.replace("%s", path[:-1]))

    def test_a_state_dir_that_is_too_long_for_the_admin_socket(self) -> None:
        """It is told where the path begins; a socket elsewhere mends it."""
        text = f"version: 1\nstate_dir: /{'x' * 96}\nroutes: []\n"
        (problem,) = self.problems(text)
        self.assertTrue(problem.startswith(f"2:1: state_dir: /{'x' * 96}/admin.sock is longer than"), problem)
        self.load(text.replace("xx", "x", 1))
        self.load(text + "admin: {socket: /run/dcrouter.sock}\n")

    def test_a_unix_socket_need_not_exist_yet(self) -> None:
        """The backend may start later."""
        self.config(
            "routes: [{name: a, match: {ports: 1}, action: {type: forward, target: {unix: /nonexistent/app.sock}}}]"
        )

    def test_a_unix_target_has_no_name_to_verify(self) -> None:
        """It must be said, or verification given up."""
        pair("ca")
        text = REENCRYPT.replace("{host: h.test, port: 1}", "{unix: /x}")
        (problem,) = self.problems(text)
        self.assertTrue(problem.endswith("a unix socket has no name to verify: say tls.upstream.server_name"), problem)
        self.config(text.replace("{ca:", "{server_name: app.test, ca:"))
