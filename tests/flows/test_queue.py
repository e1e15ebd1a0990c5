"""The queue as its operator sees it: the command line against the running service."""

from __future__ import annotations

import json
import shutil
import smtplib
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.ports import Reserved
from tests.support.programs import SmtpSink
from tests.support.router import Router, until

TEXT = """
email:
  hostname: mail.example.test
  postmaster: root@local.test
  ports: [{port: $smtp, kind: smtp}]
  trusted: [127.0.0.1/32]
  rules:
    - name: local
      match: {recipients: ["*@local.test"]}
      action: {type: deliver, maildir: "maildir/{recipient}"}
    - name: out
      match: {recipients: ["*@example.test"]}
      action: {type: forward, targets: [{host: 127.0.0.1, port: $hop}]}
"""
LARGE = "Subject: large\r\n\r\n" + ("x" * 76 + "\r\n") * 2000


class TestQueue(SynchronousTestCase):
    def setUp(self) -> None:
        self.hop = Reserved()
        self.addCleanup(self.hop.close)
        self.router = self.open()

    def open(self, *, start: bool = True) -> Router:
        router = Router(TEXT, ports=("smtp",), hop=self.hop.port, expected=["refused|cannot"], start=start)
        self.addCleanup(router.close)
        return router

    def send(self, *recipients: str, text: str = "Subject: small\r\n\r\nx\r\n") -> None:
        with smtplib.SMTP("127.0.0.1", self.router.ports["smtp"], timeout=240) as client:
            client.sendmail("a@local.test", recipients, text)

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dcrouter.admin.cli", *words, "--config", str(self.router.base / "routes.yaml")],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def queue(self, *words: str) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = json.loads(self.command("queue", "list", "--json", *words))
        return listed

    def test_an_operator_looks_holds_releases_and_drops(self) -> None:
        """Each command does what it says, and status counts along."""
        self.send("b@example.test", "c@example.test")
        self.send("b@example.test", text=LARGE)
        self.send("d@local.test")
        until(lambda: len(self.queue("--state", "deferred")) == 3)
        self.assertEqual(self.queue("--recipient", "local.test"), [])
        (large,) = [row for row in self.queue() if int(str(row["size"])) > 100_000]
        shown = self.command("queue", "show", str(large["message"]))
        self.assertIn("Subject: large\n", shown)
        self.assertIn(f"/mail/spool/{large['message']}.eml", shown)
        self.assertIn("  rule    out", shown)
        self.assertIn("recipients: queued 0, deferred 3, held 0, failed 0", self.command("queue", "stats"))
        self.assertEqual(self.command("queue", "hold", "--recipient", "b@example.test"), "2 recipients held\n")
        self.assertEqual([row["why"] for row in self.queue("--state", "held")], ["by the operator"] * 2)
        self.assertIn("  queue: queued 0, deferred 1, held 2, failed 0, oldest ", self.command("status"))
        self.assertEqual(self.command("queue", "drop", str(large["message"])), "1 recipient dropped\n")
        sink = SmtpSink(self.hop.port)
        self.addCleanup(sink.close)
        self.assertEqual(self.command("queue", "release", "--rule", "out"), "1 recipient released\n")
        # The next hop is back, so whoever waited for it is woken, long before the time.
        until(lambda: not self.queue())
        self.assertEqual(len(sink.messages()), 2)
        delivered = self.router.access(3, event="delivery", outcome="delivered")
        self.assertEqual(
            sorted(line["recipient"] for line in delivered), ["b@example.test", "c@example.test", "d@local.test"]
        )
        lines = self.router.access_lines()
        sessions = {line["session"] for line in lines if line["event"] == "session"}
        self.assertLessEqual({line["session"] for line in lines if line["event"] == "delivery"}, sessions)

    def test_an_operator_pauses_and_resumes(self) -> None:
        """The command line reaches the mail process, and what is wrong is told."""
        self.assertEqual(self.command("queue", "pauses"), "nothing is paused\n")
        self.assertIn(
            "zone default  stands still for", self.command("queue", "pause", "zone", "default", "--for", "2h")
        )
        (listed,) = json.loads(self.command("queue", "pauses", "--json"))
        self.assertEqual((listed["what"], listed["by"]), ("zone default", "operator"))
        self.assertEqual(self.command("queue", "resume", "zone", "default"), "1 pause ended\n")
        self.assertEqual(self.command("queue", "resume", "--all"), "0 pauses ended\n")

    def test_a_backup_of_the_running_service_takes_the_place_of_its_queue(self) -> None:
        """As the documentation says: stop, put it there, start; and what was in it is delivered whole."""
        self.send("b@example.test")
        self.send("b@example.test", text=LARGE)
        until(lambda: len(self.queue("--state", "deferred")) == 2)
        saved = self.router.base / "saved"
        self.assertIn("2 messages in", self.command("queue", "backup", str(saved)))
        self.command("queue", "drop", "--all")
        self.assertEqual(self.queue(), [])
        self.assertEqual(self.router.stop(), 0)
        queue = self.router.state / "mail"
        queue.rename(queue.with_name("mail.old"))
        shutil.copytree(saved, queue)
        self.router.start()
        self.assertEqual(len(self.queue()), 2)
        sink = SmtpSink(self.hop.port)
        self.addCleanup(sink.close)
        self.command("queue", "retry", "--all")
        until(lambda: not self.queue())
        self.assertEqual(len(sink.messages()), 2)
        self.assertEqual(len([one for one in sink.messages() if b"x" * 76 in one]), 1)
