from __future__ import annotations

import contextlib
import io
import json
import stat
import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.admin.api import Api
from dcrouter.admin.ca import install_root
from dcrouter.admin.certs import certificate_lines, record_lines
from dcrouter.admin.cli import main
from dcrouter.errors import TlsError
from dcrouter.tls.internal import InternalCa
from tests.support.operated import CERTIFICATES, RECORDS, Answering

NOW = 1.8e9


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(arguments))
    return status, out.getvalue(), err.getvalue()


class LinesTests(SynchronousTestCase):
    def test_the_table_has_a_line_for_each(self) -> None:
        """Days, and minutes where they are near; nothing that a name or an error holds can act on a terminal."""
        lines = list(certificate_lines(CERTIFICATES, NOW))
        self.assertEqual(
            [line.split("  ")[0] for line in lines], ["name", "a.test, b.test and 1 more", "mail.test", "?[31m.test"]
        )
        self.assertEqual(
            lines[0].split(), ["name", "from", "issuer", "key", "not", "after", "renewal", "back-off", "last", "error"]
        )
        self.assertIn("2027-04-15  -", lines[1])
        self.assertIn("2027-01-15 09:00", lines[3])
        self.assertTrue(lines[3].endswith("the authority says: too many"))

    def test_records_are_lines_of_a_zone_file(self) -> None:
        """The remark says which key it is of, and when that one's turn comes."""
        self.assertEqual(
            list(record_lines(RECORDS, NOW)),
            [
                "_25._tcp.mail.test. IN TLSA 3 1 1 aa ; in use",
                "_25._tcp.mail.test. IN TLSA 3 1 1 bb ; next key: publish it beside the other",
                "_25._tcp.mail.test. IN TLSA 3 1 1 cc ; next key: published; used not before 1 h from now",
                "_25._tcp.mail.test. IN TLSA 3 1 1 dd ; next key: published; used from the next renewal on",
            ],
        )


class CommandTests(TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        service = Answering()
        self.did = service.operations.did
        api = Api(IReactorUNIX(reactor), self.base / "s", service)
        api.startService()
        self.addCleanup(api.stopService)

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        found: tuple[int, str, str] = await deferToThread(run, *arguments, "--socket", str(self.base / "s"))
        return found

    async def test_certificates_and_records_are_printed(self) -> None:
        """As a table, and for programs."""
        status, out, _ = await self.run_command("certs")
        self.assertEqual((status, len(out.splitlines())), (0, 1 + len(CERTIFICATES)))
        self.assertEqual(json.loads((await self.run_command("certs", "--json"))[1]), CERTIFICATES)
        self.assertEqual(len((await self.run_command("dns"))[1].splitlines()), len(RECORDS))
        self.assertEqual(json.loads((await self.run_command("dns", "--json"))[1]), RECORDS)

    async def test_some_are_renewed_or_revoked(self) -> None:
        """Each that cannot be is told; the others are done all the same, and followed to their end."""
        status, out, err = await self.run_command("certs", "renew", "gone", "mail.test", "inside.test", "*.a.test")
        self.assertEqual((status, err), (1, "dcrouter: there is no certificate for gone\n"))
        self.assertEqual(
            [line for line in out.splitlines() if "mail" in line or "inside" in line],
            [
                "mail.test: ordered",
                "inside.test: renewed",
                *(f"mail.test: {step}" for step in ("ca.test is asked", "proved", "signed")),
                "mail.test: issued, valid until 2027-01-15 08:00",
            ],
        )
        status, out, _ = await self.run_command("certs", "revoke", "a.test")
        self.assertEqual((status, out.splitlines()[:2]), (0, ["a.test: revoked", "a.test: ordered"]))
        self.assertEqual([name for _, name in self.did], ["gone", "mail.test", "inside.test", "*.a.test", "a.test"])

    async def test_the_outcome_is_the_exit_status(self) -> None:
        """The authority's reason is told; what takes longer than we wait goes on, and is no success."""
        status, _, err = await self.run_command("certs", "renew", "bad.test")
        self.assertEqual((status, err), (1, "dcrouter: bad.test: ca.test refuses: not that one (rejectedIdentifier)\n"))
        status, _, err = await self.run_command("certs", "renew", "stuck.test", "--wait", "100ms")
        self.assertEqual(status, 1)
        self.assertIn("stuck.test: not done yet; it goes on", err)
        status, out, _ = await self.run_command("certs", "renew", "stuck.test", "--wait", "0s")
        self.assertEqual((status, out), (0, "stuck.test: ordered\n"))

    async def test_keys_of_accounts_are_changed(self) -> None:
        """With whom that is done, and why not."""
        self.assertEqual(
            await self.run_command("certs", "account-keys"), (0, "ca.test: our account has another key\n", "")
        )
        status, out, err = await self.run_command("certs", "account-keys")
        self.assertEqual((status, err), (1, "dcrouter: other.test: not today\n"))
        status, out, _ = await self.run_command("certs", "account-keys", "--json")
        self.assertEqual((status, json.loads(out)), (1, {"changed": ["ca.test"], "problem": "other.test: not today"}))

    async def test_outcomes_for_programs(self) -> None:
        """One object for each name, and nothing else."""
        status, out, err = await self.run_command("certs", "renew", "gone", "good.test", "bad2.test", "--json")
        self.assertEqual((status, err), (1, ""))
        gone, good, bad = json.loads(out)
        self.assertEqual(gone["problem"], "there is no certificate for gone")
        self.assertEqual(good, {"name": "good.test", "done": ["ordered", "issued"], "problem": None, "not_after": NOW})
        self.assertEqual((bad["done"], bad["not_after"]), (["ordered"], None))
        self.assertIn("rejectedIdentifier", bad["problem"])


class CaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.config = self.base / "routes.yaml"
        self.config.write_text("version: 1\nstate_dir: here\n")

    def root(self) -> Path:
        state = self.base / "here"
        state.mkdir()
        ca = InternalCa(state, lambda: NOW)
        ca.issue(["a.test"])
        return ca.root_path

    def program(self, script: str) -> str:
        path = self.base / "update"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    def test_the_root_is_printed(self) -> None:
        """With its place and its fingerprint, and as PEM: the whole can be given to a client."""
        path = self.root()
        status, out, _ = run("ca", "--config", str(self.config))
        self.assertEqual(status, 0)
        self.assertIn(path.read_text(), out)
        self.assertIn(f"# {path}\n# SHA-256 ", out)
        fields = json.loads(run("ca", "--config", str(self.config), "--json")[1])
        self.assertEqual((fields["path"], fields["pem"]), (str(path), path.read_text()))

    def test_of_the_mail_half(self) -> None:
        """Where that is a service of its own it has a CA of its own."""
        text = "email: {hostname: mail.test, remote: {host: 10.0.0.5, from: [10.0.0.4]}, rules: []}\n"
        self.config.write_text(self.config.read_text() + text)
        path = self.root()
        for only, expected in (("proxy", path), ("mail", path.parents[1] / "mail-half" / "internal-ca" / "ca.pem")):
            expected.parent.mkdir(parents=True, exist_ok=True)
            if only == "mail":
                expected.write_bytes(path.read_bytes())
            fields = json.loads(run("ca", "--config", str(self.config), "--only", only, "--json")[1])
            self.assertEqual(fields["path"], str(expected))

    def test_there_may_be_none_yet(self) -> None:
        """It is made when it is needed."""
        status, _, err = run("ca", "--config", str(self.config))
        self.assertEqual(status, 1)
        self.assertIn("not there yet", err)

    def test_one_that_is_spoilt_is_told(self) -> None:
        """With what to do."""
        path = self.root()
        path.write_text("-----BEGIN CERTIFICATE-----")
        status, out, err = run("ca", "--config", str(self.config))
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"{path} holds no certificate: restore it", err)
        self.assertRaises(TlsError, install_root, path, self.base, "true")

    def test_it_is_installed_as_this_host_wants_it(self) -> None:
        """A file that all may read, and the host's own program after it."""
        path = self.root()
        target = install_root(path, self.base, self.program(f"ls {self.base}/*.crt > {self.base}/ran"))
        self.assertEqual(target.read_bytes(), path.read_bytes())
        self.assertEqual(stat.S_IMODE(target.stat().st_mode), 0o644)
        self.assertEqual((self.base / "ran").read_text(), f"{target}\n")

    def test_what_is_in_the_way_is_told(self) -> None:
        """No such directory, no right to write, no program, one that fails."""
        path = self.root()
        cases = (
            (self.base / "none", "true", "another way"),
            (self.base, "no-such-program", "cannot be run"),
            (self.base, self.program("echo no hooks >&2; exit 4"), "status 4: no hooks"),
        )
        for place, update, words in cases:
            self.assertIn(words, str(self.assertRaises(TlsError, install_root, path, place, update)))
