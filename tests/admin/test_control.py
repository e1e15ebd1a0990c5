"""The command line in front of a service that can be told what to do."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dcrouter.admin.api import Api
from dcrouter.admin.cli import main
from dcrouter.admin.places import told_socket
from tests.support.operated import Answering, Operated


class CommandTests(TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.path = self.base / "admin.sock"

    def serve(self, *problems: str) -> Operated:
        service = Answering(*problems)
        api = Api(IReactorUNIX(reactor), self.path, service)
        api.startService()
        self.addCleanup(api.stopService)
        return service.operations

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        out, err = io.StringIO(), io.StringIO()

        def work() -> int:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                return main(list(arguments))

        status = await deferToThread(work)
        return status, out.getvalue(), err.getvalue()

    async def test_reload_tells_what_has_changed(self) -> None:
        """In words, and the warnings of the file; for programs the whole outcome."""
        operated = self.serve()
        status, out, err = await self.run_command("reload", "--socket", str(self.path))
        self.assertEqual((status, out), (0, "reloaded in 0.5 s: routes: 1 added\n"))
        self.assertEqual(err, "warning: routes.yaml:3:1: hardly meant\n")
        status, out, _ = await self.run_command("reload", "--json", "--socket", str(self.path))
        self.assertTrue(json.loads(out)["ok"])
        self.assertEqual(operated.did, [("reload",)] * 2)

    async def test_a_refused_reload_tells_all_that_is_wrong(self) -> None:
        """Exit status 1, and a line for each problem as it is, so that editors find the place."""
        self.serve("routes.yaml:3:1: unknown key", "state_dir: cannot change without a restart")
        status, out, err = await self.run_command("reload", "--socket", str(self.path))
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(
            err.splitlines(),
            [
                "routes.yaml:3:1: unknown key",
                "state_dir: cannot change without a restart",
                "dcrouter: nothing has changed",
            ],
        )
        status, out, _ = await self.run_command("reload", "--json", "--socket", str(self.path))
        self.assertEqual((status, json.loads(out)["ok"]), (1, False))

    async def test_without_a_service_every_command_says_so(self) -> None:
        """One line and exit status 1."""
        for arguments in (["reload"], ["drain"], ["log-level", "debug"], ["connections"]):
            status, _, err = await self.run_command(*arguments, "--socket", str(self.path))
            self.assertEqual((status, err.count("\n")), (1, 1), arguments)
            self.assertIn("no dcrouter is running here", err)

    async def test_the_log_level(self) -> None:
        """One of the words."""
        operated = self.serve()
        status, out, _ = await self.run_command("log-level", "debug", "--socket", str(self.path))
        self.assertEqual((status, out), (0, "the log level is debug now\n"))
        self.assertEqual(operated.did, [("log_level", "debug")])

    async def test_drain_says_how_long_it_may_take(self) -> None:
        """And, told not to, does not wait."""
        self.serve()
        status, out, _ = await self.run_command("drain", "--no-wait", "--socket", str(self.path))
        self.assertEqual((status, out), (0, "draining: connections have 30 s to end\n"))

    async def test_connections_are_listed_page_by_page(self) -> None:
        """The oldest first, one a line, and a service without mail is no error."""
        operated = self.serve()
        status, out, _ = await self.run_command("connections", "--socket", str(self.path))
        self.assertEqual(status, 0)
        self.assertEqual(
            [line.split() for line in out.splitlines()],
            [
                ["session", "age", "route", "peer", "target", "in", "out", "phase", "sni"],
                [
                    "a-1",
                    "1",
                    "m",
                    "1",
                    "s",
                    "web",
                    "192.0.2.7:4711",
                    "10.0.0.1:80",
                    "512",
                    "4.0",
                    "KB",
                    "relay",
                    "www.example.test",
                ],
                ["a-2", "2", "s", "web", "[2001:db8::7]:1", "10.0.0.1:80", "512", "4.0", "KB", "relay", "-"],
            ],
        )
        self.assertIn(("connections", "edge", "a-1"), operated.did)

    async def test_connections_are_ended(self) -> None:
        """Each that is named; one that is not there is an error, and the others are ended all the same."""
        operated = self.serve()
        status, _, err = await self.run_command("connections", "--socket", str(self.path), "kill", "gone", "a-1", "far")
        self.assertEqual(status, 1)
        self.assertEqual(
            err.splitlines(),
            ["dcrouter: there is no connection gone", "dcrouter: the edge process did not answer within 2 s"],
        )
        self.assertEqual(operated.did, [("kill", "gone"), ("kill", "a-1"), ("kill", "far")])


class PlaceTests(TestCase):
    """Where the service is, while its configuration is being edited."""

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.file = self.base / "routes.yaml"

    def told(self, text: str) -> str:
        self.file.write_text(text)
        return str(told_socket(self.file)).replace(str(self.base), "")

    def test_a_file_that_is_wrong_still_tells_it(self) -> None:
        """By state_dir, by admin.socket, or by the default."""
        self.assertEqual(self.told("routes: 1\n"), "/state/admin.sock")
        self.assertEqual(self.told("bogus: 1\nstate_dir: var\n"), "/var/admin.sock")
        self.assertEqual(self.told("state_dir: var\nadmin: {socket: a.sock}\nroutes: [1\n"), "/var/admin.sock")
        self.assertEqual(self.told("state_dir: var\nadmin: {socket: a.sock}\nroutes: [1]\n"), "/var/a.sock")
        self.assertEqual(self.told("admin: {socket: /run/a.sock}\n"), "/run/a.sock")

    def test_a_state_dir_that_was_just_written_is_not_believed(self) -> None:
        """The service that runs is still where the default was."""
        (self.base / "state").mkdir()
        (self.base / "state" / "admin.sock").touch()
        self.assertEqual(self.told("state_dir: elsewhere\n"), "/state/admin.sock")
