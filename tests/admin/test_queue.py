"""What `dcrouter queue` prints, and what it asks for."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.admin.api import Api
from dcrouter.admin.cli import main
from dcrouter.admin.queue import age_lines, list_lines, message_lines, stats_lines
from tests.support.operated import Answering


def recipient(**changed: Any) -> dict[str, Any]:
    return {
        "message": "1f",
        "session": "s",
        "sender": "",
        "received": 0.25,
        "size": 19,
        "recipient": "b\x1b@y.test",
        "rule": "r",
        "state": "deferred",
        "attempts": 2,
        "due": 86400.0,
        "since": None,
        "why": None,
        "reply": "451 later",
        "priority": 0,
        "zone": None,
        "source": None,
        "notify": None,
        "original": None,
        **changed,
    }


class LinesTests(SynchronousTestCase):
    def test_an_empty_queue_says_so(self) -> None:
        """No head of a table without rows."""
        self.assertEqual(list(list_lines([])), ["the queue is empty"])
        self.assertEqual(list(list_lines([], filtered=True)), ["nothing in the queue is like that"])

    def test_the_list_is_a_table(self) -> None:
        """Times of day, the empty sender as SMTP writes it, and nothing of the sender's that moves the terminal."""
        held = recipient(message="2", state="held", due=None, since=5.0, why="by the operator", reply="")
        self.assertEqual(
            list(list_lines([recipient(), held])),
            [
                "message  state     tries  received              next try              size  sender  recipient  "
                "rule  reply",
                "1f       deferred  2      1970-01-01T00:00:00Z  1970-01-02T00:00:00Z  19    <>      b?@y.test  "
                "r     451 later",
                "2        held      2      1970-01-01T00:00:00Z  -                     19    <>      b?@y.test  "
                "r     by the operator",
            ],
        )

    def test_a_message_is_shown_whole(self) -> None:
        """Envelope, each recipient with its state and why and what was asked for it, the header, where its file is."""
        one = {name: value for name, value in recipient().items() if name not in ("message", "session", "sender")}
        held = {**one, "state": "held", "due": None, "since": 5.0, "why": "by the operator", "reply": ""}
        held |= {"priority": -2, "zone": "bulk", "source": "192.0.2.1", "notify": "NEVER", "original": "rfc822;a\x1b"}
        message = {
            "message": "1f",
            "session": "s",
            "sender": "",
            "received": 0.25,
            "size": 19,
            "spool": "/s/1f.eml",
            "recipients": [one, held],
            "more": True,
            "header": "Subject: \x07x\n\ty\nTo: y\n",
        }
        self.assertEqual(
            list(message_lines(message)),
            [
                "message   1f",
                "session   s",
                "sender    <>",
                "received  1970-01-01T00:00:00Z",
                "size      19",
                "file      /s/1f.eml",
                "",
                "recipient b?@y.test",
                "  rule    r",
                "  state   deferred, next try 1970-01-02T00:00:00Z, 2 tries",
                "  reply   451 later",
                "",
                "recipient b?@y.test",
                "  rule    r",
                "  state   held since 1970-01-01T00:00:05Z, 2 tries",
                "  why     by the operator",
                "  priority -2",
                "  zone    bulk",
                "  source  192.0.2.1",
                "  notify  NEVER",
                "  original rfc822;a?",
                "",
                "and more recipients: dcrouter queue list",
                "",
                "Subject: ?x",
                "        y",
                "To: y",
            ],
        )

    def test_the_numbers_are_tables(self) -> None:
        """Of the whole, of each rule, of the largest domains."""
        counts = {"queued": 1, "deferred": 2, "held": 0, "failed": 0}
        stats = {**counts, "oldest": 10.0, "messages": 2, "octets": 99, "largest": 60}
        self.assertEqual(
            list(stats_lines({**stats, "rules": {"r": counts}, "domains": {"y.test": 3}}, 71.0)),
            [
                "messages: 2, 99 bytes, the largest 60",
                "recipients: queued 1, deferred 2, held 0, failed 0",
                "oldest: 1 m 1 s",
                "",
                "rule  queued  deferred  held  failed",
                "r     1       2         0     0",
                "",
                "domain  recipients",
                "y.test  3",
            ],
        )

    def test_ages_are_a_table(self) -> None:
        """A row for all, one for each domain, and one for those that are not shown, if any; columns are ages."""
        ages = [{"domain": "y.test", "recipients": [1, 2, 3]}, {"domain": "z.test", "recipients": [0, 0, 1]}]
        self.assertEqual(
            list(age_lines(ages, [1, 2, 4], [5, 10])),
            [
                "domain  all  5 m  10 m  10 m+",
                "total   7    1    2     4",
                "y.test  6    1    2     3",
                "z.test  1    0    0     1",
            ],
        )
        shown = list(age_lines(ages, [1, 5, 4], [5, 10]))
        self.assertEqual((shown[1], shown[-1]), ("total   10   1    5     4", "others  3    0    3     0"))
        self.assertEqual(list(age_lines([], [0, 0, 0], [5, 10])), ["the queue is empty"])


class Paged(Answering):
    """A queue of three pages."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        self.asked.append(fields)
        following = {None: "1.0", "1.0": "2.0", "2.0": None}[fields.get("after")]
        if fields["do"] == "list":
            return succeed({"messages": [recipient()] * min(2, fields["limit"]), "next": following})
        return succeed({"changed": 5, "next": following})


class CommandTests(TestCase):
    def setUp(self) -> None:
        # A path of a unix socket is short.
        self.socket = Path("q.sock")
        self.paged = Paged()
        api = Api(IReactorUNIX(reactor), self.socket, self.paged)
        api.startService()
        self.addCleanup(api.stopService)

    async def run_main(self, *arguments: str) -> tuple[int, str, str]:
        def run() -> tuple[int, str, str]:
            output, errors = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                try:
                    status = main(("queue", *arguments, "--socket", str(self.socket)))
                except SystemExit as exit:
                    status = int(exit.code or 0)
            return status, output.getvalue(), errors.getvalue()

        result: tuple[int, str, str] = await deferToThread(run)
        return result

    async def test_all_pages_are_listed_up_to_the_limit(self) -> None:
        """Each page is asked for where the last one ended."""
        status, output, _ = await self.run_main("list", "--json", "--sender", "<>", "--older", "1h")
        self.assertEqual((status, len(json.loads(output))), (0, 6))
        self.assertEqual([one.get("after") for one in self.paged.asked], [None, "1.0", "2.0"])
        self.assertEqual(self.paged.asked[0], {"do": "list", "sender": "<>", "older": "1h", "limit": 1000})
        status, output, errors = await self.run_main("list", "--limit", "3")
        self.assertEqual((status, len(output.splitlines())), (0, 4))
        self.assertEqual(errors, "these are the first 3; there may be more: raise --limit\n")

    async def test_a_change_goes_on_to_the_end(self) -> None:
        """Part by part; the sum is told."""
        status, output, _ = await self.run_main("hold", "--recipient", "y.test")
        self.assertEqual((status, output), (0, "15 recipients held\n"))
        self.assertEqual([one["after"] for one in self.paged.asked], [None, "1.0", "2.0"])
        self.assertEqual(self.paged.asked[0]["recipient"], "y.test")
        status, output, _ = await self.run_main("drop", "1f", "2f", "--json")
        self.assertEqual((status, json.loads(output)), (0, {"changed": 15}))
        self.assertEqual(self.paged.asked[-1]["messages"], ["1f", "2f"])
        await self.run_main("reroute", "--zone", "bulk", "--to", "smarthost")
        self.assertEqual((self.paged.asked[-1]["do"], self.paged.asked[-1]["to"]), ("reroute", "smarthost"))
        self.assertEqual(self.paged.asked[-1]["zone"], "bulk")
        status, output, _ = await self.run_main("bounce", "1f", "--reply", "550 5.7.1 No")
        self.assertEqual((status, output), (0, "15 recipients given up\n"))
        self.assertEqual(self.paged.asked[-1]["reply"], "550 5.7.1 No")

    async def test_arguments_without_sense_are_told(self) -> None:
        """In words of the operator; nothing is asked of the service."""
        for arguments, words in (
            (("list", "--limit", "-1"), "argument --limit: '-1': a number from 1"),
            (("stats", "--top", "many"), "argument --top: 'many': a number from 1"),
            (("backup", ""), "argument DIR: the name of a directory is needed"),
        ):
            status, _, errors = await self.run_main(*arguments)
            self.assertEqual(status, 2)
            self.assertIn(words, errors)
        self.assertEqual(self.paged.asked, [])

    async def test_everything_has_to_be_said(self) -> None:
        """Nothing is asked of the service without a word on what is meant."""
        for verb in ("retry", "hold", "release", "drop", "reroute", "bounce"):
            status, _, errors = await self.run_main(verb, *(("--to", "r") if verb == "reroute" else ()))
            self.assertEqual(status, 1)
            self.assertIn(f"{verb} what? Name messages, or a filter, or say --all", errors)
        self.assertEqual(self.paged.asked, [])
        status, output, _ = await self.run_main("release", "--all")
        self.assertEqual((status, output), (0, "15 recipients released\n"))
        self.assertEqual(self.paged.asked[0]["all"], True)
