"""The authorities that the children trust are read by the parent."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Forward
from dcrouter.config.admin import Config
from dcrouter.config.mail import Email
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.rules import MailForward, Mta, Rule
from dcrouter.config.targets import Target, UpstreamTls
from dcrouter.control.trust import read_ca_files
from dcrouter.errors import StartError


class CaFilesTests(SynchronousTestCase):
    def config(self, ca: Path) -> Config:
        """A route that re-encrypts and a rule that forwards, both with `ca`."""
        target = Target(host="127.0.0.1", port=25)
        route = Route(
            name="web",
            match=Match(ports=(PortRange(start=443, end=443),)),
            tls=RouteTls(mode="terminate-and-reencrypt", upstream=UpstreamTls(ca=ca.with_name("web.pem"))),
            action=Forward(targets=(target,)),
        )
        rules = (Rule(name="in", action=MailForward(targets=(target,), ca=ca)), Rule(name="out", action=Mta()))
        email = Email(hostname="mail.test", rules=rules)
        return Config(state_dir=ca.parent, routes=(route,), email=email)

    def test_of_routes_and_of_mail_rules(self) -> None:
        """Each file once, as text, by its path."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "web.pem").write_text("web")
        (folder / "mail.pem").write_text("mail")
        self.assertEqual(
            read_ca_files(self.config(folder / "mail.pem")),
            {str(folder / "web.pem"): "web", str(folder / "mail.pem"): "mail"},
        )

    def test_one_that_cannot_be_read_is_named(self) -> None:
        """By its key and path."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "web.pem").write_text("web")
        error = self.assertRaises(StartError, read_ca_files, self.config(folder / "mail.pem"))
        self.assertEqual(
            str(error),
            f"email.rules[0].action.ca: {folder / 'mail.pem'} cannot be read: No such file or directory",
        )
