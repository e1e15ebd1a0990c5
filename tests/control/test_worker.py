"""What the child processes do alike, in this process."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcrouter.config.admin import Config
from dcrouter.control.incoming import Incoming
from dcrouter.control.worker import Fields, Worker
from dcrouter.errors import StartError
from dcrouter.net.channel import Channel
from dcrouter.net.slices import Steps
from dcrouter.tls.chooser import Chooser


async def until(fact: Callable[[], Any], seconds: float = 15.0) -> None:
    """Waits for a fact; AssertionError where it does not come."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s")
        await deferLater(reactor, 0.01)


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

    def met(self, peer: Channel | None) -> None:
        """Meets nobody."""

    def heard(self, kind: str, fields: Fields, fds: list[int]) -> None:
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
        """Law 10: from `go` on no collection walks over what was there before it, and collections are rarer."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        before = gc.get_freeze_count()

        self.parent.send("go")
        await until(lambda: self.worker.began)

        self.assertGreater(gc.get_freeze_count(), before + 1000)
        self.assertGreater(gc.get_threshold()[0], 10000)

    async def test_what_nobody_knows_is_told_and_passed_over(self) -> None:
        """A message of another version of the parent does not end the child."""
        self.parent.send("dance")
        self.parent.send("status", {"id": 7})
        await until(lambda: self.heard)
        self.assertEqual(self.heard, [("status", {"id": 7})])
