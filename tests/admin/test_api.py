from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dcrouter.admin.api import Api
from dcrouter.admin.client import ApiError, ask
from dcrouter.config.actions import Respond
from dcrouter.config.admin import Admin, Config
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route
from dcrouter.errors import StartError, Unreachable
from tests.support.logged import logged
from tests.support.operated import Operated


class Known:
    """Answers for the API to give."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.operations = Operated()
        page = Route(name="page", match=Match(ports=(PortRange(start=80, end=80),)), action=Respond())
        self.config = Config(state_dir=Path("/s"), admin=Admin(socket=Path("/s/a")), routes=(page,))

    def status(self) -> Deferred[dict[str, Any]]:
        return succeed({"state": "ready"})

    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        self.asked.append((kind, fields))
        if fields.get("message") == "gone":
            return succeed({"error": "no message gone", "status": 404})
        if fields.get("messages") == ["down"]:
            return fail(Unreachable("the mail process did not answer"))
        return succeed({"answer": 42})


class TestApi(TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.path = self.base / "admin.sock"
        self.known = Known()

    def started(self) -> Api:
        api = Api(IReactorUNIX(reactor), self.path, self.known)
        api.startService()
        self.addCleanup(api.stopService)
        return api

    def ask(self, method: str, target: str, body: object = None) -> Deferred[dict[str, Any]]:
        return deferToThread(ask, self.path, method, target, body)

    async def test_the_socket_is_for_its_owner_only(self) -> None:
        """0600, and gone when the service has ended."""
        api = self.started()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        await api.stopService()
        self.assertFalse(self.path.exists())

    async def test_the_service_is_asked_over_the_socket(self) -> None:
        """Status; the queue with filters, one message, the whole in numbers; and what is to be done with some."""
        self.started()
        self.assertEqual(await self.ask("GET", "/status"), {"state": "ready"})
        for method, target, body in (
            ("GET", "/queue", None),
            ("GET", "/queue?state=held&sender=%3C%3E&limit=5&after=1f.0&do=drop", None),
            ("GET", "/queue/42", None),
            ("GET", "/queue/stats?top=3", None),
            ("DELETE", "/queue/42", None),
            ("POST", "/queue/retry", {"messages": ["42"], "after": None}),
            ("POST", "/queue/hold", {"rule": "x", "do": "drop"}),
            ("POST", "/queue/release", {"all": True}),
            ("POST", "/queue/drop", {"older": "1h"}),
        ):
            self.assertEqual(await self.ask(method, target, body), {"answer": 42})
        self.assertEqual({kind for kind, _ in self.known.asked}, {"queue"})
        self.assertEqual(
            [fields for _, fields in self.known.asked],
            [
                {"do": "list"},
                {"do": "list", "state": "held", "sender": "<>", "limit": 5, "after": "1f.0"},
                {"do": "show", "message": "42"},
                {"do": "stats", "top": 3},
                {"do": "drop", "messages": ["42"]},
                {"do": "retry", "messages": ["42"], "after": None},
                {"do": "hold", "rule": "x"},
                {"do": "release", "all": True},
                {"do": "drop", "older": "1h"},
            ],
        )

    async def test_bans_are_listed_and_lifted(self) -> None:
        """A page, one address (a network with IPv6, as the list shows it), or all of them."""
        self.started()
        for method, target in (
            ("GET", "/bans?after=192.0.2.7&do=lift"),
            ("DELETE", "/bans/2001:db8::%2F64"),
            ("DELETE", "/bans"),
        ):
            self.assertEqual(await self.ask(method, target), {"answer": 42})
        self.assertEqual(
            self.known.asked,
            [
                ("bans", {"do": "list", "after": "192.0.2.7"}),
                ("bans", {"do": "lift", "address": "2001:db8::/64"}),
                ("bans", {"do": "lift"}),
            ],
        )

    async def test_a_route_is_explained(self) -> None:
        """By the configuration in use, and what the edge decides."""
        self.started()
        answer = await self.ask("POST", "/explain", {"port": 80, "host": "a.test", "time": 5.0})
        self.assertEqual((answer["route"], answer["edge"]), ("page", {"route": "page", "status": None}))
        self.assertEqual(self.known.operations.did, [("decide", {"port": 80, "host": "a.test", "time": 5.0})])

    async def test_errors_are_told_in_words(self) -> None:
        """What is not there, what may not be done, who does not answer, and what is no JSON object."""
        self.started()
        for method, target, body, words in (
            ("GET", "/nothing", None, "nothing like that"),
            ("PUT", "/status", None, "nothing like that"),
            ("GET", "/queue/retry", None, "nothing like that"),
            ("GET", "/queue/gone", None, "no message gone"),
            ("DELETE", "/queue/down", None, "did not answer"),
            ("POST", "/queue/drop", None, "no JSON object"),
            ("POST", "/queue/drop", [1], "no JSON object"),
            ("POST", "/explain", {}, "'None' is not a port number"),
            ("POST", "/explain", {"port": 80, "colour": 1}, "'colour' is not one of port, listen,"),
            ("POST", "/queue/drop", {"rule": "x" * 1_100_000}, "no JSON object"),
        ):
            with self.assertRaises(ApiError) as caught:
                await self.ask(method, target, body)
            self.assertIn(words, str(caught.exception))

    async def test_nobody_there_is_one_line(self) -> None:
        """Without a service the client says so, with the path."""
        with self.assertRaises(ApiError) as caught:
            await self.ask("GET", "/status")
        self.assertEqual(str(caught.exception), f"no dcrouter is running here: nobody listens on {self.path}")

    async def test_a_socket_that_was_removed_is_made_again(self) -> None:
        """By `renew`, which leaves one that is there alone; meanwhile the client says what to do."""
        with (self.base / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            print(os.getpid(), file=lock, flush=True)
            api = self.started()
            self.path.unlink()
            with self.assertRaises(ApiError) as caught:
                await self.ask("GET", "/status")
            self.assertIn(f"`kill -HUP {os.getpid()}` brings it back", str(caught.exception))
        api.renew()
        made = self.path.stat()
        self.assertEqual(await self.ask("GET", "/status"), {"state": "ready"})
        api.renew()
        self.assertTrue(os.path.samestat(self.path.stat(), made))

    async def test_the_end_of_one_whose_socket_was_removed(self) -> None:
        """It ends like any other, and touches nothing that others have put there."""
        api = self.started()
        self.path.unlink()
        await api.stopService()
        again = self.started()
        self.path.unlink()
        self.path.write_text("precious")
        await again.stopService()
        self.assertEqual(self.path.read_text(), "precious")

    async def test_one_that_cannot_be_made_again_is_told(self) -> None:
        """And tried again the next time."""
        self.path = self.base / "run" / "admin.sock"
        api = self.started()
        rmtree(self.path.parent)
        self.path.parent.write_text("in the way")
        events = logged(self)
        api.renew()
        self.assertIn(f"{self.path} cannot be used: Not a directory", str(events[-1]["problem"]))
        self.path.parent.unlink()
        api.renew()
        self.assertEqual(await self.ask("GET", "/status"), {"state": "ready"})

    async def test_the_socket_of_a_killed_instance_is_taken_over(self) -> None:
        """A file on which nobody answers is in nobody's way."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        self.started()
        self.assertEqual(await self.ask("GET", "/status"), {"state": "ready"})

    async def test_a_socket_on_which_somebody_answers_is_left_alone(self) -> None:
        """And so is anything that is not a socket."""
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(str(self.path))
            alive.listen()
            self.assertRaises(StartError, self.started)
        os.unlink(self.path)
        self.path.write_text("precious")
        self.assertRaises(StartError, self.started)
        self.assertEqual(self.path.read_text(), "precious")

    async def test_a_place_that_takes_no_socket_is_told_in_words(self) -> None:
        """One line, the reason without its number."""
        self.path = Path("/proc/self/admin.sock")
        with self.assertRaises(StartError) as caught:
            self.started()
        self.assertRegex(str(caught.exception), r"^admin.socket: cannot listen on /proc/self/admin.sock: [A-Z][a-z ]+$")
