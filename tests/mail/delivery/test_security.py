"""TLS and logins towards next hops that are real TLS servers: what is sent, what waits, and what the reason says."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import SkipTest, TestCase

from dcrouter.config.forms import Secret
from dcrouter.config.rules import MailForward, Rule, RuleMatch, SmartHostAuth
from dcrouter.config.targets import Target
from dcrouter.events import DeliveryDone
from tests.mail.house import House, impatient, in_thread, send
from tests.mail.nexthop import CUT, SILENT, Script, ScriptedHop
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.logged import logged

NAME = "mx.localhost"
PASSWORD = "correct horse battery"
AUTH = SmartHostAuth(user="u", password=Secret(PASSWORD))
CA = Path("/ca.pem")
STARTTLS = "250-x\r\n250 STARTTLS"


def to(hop: ScriptedHop, *more: Target, **action: Any) -> Rule:
    """A rule that forwards to NAME, which is loopback, at the port of `hop`."""
    targets = (Target(host=NAME, port=hop.port), *more)
    return Rule(
        name="out", match=RuleMatch(recipients=("*@example.test",)), action=MailForward(targets=targets, **action)
    )


class SecurityTests(TestCase):
    def setUp(self) -> None:
        self.authority = Authority()
        self.good = self.authority.credential([NAME])

    def house(self, rule: Rule) -> House:
        patience = impatient("starttls", "tls", "quit")
        return House(self, rule, patience=patience, ca_files={str(CA): self.authority.root_pem})

    async def outcome(self, house: House) -> DeliveryDone:
        """Sends a message; gives the event of its first attempt."""
        count = len(house.done)
        await in_thread(send, house.listen(), "b@example.test")
        await until(lambda: len(house.done) > count)
        await house.idle()
        return house.done[count]

    async def test_tls_is_used_where_it_is_offered(self) -> None:
        """Whatever the certificate; EHLO is said again inside, and the outcome knows version and cipher."""
        strange = Authority().credential(["somebody.else"])
        for credential in (self.good, strange, self.authority.credential([NAME], days=-1)):
            hop = ScriptedHop(self, tls=credential)
            done = await self.outcome(self.house(to(hop)))
            self.assertEqual((done.outcome, done.target, hop.secured), ("delivered", f"{NAME}:{hop.port}", 1))
            self.assertRegex(done.tls or "", r"^TLSv1\.[23] TLS_")
            self.assertEqual([line[:4] for line in hop.commands[:4]], ["EHLO", "STAR", "EHLO", "MAIL"])

    async def test_tls_is_not_asked_for_where_it_is_unwanted_or_not_offered(self) -> None:
        """`none`, and a next hop without it: in clear."""
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(to(hop, tls="none")))
        self.assertEqual((done.outcome, done.tls, hop.secured), ("delivered", None, 0))
        plain = ScriptedHop(self)
        done = await self.outcome(self.house(to(plain)))
        self.assertEqual((done.outcome, done.tls), ("delivered", None))

    async def test_tls_that_fails_where_it_is_only_welcome_is_done_without(self) -> None:
        """A refusal: in clear on the same connection. A handshake that breaks or hangs, a cut: on the next one, and the
        message after that does not try again.
        """
        hop = ScriptedHop(self, tls=self.good, STARTTLS="454 4.7.0 not now")
        done = await self.outcome(self.house(to(hop)))
        self.assertEqual((done.outcome, done.tls, hop.connections), ("delivered", None, 1))
        for temper in ("no TLS behind it", "nothing behind it", CUT, SILENT, "421 4.3.2 closing"):
            hop = ScriptedHop(self, EHLO=STARTTLS, STARTTLS=temper)
            if temper == "no TLS behind it":
                hop.script["STARTTLS"] = lambda line, hop=hop: self.raw(hop, b"220 go\r\n", later=b"nonsense\r\n")
            elif temper == "nothing behind it":
                hop.script["STARTTLS"] = lambda line, hop=hop: self.raw(hop, b"220 go\r\n")
            house = self.house(to(hop))
            for _ in range(2):
                done = await self.outcome(house)
                self.assertEqual((done.outcome, done.tls, done.attempts), ("delivered", None, 1), temper)
                await until(lambda hop=hop: not hop.sessions)
            self.assertEqual((hop.connections, hop.commands.count("STARTTLS")), (3, 1), temper)

    def raw(self, hop: ScriptedHop, reply: bytes, later: bytes = b"") -> str:
        """Answers without starting TLS, and takes no lines any more."""
        session = hop.sessions[-1]
        session.setRawMode()
        session.rawDataReceived = lambda data: session.transport.write(later)
        session.transport.write(reply)
        return SILENT

    async def test_required_tls_goes_only_to_whom_the_certificate_is_for(self) -> None:
        """Right name, right authority: delivered. Anything else waits, and says exactly why."""
        hop = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(to(hop, tls="required", ca=CA)))
        self.assertEqual((done.outcome, hop.secured), ("delivered", 1))
        cases = (
            (
                self.authority.credential(["a.example", "b.example"]),
                "hostname mismatch, not for mx.localhost but for a.ex",
            ),
            (self.authority.credential([NAME], days=-1), "certificate has expired"),
            (Authority().credential([NAME]), "unable to get local issuer certificate"),
        )
        for credential, reason in cases:
            hop = ScriptedHop(self, tls=credential)
            done = await self.outcome(self.house(to(hop, tls="required", ca=CA)))
            self.assertEqual((done.outcome, hop.messages), ("deferred", []))
            self.assertRegex(done.reply, rf"^4\.7\.5 mx\.localhost:\d+: certificate verify failed: {reason}")
            self.assertFalse([line for line in hop.commands if line.startswith("MAIL")])

    async def test_required_tls_that_is_not_to_be_had_waits(self) -> None:
        """Not offered, refused, broken: deferred, never in clear; the next target has it."""
        tempers: tuple[tuple[Script, str, str], ...] = (
            ({}, "4.7.4", "STARTTLS is not offered"),
            ({"EHLO": STARTTLS, "STARTTLS": "454 4.7.0 no"}, "4.7.4", "STARTTLS refused: 454 4.7.0 no"),
            ({"EHLO": STARTTLS, "STARTTLS": "421 4.7.0 no"}, "4.7.4", "STARTTLS refused"),
            ({"EHLO": STARTTLS, "STARTTLS": CUT}, "4.7.5", "connection lost"),
        )
        for script, status, reason in tempers:
            hop = ScriptedHop(self, **script)
            done = await self.outcome(self.house(to(hop, tls="required", ca=CA)))
            self.assertEqual((done.outcome, hop.messages), ("deferred", []))
            self.assertTrue(done.reply.startswith(status), done.reply)
            self.assertIn(reason, done.reply)
        other = ScriptedHop(self, tls=self.good)
        done = await self.outcome(self.house(to(hop, Target(host=NAME, port=other.port), tls="required", ca=CA)))
        self.assertEqual((done.outcome, len(other.messages)), ("delivered", 1))

    async def test_octets_behind_the_reply_to_starttls_are_never_taken_for_the_servers(self) -> None:
        """RFC 3207 5: somebody in between put them there; where TLS is required the mail waits."""
        hop = ScriptedHop(self, tls=self.good, STARTTLS="220 go\r\n250-mx\r\n250 AUTH PLAIN")
        done = await self.outcome(self.house(to(hop, tls="required", ca=CA, auth=AUTH)))
        self.assertIn("octets behind the reply to STARTTLS", done.reply)
        self.assertFalse([line for line in hop.commands if line.startswith("AUTH")])

    async def test_a_login_goes_over_tls_only(self) -> None:
        """PLAIN, or LOGIN where only that is offered; without TLS no word of it, and the mail waits."""
        hop = ScriptedHop(self, tls=self.good, AUTH="235 2.7.0 welcome")
        done = await self.outcome(self.house(to(hop, tls="required", ca=CA, auth=AUTH)))
        self.assertEqual(done.outcome, "delivered")
        self.assertIn("AUTH PLAIN " + b64encode(f"\0u\0{PASSWORD}".encode()).decode(), hop.commands)
        asked = iter(("334 UGFzc3dvcmQ6", "235 2.7.0 welcome"))
        hop = ScriptedHop(self, tls=self.good, AUTH="334 VXNlcm5hbWU6", answer=lambda line: next(asked))
        hop.script["EHLO"] = lambda line: hop.hello(line).replace(" PLAIN", "")
        done = await self.outcome(self.house(to(hop, auth=AUTH)))
        self.assertEqual(done.outcome, "delivered")
        sent = [b64encode(text.encode()).decode() for text in ("u", PASSWORD)]
        self.assertEqual(hop.commands[3:6], ["AUTH LOGIN", *sent])
        for tls in ("none", "opportunistic"):
            plain = ScriptedHop(self, EHLO="250-x\r\n250 AUTH PLAIN LOGIN")
            done = await self.outcome(self.house(to(plain, tls=tls, auth=AUTH)))
            self.assertEqual(done.outcome, "deferred")
            self.assertIn("a login needs TLS", done.reply)
            self.assertEqual({line.split()[0] for line in plain.commands}, {"EHLO"})

    async def test_a_login_that_is_refused_bounces_nothing_and_is_told_loudly(self) -> None:
        """5xx: 4.7.8 and an error for the operator; 4xx: deferred; no line shows the password in any form."""
        secrets = [PASSWORD, b64encode(f"\0u\0{PASSWORD}".encode()).decode()]
        for reply, status in (
            ("535 5.7.8 wrong", "4.7.8"),
            ("454 4.7.0 busy", "4.7.0"),
            (f"500 unknown: AUTH PLAIN {secrets[1]}", "4.7.8"),
            (f"500 your password {PASSWORD} is wrong", "4.7.8"),
        ):
            hop = ScriptedHop(self, tls=self.good, AUTH=reply)
            house = self.house(to(hop, tls="required", ca=CA, auth=AUTH))
            lines = logged(self)
            done = await self.outcome(house)
            self.assertEqual((done.outcome, hop.messages), ("deferred", []))
            self.assertTrue(done.reply.startswith(status), done.reply)
            said = "\n".join(f"{formatEvent(line)} {line}" for line in lines) + done.reply
            self.assertFalse([secret for secret in secrets if secret in said])
            errors = [line for line in lines if line["log_level"] is LogLevel.error]
            self.assertEqual(len(errors), status == "4.7.8", reply)

    async def test_port_465_speaks_tls_from_the_first_octet(self) -> None:
        """Verified where it is required; a next hop of that number that speaks in clear gets nothing."""
        try:
            hop = ScriptedHop(self, tls=self.good, implicit=True, address="127.0.0.97", port=465)
        except CannotListenError as error:
            raise SkipTest("port 465 cannot be bound") from error
        target = (Target(host="127.0.0.97", port=465),)
        rule = Rule(name="out", action=MailForward(targets=target, tls="required", ca=CA))
        done = await self.outcome(self.house(rule))
        self.assertEqual((done.outcome, hop.commands), ("deferred", []))
        self.assertIn("hostname mismatch", done.reply)
        hop.tls = self.authority.credential(["127.0.0.97"])
        done = await self.outcome(self.house(rule))
        self.assertEqual((done.outcome, len(hop.messages)), ("delivered", 1))
        self.assertNotIn("STARTTLS", hop.commands)
        hop.implicit = False
        done = await self.outcome(self.house(rule))
        self.assertEqual(done.outcome, "deferred")
