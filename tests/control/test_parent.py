from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet import reactor
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from dcrouter.config.actions import Forward, Respond
from dcrouter.config.admin import Admin, Config
from dcrouter.config.load import load_service
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Defaults, Route, Timeouts
from dcrouter.config.targets import Target
from dcrouter.control import parent as module
from dcrouter.control.greeting import greeting
from dcrouter.control.parent import Parent
from dcrouter.errors import StartError, Unreachable
from tests.support.facts import until
from tests.support.logged import logged
from tests.support.ports import reserved

SCRIPT = str(Path(__file__).with_name("playing_child.py"))
RELOADED = """version: 1
listen: [127.0.0.1]
routes: [{{name: web, match: {{ports: {port}}}, action: {{type: forward, target: {{host: localhost, port: 1}}}}}}]
email:
  hostname: mail.example.test
  postmaster: admin@example.test
  ports: [{{port: {mail}, kind: smtp}}]
  rules: [{{name: in, match: {{recipients: ["*@example.test"]}}, action: {{type: deliver, maildir: mail}}}}]
"""


class Kept:
    """An access log in memory."""

    def __init__(self) -> None:
        self.dropped = 0
        self.lines: list[Mapping[str, Any]] = []
        self.opened = 0
        self.closed = False

    def open(self) -> None:
        self.opened += 1

    def write(self, lines: Sequence[Mapping[str, Any]], dropped: int = 0) -> None:
        self.lines += lines
        self.dropped += dropped

    def reopen(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed = True


class TestParent(TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.modes = {"edge": "good", "mail": "good"}
        self.events = logged(self)
        self.port, self.mail_port = reserved(self), reserved(self)
        self.kept = Kept()
        self.target = Target(host="localhost", port=1)

    def config(self, drain: float = 5.0) -> Config:
        match = Match(ports=(PortRange(start=self.port, end=self.port),))
        routes = (
            Route(name="web", match=match, action=Forward(targets=(self.target,)), timeouts=Timeouts(drain=drain)),
            Route(name="page", match=match, action=Respond(), timeouts=Timeouts(drain=drain)),
        )
        return Config(
            state_dir=self.base / "state",
            admin=Admin(socket=self.base / "state" / "admin.sock"),
            listen=(IPv4Address("127.0.0.1"),),
            defaults=Defaults(timeouts=Timeouts(drain=drain)),
            routes=routes,
            email=Email(hostname="mail.example.test", ports=(MailPort(port=self.mail_port, kind="smtp"),)),
        )

    def parent(self, config: Config | None = None) -> Parent:
        parent = Parent(
            config or self.config(),
            self.base / "routes.yaml",
            {"plain": True},
            reactor,
            access_log=self.kept,
            command=lambda role: [sys.executable, SCRIPT, role, self.modes[role]],
        )
        self.addCleanup(parent.stopService)
        return parent

    async def started(self, config: Config | None = None) -> Parent:
        parent = self.parent(config)
        parent.privilegedStartService()
        parent.startService()
        await until(lambda: parent.state == "ready")
        return parent

    def said(self, words: str) -> list[dict[str, Any]]:
        return [event for event in self.events if words in str(event.get("log_format"))]

    async def test_everything_is_there_before_it_says_ready(self) -> None:
        """Listeners bound, children ready and told to go, target names known; the hints say what listens where."""
        parent = await self.started()
        status = await parent.status()
        edge = status["children"]["edge"]["counters"]
        self.assertEqual(sorted(edge["ports"]), sorted([self.port, self.mail_port]))
        self.assertIn("127.0.0.1", edge["names"]["localhost"])
        self.assertEqual(edge["config"]["config"], {"plain": True})
        self.assertTrue(edge["went"])
        self.assertEqual(status["children"]["mail"]["counters"]["ports"], [])
        self.assertEqual(
            [event["hint"] for event in self.said("listening on")],
            sorted(
                [
                    f"tcp://127.0.0.1:{self.port} (web, page)",
                    f"smtp://127.0.0.1:{self.mail_port} (smtp-{self.mail_port})",
                ],
                key=lambda hint: int(hint.split(":")[2].split()[0]),
            ),
        )
        self.assertEqual(json.loads(json.dumps(status))["state"], "ready")

    async def test_a_taken_port_leaves_nothing_half_started(self) -> None:
        """No child, no lock, no other port."""
        with socket.create_server(("127.0.0.1", self.port)):
            parent = self.parent()
            with self.assertRaises(StartError) as caught:
                parent.privilegedStartService()
        self.assertIn(f"127.0.0.1:{self.port} (routes web, page): the port is taken", str(caught.exception))
        with socket.create_server(("127.0.0.1", self.mail_port)):
            pass
        await self.started()

    async def test_a_second_instance_does_not_touch_the_ports(self) -> None:
        """The lock comes first."""
        await self.started()
        self.assertRaises(StartError, self.parent().privilegedStartService)

    async def test_names_without_an_answer_do_not_hold_up_the_start(self) -> None:
        """After a bounded wait connections are taken, and the log says what is missing."""
        self.target = Target(host="no-such-name.invalid", port=1)
        self.patch(module, "FIRST_NAMES", 0.2)
        parent = await self.started()
        self.assertEqual(parent.state, "ready")

    async def test_what_children_say_ends_in_the_logs(self) -> None:
        """Log records in the log, access lines in the access log."""
        parent = await self.started()
        await until(lambda: [event for event in self.events if event.get("log_said") == "edge goes"])
        assert parent.children is not None
        parent.children.tell("edge", "access", {"lines": [{"session": "s"}], "dropped": 2})
        await until(lambda: self.kept.lines == [{"session": "s"}] and self.kept.dropped == 2)

    async def test_the_mail_process_is_asked(self) -> None:
        """Answers come back to whoever asked; without mail there is nobody to ask."""
        parent = await self.started()
        answer = await parent.ask_mail("queue", {"do": "list"})
        self.assertEqual(answer["asked"]["do"], "list")
        await parent.stopService()
        self.assertRaises(Unreachable, parent.ask_mail, "queue", {"do": "list"})

    async def test_sigusr1_opens_files_anew(self) -> None:
        """As logrotate asks for it."""
        await self.started()
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: self.kept.opened == 2)

    async def test_an_edge_that_begins_anew_shows_what_was_shown(self) -> None:
        """Authorities that are asked to look find their proof, and the port that was opened for them is served."""
        parent = self.parent()
        with self.assertRaises(Unreachable):
            await parent.office.answers.show_token("t", "t.thumb")
        parent.office.responder.sockets["127.0.0.1", 80] = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(parent.office.close)
        told = {kind: (fields, fds) for kind, fields, fds in greeting(parent, "edge")}
        self.assertEqual(told["challenges"][0], {"http": {"t": "t.thumb"}, "tls": {}, "port": 80})
        self.assertEqual(len(told["responder"][1]), 1)
        await parent.office.answers.hide_token("t")
        self.assertNotIn("challenges", [kind for kind, _, _ in greeting(parent, "edge")])
        self.assertNotIn("responder", [kind for kind, _, _ in greeting(parent, "mail")])

    async def test_the_end_is_orderly(self) -> None:
        """Children have ended, ports and lock are free, the access log is closed."""
        parent = await self.started()
        pids = [child["pid"] for child in (await parent.status())["children"].values()]
        await parent.stopService()
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        with socket.create_server(("127.0.0.1", self.port)):
            pass
        self.assertTrue(self.kept.closed)
        await self.started()

    async def test_a_reload_that_is_under_way_keeps_nothing_from_ending(self) -> None:
        """Who asked for it, or asks later, is told; nothing that it meets from then on is worth a word."""
        source = self.base / "routes.yaml"
        source.write_text(RELOADED.format(port=self.port, mail=self.mail_port))
        config, _ = load_service(source, None)
        for mode, step in ("good", "prepare"), ("halfway", "commit"):
            self.modes = {"edge": mode, "mail": mode}
            parent = await self.started(config)
            asked = [parent.reloads.ask(), parent.reloads.ask()]
            await until(lambda parent=parent, step=step: parent.status().addCallback(_is_at, step))
            stopped = parent.stopService()
            asked.append(parent.reloads.ask())
            for outcome in [await one for one in asked]:
                self.assertEqual(outcome.problems, ("the service is stopping",))
            await stopped
        self.assertEqual([event["log_format"] for event in self.events if event["log_level"] >= LogLevel.warn], [])

    async def test_a_second_signal_ends_it_at_once(self) -> None:
        """Whoever does not want to wait for the drain presses Ctrl-C again."""
        self.modes["edge"] = "stubborn"
        parent = await self.started(self.config(drain=0.0))
        stopped = parent.stopService()
        os.kill(os.getpid(), signal.SIGINT)
        await stopped
        self.assertEqual(parent.state, "stopped")

    async def test_the_longest_drain_counts(self) -> None:
        """The slowest route's, and no limit where one has none."""
        self.assertEqual(self.parent(self.config(drain=45)).drain_timeout(), 45)
        self.assertEqual(self.parent(self.config(drain=0)).drain_timeout(), 0)


def _is_at(status: dict[str, Any], step: str) -> bool:
    """Whether one of the children has been told to do that."""
    told = [child["counters"] for child in status["children"].values()]
    return any(step in one["changing"] for one in told if one is not None)
