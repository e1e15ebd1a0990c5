"""`action.select` in an edge in this process, with a process of handlers that the test plays."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Forward
from dcrouter.config.targets import Target
from dcrouter.config.through import ProxyUrl
from dcrouter.net.channel import Channel
from dcrouter.proxy import asking, selection
from dcrouter.proxy.state import State
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.target import Targets
from tests.support.edge import Backend, EdgeTest, route, says


class ChosenTests(SynchronousTestCase):
    def targets(self, *targets: Target, retries: int = 2, through: ProxyUrl | None = None) -> Targets:
        action = Forward(targets=targets, retries=retries, through=through, select="a:b")
        return Targets("web", action, Addresses(), State())

    def test_own_targets_are_chosen_by_what_they_are_called(self) -> None:
        """They keep their state; any address will do besides, and is remembered."""
        own = Target(host="app.internal", port=8080)
        targets = self.targets(own)
        found = targets.chosen(["app.internal:8080", "192.0.2.1:preserve", "[2001:db8::1]:80", "unix:/run/a"])
        self.assertIs(found[0], targets.all[0])
        self.assertEqual(len(found), 3, "1 + retries")
        self.assertEqual([one.label for one in found[1:]], ["192.0.2.1:preserve", "[2001:db8::1]:80"])
        self.assertIs(targets.chosen(["192.0.2.1:preserve"])[0], found[1])
        self.assertEqual(targets.chosen(["unix:/run/a"])[0].candidates(1)[0].address, "/run/a")
        self.assertIs(targets.chosen(["APP.internal:8080"])[0], targets.all[0])

    def test_what_leads_nowhere_is_told(self) -> None:
        """A name that nobody resolves among it, unless a proxy does."""
        targets = self.targets()
        for text in (
            "app.internal:80",
            "192.0.2.1",
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:99999",
            ":80",
            "unix:a",
            "",
        ):
            self.assertRaises(ValueError, targets.chosen, [text])
        proxied = self.targets(through=ProxyUrl(scheme="socks5", host="127.0.0.1", port=1))
        self.assertEqual(proxied.chosen(["app.internal:80"])[0].candidates(1)[0].address, ("app.internal", 80))

    def test_memory_is_bounded(self) -> None:
        """Whoever chooses ever other addresses."""
        targets = self.targets()
        for number in range(1200):
            targets.chosen([f"192.0.2.{number % 250}:{number + 1}"])
        self.assertEqual(len(targets._chosen), 1000)


class SelectionTests(EdgeTest):
    def opened(self, **keys: Any) -> int:
        """An edge with one route; `self.asked` gets the questions of the process of handlers."""
        self.own = Backend(self, says(b"own"))
        self.other = Backend(self, says(b"other"))
        port = self.port()
        keys = {"targets": (self.own.target,), **keys}
        self.open(route("web", port, Forward(select="hooks:pick", **keys)))
        ours, theirs = socket.socketpair()
        self.asked: list[dict[str, Any]] = []
        self.hangs = False
        self.choice: Any = None
        reactor = self.loop.reactor
        self.edge_end = Channel(
            reactor, ours, lambda kind, fields, fds: self.edge.asking.answered(fields), lambda why: None
        )
        self.process = Channel(reactor, theirs, self.heard, lambda why: None)
        for end in (self.edge_end, self.process):
            self.addCleanup(end.close)
        self.edge.asking.meet(self.edge_end)
        return port

    def heard(self, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        self.asked.append(fields)
        if not self.hangs:
            self.process.send("selected", {"id": fields["id"], **self.choice})

    def told(self, port: int) -> bytes:
        """Who answers a client, with the channel turned meanwhile."""
        turn = self.loop.turn

        def with_channel() -> None:
            turn()
            if not self.process._closed:
                self.process.doRead()
                self.edge_end.doRead()
            self.loop.reactor.advance(0.01)

        self.loop.turn = with_channel  # type: ignore[method-assign]
        try:
            return self.ask(port, b"x")
        finally:
            self.loop.turn = turn  # type: ignore[method-assign]

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = self.edge.status()["select"]["hooks:pick"]
        return found

    def test_the_answer_is_the_target(self) -> None:
        """And no answer the route's own."""
        port = self.opened()
        self.choice = {"places": [f"127.0.0.1:{self.other.port}"]}
        self.assertEqual(self.told(port), b"other")
        self.assertEqual(self.event().target, f"127.0.0.1:{self.other.port}")
        self.assertEqual(self.asked[0]["facts"]["local"], ["127.0.0.1", port])
        self.choice = {"places": None}
        self.assertEqual(self.told(port), b"own")
        self.assertEqual(list(self.event().phases), ["select", "connect", "relay"])

    def test_failures_switch_it_off_for_a_while(self) -> None:
        """Then one more is enough, and a good answer makes all good."""
        self.patch(selection, "FAILURES", 2)
        self.patch(selection, "SELECT_WITHIN", 0.0)
        port = self.opened()
        self.choice = {"error": "KeyError: 'x'"}
        for _ in range(3):
            self.assertEqual(self.told(port), b"own")
        self.assertEqual((len(self.asked), self.record["errors"], self.record["skipped"]), (2, 2, 1))
        self.assertGreater(self.record["off_for"], 0)
        kept = self.edge.plan.selections[0].record
        kept.off_until = self.edge.engine.now
        self.assertEqual(self.told(port), b"own")
        self.assertEqual(len(self.asked), 3)
        self.assertIn("off_for", self.record)
        kept.off_until = self.edge.engine.now
        self.choice = {"places": ["nobody.example.test:1"]}
        self.assertEqual(self.told(port), b"own")
        self.assertEqual(self.record["errors"], 4)
        kept.off_until = self.edge.engine.now
        self.choice = {"places": [f"127.0.0.1:{self.other.port}"]}
        self.assertEqual(self.told(port), b"other")
        self.assertNotIn("off_for", self.record)
        self.assertEqual(kept.failures, 0)

    def test_one_that_was_mended_is_asked_at_once(self) -> None:
        """Its process is another, or has reloaded."""
        self.patch(selection, "FAILURES", 1)
        port = self.opened()
        self.choice = {"error": "KeyError: 'x'"}
        self.assertEqual(self.told(port), b"own")
        self.assertIn("off_for", self.record)
        self.choice = {"places": [f"127.0.0.1:{self.other.port}"]}
        self.edge.asking.meet(self.edge_end)
        self.assertEqual(self.told(port), b"other")
        self.assertNotIn("off_for", self.record)

    def test_a_process_that_hangs_is_not_waited_for(self) -> None:
        """Nor told more and more: what waits is bounded, and what comes too late is nobody's."""
        port = self.opened()
        self.hangs = True
        self.assertEqual(self.told(port), b"own")
        self.assertEqual((len(self.asked), self.record["slow"]), (1, 1))
        self.process.send("selected", {"id": self.asked[0]["id"], "places": [f"127.0.0.1:{self.other.port}"]})
        self.edge_end.doRead()
        self.patch(asking, "MOST_WAITING", 0)
        self.assertEqual(self.told(port), b"own")
        self.assertEqual((len(self.asked), self.record["slow"]), (1, 2))
        self.assertEqual(len(self.edge.asking._waiting), 0)

    def test_one_that_dies_frees_those_who_wait(self) -> None:
        """They go on at once; it is no failure of the callable."""
        port = self.opened()
        self.hangs = True
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"x")
            self.loop.until(lambda: len(self.edge.asking._waiting))
            self.edge.asking.meet(None)
            self.assertEqual(self.loop.received_all(client), b"own")
        self.assertEqual((self.record["away"], self.record["slow"], self.record["errors"]), (1, 0, 0))

    def test_a_route_without_targets_says_why_it_has_none(self) -> None:
        """Nobody is let through to somewhere else."""
        port = self.opened(targets=())
        self.choice = {"places": None}
        self.assertEqual(self.told(port), b"")
        self.assertEqual(self.event().reason, "no target: no target is chosen")
