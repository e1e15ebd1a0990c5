"""Who may, end to end: real clients, the rules, the target that is asked, the log."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import fail
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.rates import Rate
from dcrouter.config.rules import Mta, Rule, RuleLimits, RuleMatch, Verify
from tests.mail.house import LOCAL, House, dialogue, forward, in_thread, send
from tests.mail.nexthop import SILENT, ScriptedHop
from tests.mail.server.test_admission import FOREIGN, NO_PATHS, ROUTED
from tests.support.facts import until

HEAD = ("EHLO c.test", "MAIL FROM:<a@x.test>")


def codes(replies: list[bytes]) -> list[bytes]:
    return [reply[:9] for reply in replies]


class AskingTests(TestCase):
    def asking(self, **script: Any) -> tuple[House, ScriptedHop, int]:
        hop = ScriptedHop(self, **script)
        house = House(self, LOCAL, evolve(forward(hop.port), verify=Verify()))
        return house, hop, house.listen()

    async def test_the_target_is_asked_once_who_exists(self) -> None:
        """By MAIL FROM:<> and RCPT; unknown users are refused at RCPT, known ones are delivered to."""

        def users(line: str) -> str:
            return "250 2.1.5 ok" if "<joe@" in line else "550 5.1.1 never heard of"

        house, hop, port = self.asking(RCPT=users)
        lines = (*HEAD, "RCPT TO:<joe@example.test>", "RCPT TO:<ann@example.test>", "RCPT TO:<JOE@example.test>")
        for _ in range(2):
            replies = await in_thread(dialogue, port, *lines)
            self.assertEqual(codes(replies)[3:], [b"250 2.1.5", b"550 5.1.1", b"250 2.1.5"])
        asked = [line for line in hop.commands if line.startswith("RCPT")]
        self.assertEqual(asked, ["RCPT TO:<joe@example.test>", "RCPT TO:<ann@example.test>"])
        self.assertIn("MAIL FROM:<>", hop.commands)
        self.assertNotIn("DATA", hop.commands)
        await in_thread(send, port, "joe@example.test")
        await until(lambda: hop.messages)
        status = house.mta.status()
        self.assertEqual((status["verified"], status["unknown"]), (2, 2))

    async def test_a_target_that_refuses_to_be_asked_refuses_nobody(self) -> None:
        """A 550 to MAIL is not about the recipient; 450, and the client comes again."""
        _, _, port = self.asking(MAIL="550 5.7.1 no bounces here")
        replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<joe@example.test>")
        self.assertEqual(codes(replies)[3:], [b"450 4.1.1"])

    async def test_a_target_that_is_down_refuses_nobody(self) -> None:
        """450, and the other recipients of the message are not its business."""
        _, hop, port = self.asking()
        await hop.close()
        replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<joe@example.test>", "RCPT TO:<b@local.test>")
        self.assertEqual(codes(replies)[3:], [b"450 4.1.1", b"250 2.1.5"])

    async def test_a_client_that_leaves_while_the_target_is_asked(self) -> None:
        """Its session ends as any other; the answer is kept for the next one."""
        _, hop, port = self.asking(RCPT=SILENT)

        def leave() -> None:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                for line in (*HEAD, "RCPT TO:<u@example.test>"):
                    connection.recv(1000)
                    connection.sendall(f"{line}\r\n".encode())

        await in_thread(leave)
        await until(lambda: "RCPT TO:<u@example.test>" in hop.commands)
        (session,) = hop.sessions
        session.sendLine(b"250 2.1.5 ok")
        replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<u@example.test>")
        self.assertEqual(codes(replies)[3:], [b"250 2.1.5"])


class ListTests(TestCase):
    async def test_who_is_in_no_list_is_refused_and_the_log_says_by_what(self) -> None:
        """550 5.1.1 for the client, the rule's name for the operator."""
        path = Path(self.mktemp()).absolute()
        path.write_text("joe@local.test\n")
        house = House(self, evolve(LOCAL, recipients_file=path))
        port = house.listen()
        with capturedLogs() as logs:
            replies = await in_thread(
                dialogue, port, *HEAD, "RCPT TO:<ann@local.test>", "RCPT TO:<joe@local.test>", "RCPT TO:<u@x.test>"
            )
        self.assertEqual(codes(replies)[3:], [b"550 5.1.1", b"250 2.1.5", b"550 5.7.1"])
        lines = [formatEvent(event) for event in logs if "why" in event]
        self.assertEqual(
            lines,
            [
                "smtp-1: ann@local.test refused: 550 5.1.1 No such user here (rule local: not in recipients_file)",
                "smtp-1: u@x.test refused: 550 5.7.1 Relaying denied (default_action)",
            ],
        )
        status = house.mta.status()
        self.assertEqual((status["unknown"], status["refused"]), (1, 1))


class BrokenTests(TestCase):
    async def test_an_error_of_ours_is_a_temporary_answer(self) -> None:
        """Nobody waits for ever: 451 4.3.0 to the recipient, the log has the error, and the session goes on."""
        house = House(self)
        port = house.listen()
        self.patch(house.mta._admission, "recipient", lambda *_: fail(ValueError("broken")))
        replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<b@local.test>", "NOOP")
        self.assertEqual(codes(replies)[3:], [b"451 4.3.0", b"250 2.0.0"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ClientTests(TestCase):
    async def test_rules_see_who_the_client_is(self) -> None:
        """The address behind the edge, trusted networks, the sender."""
        relay = Rule(name="relay", match=RuleMatch(clients="may_relay"), action=Mta())
        bounces = Rule(
            name="bounces",
            match=RuleMatch(senders=("<>",), client_ips=(ip_network("192.0.2.0/24"),)),
            action=LOCAL.action,
        )
        house = House(self, bounces, LOCAL, relay, trusted=(ip_network("10.0.0.0/8"),))
        for peer, sender, expected in (
            ("198.51.100.1", "a@x.test", b"550 5.7.1"),
            ("10.1.2.3", "a@x.test", b"250 2.1.5"),
            ("192.0.2.1", "", b"250 2.1.5"),
            ("192.0.2.1", "a@x.test", b"550 5.7.1"),
        ):
            port = house.listen(peer=(peer, 4711))
            replies = await in_thread(
                dialogue, port, "EHLO c.test", f"MAIL FROM:<{sender}>", "RCPT TO:<u@elsewhere.test>"
            )
            self.assertEqual(codes(replies)[3:], [expected], (peer, sender))

    async def test_limits_of_a_rule_hold_over_connections(self) -> None:
        """Messages by the time, recipients by the message."""
        limits = RuleLimits(messages=Rate(rate=(2, 3600.0)), max_recipients=1)
        house = House(self, evolve(LOCAL, limits=limits))
        port = house.listen()
        lines = (*HEAD, "RCPT TO:<a@local.test>", "RCPT TO:<b@local.test>", "DATA", b"Subject: x\r\n\r\ny\r\n.\r\n")
        for expected in ([b"250 2.1.5", b"452 4.5.3"], [b"250 2.1.5", b"452 4.5.3"], [b"451 4.7.1", b"451 4.7.1"]):
            replies = await in_thread(dialogue, port, *(lines if expected[0][:1] == b"2" else lines[:4]))
            self.assertEqual(codes(replies)[3:5], expected)
        await until(lambda: len(house.mails("a@local.test")) == 2)


class RelayTests(TestCase):
    async def test_no_port_relays_for_strangers(self) -> None:
        """The battery of the admission tests on sockets: each is refused, in the clear and where a login is due."""
        relay = Rule(name="relay", match=RuleMatch(clients="may_relay"), action=Mta())
        house = House(self, LOCAL, relay)
        paths = [path.replace("ours.test", "local.test") for path in (*ROUTED, *FOREIGN, *NO_PATHS) if path.isascii()]
        for kind, first in (("smtp", b"250"), ("submission", b"530")):
            port = house.listen(kind)
            for begin in range(0, len(paths), 10):
                lines = [f"RCPT TO:{path}" for path in paths[begin : begin + 10]]
                replies = await in_thread(dialogue, port, *HEAD, *lines)
                self.assertEqual(replies[2][:3], first)
                self.assertEqual([reply for reply in replies[3:] if not reply.startswith(b"5")], [], lines)
        replies = await in_thread(dialogue, house.listen(), "EHLO c", "RCPT TO:<b@local.test>", "DATA", "QUIT")
        self.assertEqual([reply[:3] for reply in replies[2:4]], [b"503", b"503"])
        self.assertEqual(house.mta.status()["accepted"], 0)
