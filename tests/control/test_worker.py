"""What the child processes do alike, in this process."""

from __future__ import annotations

import gc
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from dcrouter.config.actions import Respond
from dcrouter.config.admin import Admin, Config, Log
from dcrouter.config.load import to_plain
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route
from dcrouter.control.incoming import Incoming
from dcrouter.control.worker import Fields, Worker
from dcrouter.errors import StartError
from dcrouter.net.channel import Channel
from dcrouter.net.slices import Steps
from dcrouter.tls.chooser import Chooser
from tests.support.facts import until


class Quiet(Worker):
    """A role that only notes whether it was told to begin."""

    began = False
    prepared: Config | None = None
    used: tuple[Config | None, list[tuple[str, int]], list[socket.socket]] | None = None

    def configure(self, config: Config, chooser: Chooser, fields: Fields) -> None:
        """Needs nothing."""

    def prepare(self, config: Config, incoming: Incoming) -> Steps[None]:
        yield
        if config.user == "nobody":
            raise StartError("not as nobody")
        self.prepared = config

    def commit(self, incoming: Incoming, unused: Sequence[tuple[str, int]]) -> None:
        self.used = (self.prepared, list(unused), incoming.take_opened())

    def abandon(self) -> None:
        self.prepared = None

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """Believes nobody."""

    def go(self) -> None:
        self.began = True

    def drain(self, timeout: float) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> None:
        """Has nothing to end."""

    def status(self) -> Fields:
        return {}

    def met(self, role: str, peer: Channel | None) -> None:
        """Meets nobody."""

    def heard(self, role: str, kind: str, fields: Fields, fds: list[int]) -> None:
        """Hears nothing."""


class WorkerTests(TestCase):
    def setUp(self) -> None:
        ours, theirs = socket.socketpair()
        self.parent = Channel(reactor, ours, self.told, lambda reason: None)
        self.worker = Quiet(reactor, theirs)
        for channel in (self.parent, self.worker.channel):
            channel.start()
            self.addCleanup(channel.close)
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def told(self, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        self.heard.append((kind, fields))

    async def test_what_lives_for_ever_is_frozen_at_go(self) -> None:
        """Law 10: nothing is collected until `go`; from then on no collection walks over what was there before it, and
        they are rarer.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        before = gc.get_freeze_count()

        self.parent.send("go")
        await until(lambda: self.worker.began)

        self.assertGreater(gc.get_freeze_count(), before + 1000)
        self.assertGreater(gc.get_threshold()[0], 10000)
        self.assertTrue(gc.isenabled())

    async def test_what_nobody_knows_is_told_and_passed_over(self) -> None:
        """A message of another version of the parent does not end the child."""
        self.parent.send("dance")
        self.parent.send("status", {"id": 7})
        await until(lambda: self.heard)
        self.assertEqual(self.heard, [("status", {"id": 7})])


class ReloadTests(TestCase):
    """Another configuration for a worker that is at work."""

    def setUp(self) -> None:
        ours, theirs = socket.socketpair()
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.parent = Channel(
            reactor, ours, lambda kind, fields, fds: self.heard.append((kind, fields)), lambda reason: None
        )
        self.worker = Quiet(reactor, theirs)
        for channel in (self.parent, self.worker.channel):
            channel.start()
            self.addCleanup(channel.close)
        self.addCleanup(gc.enable)
        self.addCleanup(gc.unfreeze)
        self.parent.send("config", {"config": self.plain(), "order": [], "ca_files": {}})

    def plain(self, **keys: Any) -> dict[str, Any]:
        config = Config(state_dir=Path("/nowhere"), admin=Admin(socket=Path("/nowhere/admin.sock")), **keys)
        return to_plain(config)

    async def answer(self, number: int) -> dict[str, Any]:
        await until(lambda: [fields for kind, fields in self.heard if fields.get("id") == number])
        return next(fields for kind, fields in self.heard if fields.get("id") == number)

    def tell(self, *routes: Route, **keys: Any) -> None:
        """All of a configuration, in pieces of one route."""
        plain = self.plain(routes=routes, **keys)
        self.parent.send("incoming", {"config": {**plain, "routes": []}, "ca_files": {}, "order": []})
        for one in plain.get("routes", []):
            self.parent.send("incoming_routes", {"routes": [one]})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.place = listener.getsockname()
            self.parent.send("incoming_listeners", {}, [listener.fileno()])

    async def test_pieces_become_the_whole(self) -> None:
        """What was told in pieces is the configuration; it is used at once when that is said, with its sockets."""
        self.tell(route("a"), route("b"), log=Log(level="debug"))
        self.parent.send("prepare", {"id": 1})
        self.assertEqual(await self.answer(1), {"id": 1})
        self.assertIsNone(self.worker.used)
        self.assertFalse(gc.isenabled())
        self.parent.send("commit", {"id": 2, "unused": [["127.0.0.1", 80]]})
        self.assertEqual(await self.answer(2), {"id": 2})
        assert self.worker.used is not None
        config, unused, opened = self.worker.used
        assert config is not None
        self.assertEqual([one.name for one in config.routes], ["a", "b"])
        self.assertEqual(unused, [("127.0.0.1", 80)])
        self.assertEqual([sock.getsockname() for sock in opened], [self.place])
        opened[0].close()
        self.assertEqual(self.worker.observer.level, "debug")
        await until(gc.isenabled)

    async def test_one_that_cannot_be_used_is_refused(self) -> None:
        """The reason goes to the parent, and nothing has changed."""
        self.tell(route("a"), user="nobody")
        self.parent.send("prepare", {"id": 1})
        self.assertEqual(await self.answer(1), {"id": 1, "error": "not as nobody"})
        self.parent.send("abandon")
        await until(lambda: self.worker.incoming is None)
        self.assertIsNone(self.worker.used)
        self.assertEqual(self.worker.observer.level, "info")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(self.place, 30)

    async def test_one_that_is_abandoned_while_it_is_made_comes_to_nothing(self) -> None:
        """As when another process cannot use it."""
        self.tell(*(route(f"r{number}") for number in range(3000)))
        self.parent.send("prepare", {"id": 1})
        self.parent.send("abandon")
        self.parent.send("status", {"id": 2})
        await self.answer(2)
        self.assertIsNone(self.worker.incoming)
        self.assertIsNone(self.worker.prepared)
        self.assertTrue(gc.isenabled())
        self.tell(route("other"))
        self.parent.send("prepare", {"id": 3})
        await self.answer(3)
        self.parent.send("commit", {"id": 4, "unused": []})
        await self.answer(4)
        assert self.worker.used is not None and self.worker.used[0] is not None
        self.assertEqual([one.name for one in self.worker.used[0].routes], ["other"])
        for sock in self.worker.used[2]:
            sock.close()

    async def test_the_log_level_changes(self) -> None:
        """Until the next configuration."""
        self.parent.send("log_level", {"level": "warn"})
        await until(lambda: self.worker.observer.level == "warn")


def route(name: str) -> Route:
    return Route(name=name, match=Match(ports=(PortRange(start=80, end=80),)), action=Respond())
