"""Questions to the operator's code: bounded in time and number, and what is known of code that fails."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dcrouter.interfaces import Departure
from dcrouter.mail.delivery.egress import asking as module
from dcrouter.mail.delivery.egress.asking import FAILURES, Asking, NoAnswer
from dcrouter.net.channel import Channel
from tests.support.facts import until

DEPARTURE = Departure(host="mx.test", port=25, recipient="a@b.test")


class AskingTests(TestCase):
    def setUp(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.asking = Asking(reactor)
        ours, theirs = socket.socketpair()
        self.channel = Channel(reactor, ours, lambda kind, fields, fds: self.asking.answered(fields), lambda _: None)
        self.other = Channel(reactor, theirs, self.received, lambda _: None)
        for channel in (self.channel, self.other):
            channel.start()
            self.addCleanup(channel.close)
        self.answer: dict[str, Any] | None = {"direct": True}
        self.patch(module, "EGRESS_WITHIN", 60.0)

    def received(self, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        self.asked.append(fields)
        if self.answer is not None:
            self.other.send("egress", {"id": fields["id"], **self.answer})

    def ask(self) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self.asking.ask("hooks:pick", DEPARTURE))

    async def test_a_process_that_comes_in_time_is_waited_for(self) -> None:
        """Its answer is what it says; what was asked is all that is known."""
        asked = self.ask()
        self.asking.meet(self.channel)
        answer = await asked
        self.assertTrue(answer["direct"])
        self.assertEqual((self.asked[0]["name"], self.asked[0]["departure"]["host"]), ("hooks:pick", "mx.test"))
        self.assertEqual(self.asking.status(), {"hooks:pick": {"asked": 1, "failed": 0}})

    async def test_nobody_and_silence(self) -> None:
        """Neither is waited for longer; an answer that comes too late is nobody's; a process that goes is no answer."""
        self.patch(module, "EGRESS_WITHIN", 0.2)
        await self.assertFailure(self.ask(), NoAnswer)
        self.asking.meet(self.channel)
        self.answer = None
        error = await self.assertFailure(self.ask(), NoAnswer)
        self.assertIn("no answer within", str(error))
        self.other.send("egress", {"id": self.asked[0]["id"], "direct": True})
        self.patch(module, "EGRESS_WITHIN", 60.0)
        asked = self.ask()
        await until(lambda: len(self.asked) == 2)
        self.asking.meet(None)
        error = await self.assertFailure(asked, NoAnswer)
        self.assertIn("has gone", str(error))

    async def test_code_that_fails_again_and_again_is_left_alone(self) -> None:
        """Nobody waits for it; new code gets a new chance."""
        self.asking.meet(self.channel)
        self.answer = {"error": "ValueError: no idea"}
        for _ in range(FAILURES):
            error = await self.assertFailure(self.ask(), NoAnswer)
            self.assertIn("no idea", str(error))
        error = await self.assertFailure(self.ask(), NoAnswer)
        self.assertIn("left alone for a while: ValueError: no idea", str(error))
        self.assertEqual(len(self.asked), FAILURES)
        self.assertIn("off_for", self.asking.status()["hooks:pick"])
        self.answer = {}
        self.asking.meet(self.channel)
        answer = await self.ask()
        self.assertNotIn("error", answer)
        self.asking.reload(frozenset())
        self.assertEqual(self.asking.status(), {})

    async def test_questions_are_bounded(self) -> None:
        """More than so many at a time are not asked."""
        self.patch(module, "MOST_WAITING", 2)
        self.patch(module, "EGRESS_WITHIN", 0.2)
        self.asking.meet(self.channel)
        self.answer = None
        asked = [self.ask() for _ in range(3)]
        error = await self.assertFailure(asked[2], NoAnswer)
        self.assertIn("too many", str(error))
        for one in asked[:2]:
            await self.assertFailure(one, NoAnswer)
