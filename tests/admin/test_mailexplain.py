"""`dcrouter explain mail`: what the server would do, from the file."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.cli import main
from tests.config.test_lists import HASH

FILE = f"""
email:
  hostname: mail.ours.test
  postmaster: root@ours.test
  trusted: [10.0.0.0/8]
  auth: {{users: [{{name: alice@ours.test, password_hash: "{HASH}"}}]}}
  greylist: {{delay: 5m}}
  rules:
    - {{name: trap, match: {{recipients: [trap@ours.test]}}, action: {{type: reject, code: 550, message: 5.1.1 None}}}}
    - name: big
      match: {{recipients: ["*@ours.test"], size_over: 1MB}}
      action: {{type: reject, message: 5.3.4 Big}}
    - name: list
      match: {{recipients: ["*@ours.test"], headers: {{X-List: "re:.+"}}}}
      action: {{type: deliver, maildir: "lists/{{recipient}}"}}
    - name: in
      match: {{recipients: ["*@ours.test"], kinds: [smtp]}}
      recipients_file: known.txt
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
    - {{name: out, match: {{clients: may_relay}}, action: {{type: mta}}}}
"""


class ExplainMailTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        (self.base / "routes.yaml").write_text(FILE)
        (self.base / "known.txt").write_text("root@ours.test\nu@ours.test\n")

    def run_command(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["explain", "mail", *arguments, "--config", str(self.base / "routes.yaml")])
        return status, out.getvalue(), err.getvalue()

    def explained(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run_command(*arguments, "--json")[1])
        return answer

    def test_each_recipient_of_a_stranger(self) -> None:
        """The rule and the answer, why no rule before it, and what it still depends on; exit status 1 for a refusal."""
        to = ("u@ours.test", "nobody@ours.test", "trap@ours.test", "x@else.test", "postmaster")
        found = self.explained("--from", "s@x.test", *(word for one in to for word in ("--to", one)))
        self.assertEqual(found["answer"], "250 2.1.0 OK")
        self.assertEqual(
            [(one["rule"], one["answer"]) for one in found["recipients"]],
            [
                ("in", "250 2.1.5 OK"),
                ("in", "550 5.1.1 No such user here"),
                ("trap", "550 5.1.1 None"),
                (None, "550 5.7.1 Relaying denied"),
                ("in", "250 2.1.5 OK"),
            ],
        )
        first, *_, other, postmaster = found["recipients"]
        doubts = ["the client is not known yet (greylist)", "the sender's domain takes no mail (null MX)"]
        self.assertEqual(first["notes"], [f"unless {doubt}" for doubt in doubts])
        self.assertEqual(first["passed"], [{"rule": "trap", "why": "recipients: trap@ours.test"}])
        self.assertEqual([one["why"] for one in other["passed"]][3:], ["recipients: *@ours.test", "clients: may_relay"])
        self.assertEqual(postmaster["address"], "root@ours.test")
        self.assertEqual(self.run_command("--to", "u@ours.test")[0], 0)
        self.assertEqual(self.run_command("--to", "x@else.test")[0], 1)

    def test_an_address_beyond_ascii(self) -> None:
        """As the server takes it with SMTPUTF8."""
        (found,) = self.explained("--from", "\u00e4@x.test", "--to", "\u00fc@ours.test")["recipients"]
        self.assertEqual((found["address"], found["rule"]), ("\u00fc@ours.test", "in"))

    def test_who_has_logged_in(self) -> None:
        """Relays, as what it may send as; an account that is not there is told."""
        found = self.explained("--auth", "alice@ours.test", "--from", "alice@ours.test", "--to", "x@else.test")
        self.assertEqual((found["answer"], found["client"]["kind"]), ("250 2.1.0 OK", "submission"))
        self.assertEqual(found["recipients"][0]["rule"], "out")
        found = self.explained("--auth", "alice@ours.test", "--from", "bob@ours.test", "--to", "x@else.test")
        self.assertEqual(found["answer"], "553 5.7.1 bob@ours.test is not an address that alice@ours.test may send as")
        self.assertEqual(self.explained("--auth", "bob", "--to", "x@else.test")["answer"][:3], "535")

    def test_networks_and_ports(self) -> None:
        """A trusted client relays; without AUTH nobody sends through submission."""
        found = self.explained("--client-ip", "10.1.2.3", "--to", "x@else.test")
        self.assertEqual(found["recipients"][0]["answer"], "250 2.1.5 OK")
        found = self.explained("--port", "587", "--to", "u@ours.test")
        self.assertEqual(found["answer"], "530 5.7.0 Authentication required")

    def test_who_is_introduced(self) -> None:
        """By XCLIENT: the client that a listed proxy tells of, and whom it says has logged in; of a proxy that says
        nothing, that it might."""
        text = FILE.replace("email:\n", "email:\n  xclient_from: [10.9.0.0/16]\n", 1)
        (self.base / "routes.yaml").write_text(text)
        proxy = ("--client-ip", "10.9.0.1", "--to", "x@else.test")
        found = self.explained(*proxy, "--xclient", "ADDR=192.0.2.7 PROTO=ESMTP")
        self.assertEqual(found["client"]["address"], "192.0.2.7")
        self.assertEqual((found["client"]["via"], found["client"]["may_relay"]), ("10.9.0.1", False))
        self.assertEqual(found["recipients"][0]["rule"], None)
        found = self.explained(*proxy, "--from", "a@new.test", "--xclient", "LOGIN=a@new.test")
        self.assertEqual((found["answer"], found["recipients"][0]["rule"]), ("250 2.1.0 OK", "out"))
        found = self.explained(*proxy, "--from", "b@new.test", "--xclient", "LOGIN=a@new.test")
        self.assertEqual(found["answer"][:9], "553 5.7.1")
        lines = self.run_command(*proxy, "--xclient", "ADDR=192.0.2.7")[1].splitlines()
        self.assertEqual(lines[0], "192.0.2.7 on a port of kind smtp, a stranger, as 10.9.0.1 says by XCLIENT")
        self.assertIn("it may say by XCLIENT for whom it speaks", self.run_command(*proxy)[1].splitlines()[1])
        for attributes, problem in (("ADDR=here", "an address"), ("WHO=x", "an attribute WHO")):
            self.assertIn(problem, self.run_command(*proxy, "--xclient", attributes)[2])
        self.assertIn(
            "is not in email.xclient_from", self.run_command("--to", "u@ours.test", "--xclient", "LOGIN=x")[2]
        )

    def test_what_the_message_decides(self) -> None:
        """With headers and a size it is one rule, else those that it may be; why not the others."""
        (found,) = self.explained("--to", "u@ours.test")["recipients"]
        self.assertEqual((found["rule"], [one["rule"] for one in found["may"]]), ("in", ["big", "list"]))
        (unknown,) = self.explained("--to", "nobody@ours.test")["recipients"]
        self.assertEqual(unknown["answer"], "550 5.1.1 No such user here")
        self.assertIn("at the end of the message: RCPT is taken, as one of those may take it", unknown["notes"])
        for options, rule, answer, passed in (
            (("--header", "X-List: a"), "list", "250 2.1.5 OK", ["trap", "big"]),
            (("--header", "Subject: a", "--size", "1MB"), "in", "250 2.1.5 OK", ["trap", "big", "list"]),
            (("--size", "1100KB", "--header", "X-List: a"), "big", "550 5.3.4 Big", ["trap"]),
        ):
            (found,) = self.explained("--to", "u@ours.test", *options)["recipients"]
            self.assertEqual((found["rule"], found["answer"], found["may"]), (rule, answer, []))
            self.assertEqual([one["rule"] for one in found["passed"]], passed)

    def test_a_size_beyond_the_servers(self) -> None:
        """Refused at MAIL, where the client says it."""
        found = self.explained("--to", "u@ours.test", "--size", "51MB")
        self.assertEqual(found["answer"], "552 5.3.4 Message too big")

    def test_aliases(self) -> None:
        """Whether the client may write to the alias, and what each target meets, as from a client that may relay."""
        (self.base / "routes.yaml").write_text(FILE + "  aliases_file: aliases.yaml\n")
        (self.base / "aliases.yaml").write_text(
            "sales@ours.test: [u@ours.test, x@else.test]\ntrap@ours.test: u@ours.test\nold@ours.test: gone@ours.test\n"
        )
        sales, trap, old = self.explained(
            *("--to", "Sales@ours.test", "--to", "trap@ours.test", "--to", "old@ours.test")
        )["recipients"]
        self.assertEqual((sales["answer"], sales["rule"]), ("250 2.1.5 OK", "in"))
        self.assertEqual(
            [(one["recipient"], one["rule"], one["answer"]) for one in sales["targets"]],
            [("u@ours.test", "in", "250 2.1.5 OK"), ("x@else.test", "out", "250 2.1.5 OK")],
        )
        self.assertEqual(trap["answer"], "550 5.1.1 None")
        self.assertEqual(old["answer"], "550 5.1.1 No such user here")
        _, out, _ = self.run_command("--to", "sales@ours.test", "--size", "1KB")
        self.assertIn("  stands for x@else.test: 250 2.1.5 OK\n    out: mta\n", out)

    def test_for_people(self) -> None:
        """A line for each answer, and what led to it."""
        _, out, _ = self.run_command("--to", "u@ours.test")
        self.assertEqual(
            out.splitlines(),
            [
                "192.0.2.1 on a port of kind smtp, a stranger",
                "MAIL FROM:<>: 250 2.1.0 OK",
                "RCPT TO:<u@ours.test>: 250 2.1.5 OK",
                "  in: deliver",
                "  not trap: recipients: trap@ours.test",
                "  or big: reject, 550 5.3.4 Big, if size_over: 1MB",
                "  or list: deliver, 250 2.1.5 OK, if headers: x-list: re:.+",
                "  unless the client is not known yet (greylist)",
            ],
        )

    def test_slips(self) -> None:
        """One line each."""
        for arguments, problem in (
            ((), "say for whom it is"),
            (("--to", "u@"), "--to: 'u@' is not a mail address"),
            (("--to", "u@ours.test", "--from", "x"), "--from: 'x' is not a mail address"),
            (("--to", "u@ours.test", "--client-ip", "here"), "--client-ip: 'here' is not an IP address"),
            (("--to", "u@ours.test", "--header", "x"), "--header: 'x' is not NAME:VALUE"),
            (("--to", "u@ours.test", "--size", "x"), "--size: 'x' is not a size"),
            (("--to", "u@ours.test", "--port", "26"), "--port: 26 is no mail port; those are 25, 587, 465"),
        ):
            status, _, err = self.run_command(*arguments)
            self.assertEqual(status, 1)
            self.assertIn(problem, err)
