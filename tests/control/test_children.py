from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcrouter.control import children as module
from dcrouter.control.children import Children, Message
from dcrouter.control.post import FIRST_WAIT
from dcrouter.errors import StartError, Unreachable
from tests.support.facts import until
from tests.support.logged import logged

SCRIPT = str(Path(__file__).with_name("playing_child.py"))


class ChildrenCase(TestCase):
    """Real processes, real channels."""

    modes: dict[str, str]

    def setUp(self) -> None:
        self.modes = {"edge": "good", "mail": "good"}
        self.heard: list[tuple[str, str, dict[str, Any]]] = []
        self.events = logged(self)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.children = Children(reactor, ("edge", "mail"), self.greeting, self.hear, self.command)
        self.addCleanup(self.end)

    def end(self) -> Deferred[None]:
        self.children.kill()
        return self.children.stop(5.0)

    def command(self, role: str) -> list[str]:
        return [sys.executable, SCRIPT, role, self.modes[role]]

    def greeting(self, role: str) -> Iterator[Message]:
        yield "config", {"for": role}, ()
        if role == "edge":
            yield "listener", {"listeners": []}, [self.listening.fileno()]

    def hear(self, role: str, kind: str, fields: dict[str, Any]) -> None:
        self.heard.append((role, kind, fields))

    def said(self, words: str) -> list[dict[str, Any]]:
        return [event for event in self.events if words in str(event.get("log_format"))]

    def pid(self, role: str) -> int:
        return int(self.children.status()[role]["pid"] or 0)


class TestLives(ChildrenCase):
    async def test_children_get_their_greeting_and_each_other_and_then_go(self) -> None:
        """Both are ready with configuration, listening sockets and one socketpair between them before `go` is said."""
        await self.children.start()
        edge = await self.children.ask("edge", "status", timeout=60.0)
        mail = await self.children.ask("mail", "status", timeout=60.0)
        self.assertEqual(edge["config"], {"for": "edge"})
        self.assertEqual(edge["ports"], [self.listening.getsockname()[1]])
        self.assertEqual((edge["peers"], mail["peers"]), (1, 1))
        self.assertFalse(edge["went"] or mail["went"])
        self.children.go()
        self.assertTrue((await self.children.ask("edge", "status", timeout=60.0))["went"])
        await until(lambda: len([kind for _, kind, _ in self.heard if kind == "log"]) == 2)

    async def test_a_killed_child_comes_back_with_everything_and_a_new_peer(self) -> None:
        """A death is an error in the log; the new process gets it all again and goes, and both get a fresh pair."""
        await self.children.start()
        self.children.go()
        first = self.pid("edge")
        os.kill(first, 9)
        await until(lambda: self.pid("edge") not in (0, first) and self.children.status()["edge"]["state"] == "ready")
        edge = await self.children.ask("edge", "status", timeout=60.0)
        mail = await self.children.ask("mail", "status", timeout=60.0)
        self.assertTrue(edge["went"])
        self.assertEqual(edge["ports"], [self.listening.getsockname()[1]])
        self.assertEqual((edge["peers"], mail["peers"]), (1, 2))
        self.assertEqual(self.children.status()["edge"]["restarts"], 1)
        died = self.said("has died")
        self.assertEqual(died[0]["cause"], "killed by SIGKILL")
        self.assertEqual(died[0]["log_level"].name, "error")

    async def test_two_living_children_whose_socketpair_broke_are_joined_anew(self) -> None:
        """Descriptors can run out in one of them: mail must not stay paused until somebody dies."""
        await self.children.start()
        self.children._message(self.children._alive()[0], "alone", {"join": self.children._joining.count}, [])
        join = self.children._joining._join
        await until(
            lambda: any(call.func == join for call in reactor.getDelayedCalls() if isinstance(call, DelayedCall))
        )

        async def peers() -> tuple[int, int]:
            edge, mail = (
                await self.children.ask("edge", "status", timeout=60.0),
                await self.children.ask("mail", "status", timeout=60.0),
            )
            return edge["peers"], mail["peers"]

        async def joined() -> bool:
            return await peers() == (2, 2)

        await until(lambda: Deferred.fromCoroutine(joined()))

    async def test_the_wait_before_a_restart_doubles(self) -> None:
        """A child that dies again and again is started ever later, up to a bound."""
        await self.children.start()
        for deaths in (1, 2, 3):
            os.kill(self.pid("mail"), 9)
            await until(lambda deaths=deaths: self.children.status()["mail"]["restarts"] == deaths)
            await until(lambda: self.children.status()["mail"]["state"] == "ready")
        self.assertEqual([event["wait"] for event in self.said("has died")], [0.1, 0.2, 0.4])

    async def test_a_child_that_never_starts_fails_the_start(self) -> None:
        """After three tries the operator is told, with the exit status, and its own words are in the log."""
        self.modes["mail"] = "dies"
        with self.assertRaises(StartError) as caught:
            await self.children.start()
        self.assertIn("the mail process does not start (exit status 7)", str(caught.exception))
        self.assertEqual(self.said("wrote:")[0]["line"], "something is wrong")

    async def test_who_cannot_begin_for_now_is_not_waited_for(self) -> None:
        """The others begin; it is started again and again, ever later, and begins when it can."""
        self.modes["mail"] = "later"
        await self.children.start()
        self.children.go()
        self.assertEqual(self.children.status()["edge"]["state"], "ready")
        await until(lambda: self.children.status()["mail"]["restarts"] >= 3)
        self.modes["mail"] = "good"
        await until(lambda: self.children.status()["mail"]["state"] == "ready")
        self.assertTrue((await self.children.ask("mail", "status", timeout=60.0))["went"])
        self.assertEqual([event["wait"] for event in self.said("has died")][:3], [0.1, 0.2, 0.4])

    async def test_a_child_that_stays_silent_is_killed(self) -> None:
        """One that is not ready in time counts as dead."""
        self.patch(module, "READY_TIMEOUT", 0.5)
        self.modes["mail"] = "silent"
        with self.assertRaises(StartError) as caught:
            await self.children.start()
        self.assertIn("SIGKILL", str(caught.exception))

    async def test_a_program_that_cannot_be_run_fails_the_start(self) -> None:
        """Something that is not even a program ends the start too."""
        self.children.command = lambda role: ["/nonexistent/python"]
        with self.assertRaises(StartError) as caught:
            await self.children.start()
        reason = "cannot be started: No such file or directory"
        self.assertEqual(str(caught.exception), f"the edge process does not start ({reason})")
        self.assertEqual(self.said("has died"), [])
        self.assertEqual(self.said("that is tried again")[0]["cause"], reason)

    async def test_a_question_without_an_answer_ends(self) -> None:
        """A role that is not there makes the question fail in time."""
        await self.children.start()
        with self.assertRaises(Unreachable):
            await self.children.ask("nobody", "status", timeout=0.1)


class TestReloads(ChildrenCase):
    """What the parent needs while it changes the configuration."""

    async def test_nobody_is_started_while_it_holds(self) -> None:
        """Who died meanwhile is started when it is over, with the greeting of then."""
        await self.children.start()
        self.children.go()
        self.children.hold()
        self.children.replace("mail")
        await until(lambda: self.said("has died"))
        self.assertEqual(self.children.present(), ["edge"])
        await deferLater(reactor, FIRST_WAIT * 3)
        self.assertEqual(self.children.present(), ["edge"])
        self.children.release()
        await until(lambda: self.children.status()["mail"]["state"] == "ready")
        self.flushLoggedErrors()

    async def test_settled_waits_for_who_is_starting(self) -> None:
        """And not for who is not there."""
        await self.children.start()
        await self.children.settled()
        self.children.replace("mail")
        await until(lambda: len(self.children.present()) == 1)
        await self.children.settled()
        await until(lambda: len(self.children.present()) == 2)
        await self.children.settled()
        self.assertEqual(self.children.status()["mail"]["state"], "ready")

    async def test_a_question_to_one_that_dies_is_answered_at_once(self) -> None:
        """As one to a process that is not there."""
        self.modes["edge"] = "stubborn"
        await self.children.start()
        asked = self.children.ask("edge", "nothing it knows", timeout=60.0)
        self.children.hold()
        self.children.replace("edge")
        with self.assertRaises(Unreachable) as caught:
            await asked
        self.assertIn("has died", str(caught.exception))
        await until(lambda: self.children.present() == ["mail"])
        with self.assertRaises(Unreachable):
            await self.children.ask("edge", "status", timeout=60.0)


class TestRoles(ChildrenCase):
    """One that is needed for a time only."""

    def setUp(self) -> None:
        super().setUp()
        self.modes["handlers"] = "good"

    async def test_it_is_started_while_others_are_held_and_joined_with_both(self) -> None:
        """With the greeting that it is given; `go` is said as to all."""
        await self.children.start()
        self.children.go()
        self.children.hold()
        await self.children.add("handlers", self.greeting("the new one"))
        handlers = await self.children.ask("handlers", "status", timeout=60.0)
        self.assertEqual((handlers["config"], handlers["peers"]), ({"for": "the new one"}, 2))
        await until(lambda: ("handlers", "log") in [one[:2] for one in self.heard])
        edge, mail = (
            await self.children.ask("edge", "status", timeout=60.0),
            await self.children.ask("mail", "status", timeout=60.0),
        )
        self.assertEqual((edge["peers"], mail["peers"]), (2, 2))
        self.assertEqual(self.children.roles(), ["edge", "mail", "handlers"])

    async def test_one_that_cannot_be_started_is_not_there(self) -> None:
        """The caller is told, nobody tries again."""
        await self.children.start()
        self.modes["handlers"] = "dies"
        with self.assertRaises(StartError) as caught:
            await self.children.add("handlers", self.greeting("handlers"))
        self.assertIn("exit status 7", str(caught.exception))
        self.assertEqual(self.children.roles(), ["edge", "mail"])

    async def test_it_leaves_and_may_come_again(self) -> None:
        """What it still says is heard; one that does not leave is killed, and waited for at the end."""
        self.patch(module, "EXIT_TIMEOUT", 0.2)
        await self.children.start()
        await self.children.add("handlers", self.greeting("handlers"))
        first = self.pid("handlers")
        self.children.retire("handlers")
        self.assertNotIn("handlers", self.children.status())
        self.modes["handlers"] = "stubborn"
        await self.children.add("handlers", self.greeting("handlers"))
        self.assertNotEqual(self.pid("handlers"), first)
        self.children.retire("handlers")
        self.children.retire("handlers")
        await self.children.stop(5.0)
        self.assertEqual(self.said("has died"), [])


class TestEnd(ChildrenCase):
    async def test_stop_without_a_process_left_is_done_at_once(self) -> None:
        """After a start that failed there is nothing to wait for."""
        self.modes = {"edge": "dies", "mail": "dies"}
        with self.assertRaises(StartError):
            await self.children.start()
        await self.children.stop(5.0)
        self.assertEqual([child["pid"] for child in self.children.status().values()], [None, None])

    async def test_stop_drains_and_leaves_no_process(self) -> None:
        """Children that say `drained` are dismissed and end by themselves."""
        await self.children.start()
        pids = [self.pid("edge"), self.pid("mail")]
        await self.children.stop(10.0)
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.assertEqual(self.said("has died"), [])

    async def test_stop_before_the_children_are_ready(self) -> None:
        """That they are ready after all, while they drain, is no news to anybody."""
        started = self.children.start()
        await self.children.stop(10.0)
        self.assertEqual(self.heard, [])
        self.assertFalse(started.called)

    async def test_a_child_that_does_not_drain_is_killed(self) -> None:
        """After the timeout and a margin nothing is left, whatever a child does."""
        self.patch(module, "DRAIN_MARGIN", 0.1)
        self.patch(module, "EXIT_TIMEOUT", 0.1)
        self.modes["edge"] = "stubborn"
        await self.children.start()
        pid = self.pid("edge")
        await self.children.stop(0.1)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
