from __future__ import annotations

import socket
import threading

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.config.actions import Forward, Respond
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route
from dcrouter.config.targets import Target
from dcrouter.control import names as module
from dcrouter.control.names import Names, look_up, target_names


def route(name: str, *hosts: str, enabled: bool = True) -> Route:
    targets = tuple(Target(host=host, port=80) for host in hosts)
    return Route(
        name=name, enabled=enabled, match=Match(ports=(PortRange(start=1, end=1),)), action=Forward(targets=targets)
    )


class TestTargetNames(SynchronousTestCase):
    def test_only_names_are_looked_up_each_once(self) -> None:
        """Addresses, disabled routes and routes without targets need nothing."""
        respond = Route(name="r", match=Match(ports=(PortRange(start=1, end=1),)), action=Respond())
        routes = [route("a", "App.internal", "127.0.0.1", "::1"), route("b", "app.internal"), respond]
        routes.append(route("c", "unused.internal", enabled=False))
        self.assertEqual(target_names(routes, "default.internal", None), ("app.internal", "default.internal"))

    def test_the_hosts_file_counts(self) -> None:
        """localhost is known to every system, IPv4 first."""
        self.assertEqual(look_up("localhost")[0], "127.0.0.1")


class TestNames(TestCase):
    def setUp(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.told: list[dict[str, list[str]]] = []
        self.next: Deferred[None] = Deferred()
        self.events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.patch(module, "INTERVAL", 0.05)
        self.patch(module, "GATHER", 0.01)

    def look_up(self, name: str) -> list[str]:
        if name not in self.answers:
            raise socket.gaierror("no such name")
        return self.answers[name]

    def hear(self, known: dict[str, list[str]]) -> None:
        self.told.append(known)
        heard, self.next = self.next, Deferred()
        heard.callback(None)

    def started(self, *names: str) -> Names:
        watched = Names(reactor, names, self.hear, self.look_up)
        watched.start()
        self.addCleanup(watched.stop)
        return watched

    async def test_first_answers_are_told_before_anyone_goes_on(self) -> None:
        """When the first round is done, what is known has been told."""
        self.answers = {"a": ["192.0.2.1"], "b": ["192.0.2.2", "2001:db8::2"]}
        await self.started("a", "b").first_answers(10)
        self.assertEqual(self.told[-1], self.answers)

    async def test_answers_that_came_early_are_told_too(self) -> None:
        """Whoever asks late finds everything told, not about to be told."""
        self.patch(module, "GATHER", 60)
        self.answers = {"a": ["192.0.2.1"]}
        watched = self.started("a")
        while not watched.known:
            await deferLater(reactor, 0.01)
        await watched.first_answers(10)
        self.assertEqual(self.told, [self.answers])

    async def test_a_resolver_that_hangs_does_not_hold_up_the_start(self) -> None:
        """The first wait is bounded."""
        release = threading.Event()
        self.addCleanup(release.set)
        watched = Names(reactor, ["a"], self.hear, lambda name: [str(release.wait(30))])
        watched.start()
        self.addCleanup(watched.stop)
        await watched.first_answers(0.05)
        self.assertEqual(self.told, [])

    async def test_nothing_to_look_up_is_known_at_once(self) -> None:
        """Without names there is no wait."""
        await self.started().first_answers(10)

    async def test_new_addresses_are_told_and_the_last_good_ones_stay(self) -> None:
        """A change is told; a failure changes nothing and is said once; so is the recovery."""
        self.answers = {"a": ["192.0.2.1"], "b": ["192.0.2.9"]}
        watched = self.started("a", "b")
        await watched.first_answers(10)
        self.answers = {"b": ["192.0.2.10"]}
        await self.next
        self.assertEqual(watched.known, {"a": ["192.0.2.1"], "b": ["192.0.2.10"]})
        while not self.said("does not resolve"):
            self.answers["b"] = [f"192.0.2.{len(self.told) + 20}"]
            await self.next
        self.answers["a"] = ["192.0.2.5"]
        while watched.known["a"] != ["192.0.2.5"]:
            await self.next
        self.assertEqual(len(self.said("does not resolve")), 1)
        self.assertEqual(len(self.said("resolves again")), 1)

    def said(self, words: str) -> list[dict[str, object]]:
        return [event for event in self.events if words in str(event.get("log_format"))]
