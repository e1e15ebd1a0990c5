"""Mail rules through the whole service: `explain mail` says what happens, and it happens; aliases change meanwhile."""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.mailboxes import messages
from tests.support.router import PATIENCE, Router, until

TEXT = """
email:
  hostname: mail.ours.test
  postmaster: root@ours.test
  ports: [{port: $smtp, kind: smtp}]
  authentication_results: {spf: false, dkim: false, dmarc: ignore, arc: false, iprev: false}
  aliases_file: aliases.yaml
  rules:
    - name: big
      match: {recipients: ["boss@ours.test"], size_over: 2KB}
      action: {type: reject, code: 552, message: 5.3.4 Too big}
    - name: lists
      match: {recipients: ["*@ours.test"], headers: {list-id: "re:.*<[a-z.]+>"}}
      action: {type: deliver, maildir: "lists/{recipient}"}
    - {name: tags, match: {recipients: ["ann+*@ours.test"]}, action: {type: deliver, maildir: "tags/{recipient}"}}
    - {name: box, match: {recipients: ["*@ours.test"]}, action: {type: deliver, maildir: "box/{recipient}"}}
    - name: abroad
      match: {clients: may_relay, recipients: ["*@else.test"]}
      action: {type: deliver, maildir: "abroad/{recipient}"}
"""
ALIASES = "team@ours.test: [boss@ours.test, ann@ours.test, friend@else.test]\n"


class RulesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router(TEXT, ports=("smtp",), expected=["stays in force", "is never asked"], start=False)
        self.addCleanup(self.router.close)
        (self.router.base / "aliases.yaml").write_text(ALIASES)
        self.router.start()

    def send(self, to: str, message: str) -> int:
        """The code of whichever reply decides."""
        with smtplib.SMTP("127.0.0.1", self.router.ports["smtp"], timeout=PATIENCE) as client:
            try:
                client.sendmail("s@else.test", [to], message)
            except smtplib.SMTPRecipientsRefused as refused:
                return int(refused.recipients[to][0])
            except smtplib.SMTPResponseException as refused:
                return refused.smtp_code
        return 250

    def explained(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "dcrouter.admin.cli", "explain", "mail", "--json", *arguments],
            cwd=self.router.base,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.assertEqual(done.stderr, "")
        found: dict[str, Any] = json.loads(done.stdout)["recipients"][0]
        return found

    def said(self) -> str:
        """The service's log."""
        return (self.router.base / "out.log").read_text()

    def boxes(self) -> list[str]:
        """Where mail lies."""
        new = self.router.state.glob("*/*@*/new")
        return sorted(f"{box.parent.parent.name}/{box.parent.name}" for box in new for _ in messages(box.parent))

    def test_what_is_explained_happens(self) -> None:
        """The rule that a recipient meets by its details, the message's headers and size, and the answer."""
        large = "x" * 78 + "\r\n"
        expected = []
        for to, head, lines in (
            ("ann@ours.test", "", 0),
            ("ann@ours.test", "List-Id: Friends\r\n <friends.ours>\r\n", 0),
            ("ann+shop@ours.test", "", 0),
            ("boss@ours.test", "", 10),
            ("boss@ours.test", "List-Id: <a.b>\r\n", 40),
            ("far@else.test", "", 0),
        ):
            message = f"{head}Subject: x\r\n\r\n{large * lines}"
            header = head.replace("\r\n", "") or "Subject: x"
            found = self.explained(
                *("--from", "s@else.test", "--to", to, "--header", header, "--size", f"{len(message)}B")
            )
            self.assertEqual(str(self.send(to, message)), found["answer"][:3], (to, head, lines))
            if found["answer"].startswith("250"):
                expected.append(f"{found['rule']}/{to}")
        self.assertEqual(
            expected, ["box/ann@ours.test", "lists/ann@ours.test", "tags/ann+shop@ours.test", "box/boss@ours.test"]
        )
        until(lambda: len(self.boxes()) == len(expected))
        self.assertEqual([box.replace("%2B", "+") for box in self.boxes()], sorted(expected))

    def test_aliases_change_while_mail_comes(self) -> None:
        """Each target meets its rule; the next message meets the file as it is then, or as it was before it broke."""
        self.assertEqual(
            [(one["recipient"], one["rule"]) for one in self.explained("--to", "team@ours.test")["targets"]],
            [("boss@ours.test", "box"), ("ann@ours.test", "box"), ("friend@else.test", "abroad")],
        )
        self.assertEqual(self.send("team@ours.test", "Subject: x\r\n\r\nx\r\n"), 250)
        three = ["abroad/friend@else.test", "box/ann@ours.test", "box/boss@ours.test"]
        until(lambda: self.boxes() == three)
        (self.router.base / "aliases.yaml").write_text("team@ours.test: {}\n")
        until(lambda: self.send("team@ours.test", "Subject: x\r\n\r\nx\r\n") and "stays in force" in self.said())
        count = len(self.boxes())
        (self.router.base / "aliases.yaml").write_text("team@ours.test: new@ours.test\n")
        until(lambda: self.send("team@ours.test", "Subject: x\r\n\r\nx\r\n") and "box/new@ours.test" in self.boxes())
        self.assertGreaterEqual(len(self.boxes()), count)
