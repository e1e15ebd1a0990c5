from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Respond
from dcrouter.config.admin import Admin, Config, Log
from dcrouter.config.changes import RESTART, changes, needs_restart
from dcrouter.config.mail import Email
from dcrouter.config.match import Match, PortRange
from dcrouter.config.queue import Queue
from dcrouter.config.routes import Defaults, Route, Timeouts


def route(name: str, port: int = 80) -> Route:
    return Route(name=name, match=Match(ports=(PortRange(start=port, end=port),)), action=Respond())


def config(*routes: Route, **keys: Any) -> Config:
    return Config(**{"state_dir": Path("/state"), "routes": routes, **keys})


class ChangesTests(SynchronousTestCase):
    def test_routes_are_told_apart_by_name(self) -> None:
        """Added, removed, changed; one that has only moved is none of them."""
        before = config(route("a"), route("b"), route("c"))
        after = config(route("b"), route("a", 81), route("d"))
        found = changes(before, after)
        self.assertEqual((found.added, found.removed, found.changed), (("d",), ("c",), ("a",)))
        self.assertEqual(str(found), "routes: 1 added, 1 changed, 1 removed")
        moved = changes(config(route("a"), route("b")), config(route("b"), route("a")))
        self.assertEqual((moved.added, moved.removed, moved.changed, moved.keys), ((), (), (), ("routes",)))

    def test_other_keys_are_named(self) -> None:
        """By the word of the file, however deep they have changed."""
        before = config(route("a"))
        after = config(route("a"), defaults=Defaults(timeouts=Timeouts(idle=1.0)), log=Log(level="debug"))
        self.assertEqual(str(changes(before, after)), "log, defaults changed")
        self.assertEqual(str(changes(before, before)), "nothing")


class RestartTests(SynchronousTestCase):
    def test_each_of_them_is_noticed(self) -> None:
        """By the key that the operator wrote."""
        email = Email(hostname="mail.example.test")
        before = config(email=email)
        others: dict[str, Config] = {
            "state_dir": evolve(before, state_dir=Path("/other"), admin=before.admin),
            "user": evolve(before, user="nobody"),
            "group": evolve(before, group="nogroup"),
            "resolver": evolve(before, resolver=evolve(before.resolver, timeout=1.0)),
            "admin.socket": evolve(before, admin=Admin(socket=Path("/other.sock"))),
            "log.file": evolve(before, log=Log(file=Path("/log"))),
            "log.format": evolve(before, log=Log(format="text")),
            "email": evolve(before, email=None),
            "email.hostname": evolve(before, email=evolve(email, hostname="other.example.test")),
            "email.queue.store": evolve(before, email=evolve(email, queue=Queue(store="memory"))),
        }
        self.assertEqual(set(others), {key for key, _ in RESTART})
        for key, other in others.items():
            self.assertEqual(needs_restart(before, other), (key,))
            self.assertEqual(needs_restart(other, before), (key,))

    def test_the_rest_does_not_need_one(self) -> None:
        """Routes, defaults, limits, rules."""
        email = Email(hostname="mail.example.test")
        after = config(route("a"), email=evolve(email, max_recipients=5), log=Log(level="debug"))
        self.assertEqual(needs_restart(config(email=email), after), ())
