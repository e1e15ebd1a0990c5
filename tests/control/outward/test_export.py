from __future__ import annotations

import stat
from pathlib import Path

from twisted.internet import reactor
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from dcrouter.config.actions import Respond
from dcrouter.config.admin import Admin, Config
from dcrouter.config.mail import Email
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.tls import Certificates, Export
from dcrouter.control.outward import export
from dcrouter.control.outward.chosen import Chosen
from dcrouter.control.outward.export import Exports
from dcrouter.net.programs import run
from dcrouter.tls.credential import Credential
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.logged import logged

AUTHORITY = Authority()
MAIL = AUTHORITY.credential(["mail.test"])
SITE = AUTHORITY.credential(["*.a.test"])
SITE_RSA = AUTHORITY.credential(["*.a.test"], rsa_key=True)


class ExportTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.out = self.directory / "out"
        self.ran = self.directory / "ran"
        self.events = logged(self)

    def config(self, command: str | None = "echo >> ran") -> Config:
        words = () if command is None else ("sh", "-c", f"cd {self.directory}; {command}")
        match = Match(ports=(PortRange(start=443, end=443),), domains=("*.a.test", "own.test"))
        return Config(
            state_dir=self.directory,
            admin=Admin(socket=self.directory / "admin.sock"),
            certificates=Certificates(export=Export(dir=self.out, command=words)),
            routes=(Route(name="r", match=match, tls=RouteTls(mode="terminate"), action=Respond()),),
            email=Email(hostname="mail.test"),
        )

    def exports(self) -> Exports:
        exports = Exports(reactor)
        self.addCleanup(exports.stop)
        self.addCleanup(until, lambda: exports._running is None)  # else the command may have done all but ended
        return exports

    def use(self, exports: Exports, *credentials: Credential, command: str | None = "echo >> ran") -> None:
        config = self.config(command)
        exports.use(config, Chosen(config, credentials))

    def runs(self) -> int:
        return len(self.ran.read_text().splitlines()) if self.ran.exists() else 0

    async def test_every_name_has_its_file(self) -> None:
        """Key, certificate and issuers in one, 0600; a second type of key beside it; then the command."""
        self.use(self.exports(), MAIL, SITE, SITE_RSA)
        await until(lambda: self.runs() == 1)
        found = {path.name: path.read_bytes() for path in self.out.iterdir()}
        files = {"mail.test.pem": MAIL, "_.a.test.pem": SITE, "_.a.test.rsa.pem": SITE_RSA}
        self.assertEqual(found, {name: one.key + one.chain for name, one in files.items()})
        self.assertEqual({stat.S_IMODE(path.stat().st_mode) for path in self.out.iterdir()}, {0o600})
        self.assertEqual(stat.S_IMODE(self.out.stat().st_mode), 0o700)
        await until(lambda: not (self.directory / "export.pending").exists())

    async def test_only_a_change_is_told(self) -> None:
        """After a restart too."""
        exports = self.exports()
        self.use(exports, MAIL)
        await until(lambda: self.runs() == 1)
        await until(lambda: not (self.directory / "export.pending").exists())
        self.use(exports, MAIL)
        self.use(self.exports(), MAIL)
        renewed = AUTHORITY.credential(["mail.test"])
        other = self.exports()
        self.use(other, renewed)
        await until(lambda: self.runs() == 2)
        self.assertEqual((self.out / "mail.test.pem").read_bytes(), renewed.key + renewed.chain)

    async def test_a_command_that_failed_is_run_again(self) -> None:
        """It is an error in the log; a restart runs it at once, because the file on disk is new to others."""
        exports = self.exports()
        self.use(exports, MAIL, command="echo not now; exit 3")
        errors = await until(lambda: [one for one in self.events if one["log_level"] is LogLevel.error])
        self.assertEqual(errors[0]["problem"], "sh has failed with status 3: not now")
        exports.stop()
        self.use(self.exports(), MAIL)
        await until(lambda: self.runs() == 1)

    async def test_a_command_that_breaks_is_run_again(self) -> None:
        """Whatever it was: an error in the log, and later ones are run."""

        async def broken(*words: object) -> None:
            raise RuntimeError("no more processes")

        self.patch(export, "run", broken)
        exports = self.exports()
        self.use(exports, MAIL)
        errors = await until(lambda: [one for one in self.events if one["log_level"] is LogLevel.error])
        self.assertEqual(errors[0]["problem"], "no more processes")
        self.patch(export, "run", run)
        self.use(exports, MAIL)
        await until(lambda: self.runs() == 1)

    async def test_a_directory_that_cannot_be_written_harms_nobody(self) -> None:
        """It is an error in the log, and tried again later."""
        self.out.write_text("in the way")
        self.use(self.exports(), MAIL)
        await until(lambda: [one for one in self.events if str(self.out) in str(one.get("problem"))])
        self.assertEqual(self.runs(), 0)

    async def test_without_a_command_the_files_are_all(self) -> None:
        """Others look at them by themselves."""
        self.use(self.exports(), MAIL, command=None)
        await until(lambda: (self.out / "mail.test.pem").exists())
        self.assertFalse((self.directory / "export.pending").exists())
