from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from shutil import rmtree
from unittest import SkipTest

from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.readable import problems_as
from dcrouter.config.accounts import Auth
from dcrouter.config.actions import Forward, Static
from dcrouter.config.admin import AccessLog, Admin, Config, Log
from dcrouter.config.load import load
from dcrouter.config.mail import Email
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.rules import MailForward, Rule
from dcrouter.config.targets import Target, UpstreamTls
from dcrouter.config.tls import CertificateFiles, Certificates
from dcrouter.control.privileges import find_account
from tests.support.certificates import Authority

ROUTES = """
version: 1
routes:
  - name: a
    match: {ports: 8443}
    tls:
      mode: terminate-and-reencrypt
      client_auth: {ca: clients.pem}
      upstream: {client_certificate: {cert: site.pem, key: site.key}}
    action: {type: forward, target: {host: 127.0.0.1, port: 1}}
  - name: b
    match: {ports: 8081}
    security: {basic_auth: {users_file: users}}
    action: {type: static, root: www}
  - name: c
    match: {ports: 8082}
    security: {jwt: {public_key: public.pem, algorithms: [ES256]}}
    action: {type: respond}
  - name: d
    match: {ports: 8083}
    security: {jwt: {secret: {file: secret}, algorithms: [HS256]}}
    action: {type: respond}
  - name: e
    enabled: false
    match: {ports: 8084}
    security: {jwt: {secret: {file: secret}, algorithms: [HS256]}}
    action: {type: respond}
email:
  hostname: mail.test
  rules:
    - name: out
      match: {clients: may_relay}
      action: {type: forward, targets: [{host: 127.0.0.1}], tls: required, auth: {user: u, password: {file: password}}}
"""


class TestProblemsAs(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.base.chmod(0o755)
        # Where the tests' own Python lives is not the subject.
        self.patch(sys, "executable", "/bin/sh")
        for name in ("cert.pem", "key.pem", "ca.pem"):
            (self.base / name).write_text("")
            (self.base / name).chmod(0o644)
        (self.base / "state").mkdir()

    def config(self) -> Config:
        pair = CertificateFiles(cert=self.base / "cert.pem", key=self.base / "key.pem")
        tls = RouteTls(mode="terminate", certificate=pair, upstream=UpstreamTls(ca=self.base / "ca.pem"))
        match = Match(ports=(PortRange(start=443, end=443),))
        action = Forward(targets=(Target(host="127.0.0.1", port=1),))
        return Config(
            state_dir=self.base / "state",
            admin=Admin(socket=self.base / "state" / "admin.sock"),
            log=Log(file=self.base / "state" / "logs" / "x.log"),
            access_log=AccessLog(file=self.base / "elsewhere" / "access.log"),
            certificates=Certificates(files=(pair,)),
            routes=(Route(name="web", match=match, tls=tls, action=action),),
        )

    def test_this_user_is_asked_directly(self) -> None:
        """Without a user to become, the present one is tried; what is missing is told with its key."""
        self.assertEqual(problems_as(None, self.config()), [])
        (self.base / "ca.pem").unlink()
        self.assertEqual(
            problems_as(None, self.config()),
            [f"routes[0].tls.upstream.ca: cannot read {self.base / 'ca.pem'}: no such file or directory"],
        )

    def test_the_files_of_mail_are_tried_too(self) -> None:
        """Lists of accounts and recipients, and the authorities of a next hop."""
        missing = self.base / "missing"
        forward = MailForward(targets=(Target(host="127.0.0.1", port=25),), ca=missing)
        email = Email(
            hostname="mail.test",
            auth=Auth(users_file=missing),
            rules=(Rule(name="in", recipients_file=missing, action=forward),),
        )
        self.assertEqual(
            problems_as(None, evolve(self.config(), email=email)),
            [
                f"{key}: cannot read {missing}: no such file or directory"
                for key in ("email.auth.users_file", "email.rules[0].recipients_file", "email.rules[0].action.ca")
            ],
        )

    def test_every_key_that_names_a_file_is_tried(self) -> None:
        """Those of routes that are not enabled apart; the configuration itself too, which a reload reads again."""
        authority = Authority()
        pair = authority.files(self.base, ["client.test"])
        key = load_pem_private_key(pair.key.read_bytes(), None)
        names = (pair.cert.name, pair.key.name, "clients.pem", "public.pem", "users", "secret", "password")
        (self.base / "clients.pem").write_bytes(authority.root_pem)
        (self.base / "public.pem").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (self.base / "users").write_text("")
        (self.base / "secret").write_text("a secret of more than thirty-two octets\n")
        (self.base / "password").write_text("a secret\n")
        (self.base / "www").mkdir()
        source = self.base / "routes.yaml"
        source.write_text(ROUTES)
        config = load(source)
        self.assertEqual(problems_as(None, config, source), [])
        for name in (*names, "routes.yaml"):
            (self.base / name).unlink()
        self.assertEqual(
            [problem.partition(":")[0] for problem in problems_as(None, config, source)],
            [
                "configuration",
                "routes[0].tls.client_auth.ca",
                "routes[0].tls.upstream.client_certificate.cert",
                "routes[0].tls.upstream.client_certificate.key",
                "routes[1].security.basic_auth.users_file",
                "routes[2].security.jwt.public_key",
                "routes[3].security.jwt.secret.file",
                "email.rules[0].action.auth.password.file",
            ],
        )

    def test_a_folder_of_pages_must_be_open_to_the_user(self) -> None:
        """And a socket of a target, where it is there already."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        (self.base / "www").mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as target:
            target.bind(str(self.base / "app.sock"))
        (self.base / "app.sock").chmod(0o600)
        action = Forward(targets=(Target(unix=self.base / "app.sock"), Target(unix=self.base / "later.sock")))
        pages, app = (
            Route(name=name, match=Match(ports=(PortRange(start=80, end=80),)), action=action)
            for name, action in (("pages", Static(root=self.base / "www")), ("app", action))
        )
        config = evolve(self.config(), routes=(pages, app), access_log=None)
        self.assertEqual(
            problems_as(find_account("nobody", None), config),
            [
                f"routes[0].action.root: cannot enter {self.base / 'www'}: permission denied",
                f"routes[1].action.targets[0].unix: cannot connect to {self.base / 'app.sock'}: permission denied",
            ],
        )

    def test_each_file_that_the_user_cannot_use_is_told(self) -> None:
        """Root can read everything; the user that dcrouter becomes is another matter."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        nobody = find_account("nobody", None)
        assert nobody is not None
        key = self.base / "key.pem"
        key.chmod(0o600)
        self.assertEqual(
            problems_as(nobody, self.config()),
            [
                f"access_log.file: cannot append {self.base / 'elsewhere/access.log'}: {self.base} is not writable",
                f"certificates.files[0].key: cannot read {key}: permission denied",
                f"routes[0].tls.certificate.key: cannot read {key}: permission denied",
            ],
        )
        self.assertEqual(os.geteuid(), 0)

    def test_what_cannot_be_handed_over_is_told(self) -> None:
        """A state directory that is the user's already must be writable; another is given to it at the start."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        nobody = find_account("nobody", None)
        assert nobody is not None
        state = self.base / "state"
        os.chown(state, nobody.uid, nobody.gid)
        state.chmod(0o500)
        told = problems_as(nobody, self.config())
        self.assertIn(f"state_dir: cannot write into {state}: {state} is not writable", told)
        self.assertIn(f"log.file: cannot append {state / 'logs/x.log'}: {state} is not writable", told)

    def test_a_python_that_the_user_cannot_run_is_told(self) -> None:
        """The children could not start."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        python = self.base / "python"
        python.write_text("")
        python.chmod(0o700)
        self.patch(sys, "executable", str(python))
        told = problems_as(find_account("nobody", None), self.config())
        self.assertEqual(told[0], f"python: cannot run {python}: permission denied")

    def test_a_folder_on_the_way_counts(self) -> None:
        """A readable file in a closed folder is not readable."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        nobody = find_account("nobody", None)
        self.base.chmod(0o700)
        told = problems_as(nobody, self.config())
        self.assertIn(f"routes[0].tls.upstream.ca: cannot read {self.base / 'ca.pem'}: permission denied", told)
        self.assertIn("a folder on the way to it is closed to this user", told[0])
