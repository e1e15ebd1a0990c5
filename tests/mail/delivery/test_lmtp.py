"""deliver lmtp: scripted servers, smtp-sink and Dovecot."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from dcrouter.config.forms import HostPort
from dcrouter.config.queue import Bounces
from dcrouter.config.rules import Deliver, Rule
from dcrouter.events import DeliveryDone
from tests.mail.house import House, in_thread, send
from tests.mail.nexthop import CUT, ScriptedHop
from tests.support.dovecot import Dovecot
from tests.support.facts import until
from tests.support.programs import SmtpSink


def to(place: HostPort | Path) -> Rule:
    return Rule(name="in", action=Deliver(lmtp=place))


class LmtpTests(TestCase):
    def house(self, place: HostPort | Path) -> House:
        return House(self, to(place), bounces=Bounces(dsn=False))

    async def outcomes(self, house: House, *recipients: str) -> dict[str, DeliveryDone]:
        """Sends a message; gives the events of its first attempt, by recipient."""
        count = len(house.done)
        await in_thread(send, house.listen(), *recipients)
        await until(lambda: len(house.done) >= count + len(recipients))
        await house.idle()
        return {done.recipient.partition("@")[0]: done for done in house.done[count:]}

    async def test_each_recipient_has_the_reply_that_is_its_own(self) -> None:
        """At RCPT or after the message: delivered, failed, deferred; the connection is used again."""

        def final(line: str) -> str:
            return "452 4.2.2 full" if "full" in line else "250 2.0.0 saved"

        hop = ScriptedHop(
            self, lmtp=True, RCPT=lambda line: "550 5.1.1 who" if "bad" in line else "250 ok", final=final
        )
        house = self.house(HostPort("127.0.0.1", hop.port))
        for _ in range(2):
            done = await self.outcomes(house, "a@x.test", "bad@x.test", "full@x.test", "b@x.test")
            replies = {who: (one.outcome, one.reply) for who, one in done.items()}
            self.assertEqual(
                replies,
                {
                    "a": ("delivered", "250 2.0.0 saved"),
                    "bad": ("failed", "550 5.1.1 who"),
                    "full": ("deferred", "452 4.2.2 full"),
                    "b": ("delivered", "250 2.0.0 saved"),
                },
            )
        self.assertEqual((hop.connections, hop.commands[0]), (1, "LHLO mail.example.test"))

    async def test_a_full_mailbox_is_not_sent_the_message_again_at_once(self) -> None:
        """452 and 552 after the message, without further codes: deferred and failed, in one transaction."""

        def final(line: str) -> str:
            return {"b": "452 full", "c": "552 full"}.get(line.partition("<")[2][:1], "250 2.0.0 saved")

        hop = ScriptedHop(self, lmtp=True, final=final)
        done = await self.outcomes(self.house(HostPort("127.0.0.1", hop.port)), "a@x.test", "b@x.test", "c@x.test")
        outcomes = {who: one.outcome for who, one in done.items()}
        self.assertEqual(outcomes, {"a": "delivered", "b": "deferred", "c": "failed"})
        self.assertEqual(len(hop.messages), 1)

    async def test_replies_that_came_before_the_end_count(self) -> None:
        """The server breaks off between two replies: whoever has it does not get it again, the other waits."""
        hop = ScriptedHop(self, lmtp=True, final=lambda line: CUT if "b@" in line else "250 saved")
        house = self.house(HostPort("127.0.0.1", hop.port))
        done = await self.outcomes(house, "a@x.test", "b@x.test")
        self.assertEqual((done["b"].outcome, done["b"].reply[:5]), ("deferred", "4.4.2"))
        self.assertEqual(len(hop.messages), 1)

    async def test_a_server_that_is_not_there_defers(self) -> None:
        """A socket without a server behind it; its path is the target."""
        path = Path(tempfile.mkdtemp()) / "lmtp"
        self.addCleanup(path.parent.rmdir)
        house = self.house(path)
        done = await self.outcomes(house, "a@x.test")
        self.assertEqual((done["a"].outcome, done["a"].target), ("deferred", str(path)))
        done = await self.outcomes(self.house(Path("/tmp") / ("x" * 120)), "a@x.test")
        self.assertIn("too long", done["a"].reply)

    async def test_smtp_sink_takes_it(self) -> None:
        """Postfix's own LMTP server, several recipients, several messages."""
        sink = SmtpSink(options=("-L",))
        self.addCleanup(sink.close)
        house = self.house(HostPort("127.0.0.1", sink.port))
        for _ in range(3):
            done = await self.outcomes(house, "a@x.test", "b@x.test")
            self.assertEqual([one.outcome for one in done.values()], ["delivered", "delivered"])

    async def test_dovecot_takes_it(self) -> None:
        """By a unix socket and by TCP: into its Maildir, or refused at RCPT for an unknown user."""
        dovecot = Dovecot(DOVECOT, ("joe", "ann"), ours=True)
        self.addCleanup(dovecot.close)
        for place in (dovecot.base / "lmtp", HostPort("127.0.0.1", dovecot.port)):
            house = self.house(place)
            done = await self.outcomes(house, "joe@x.test", "nobody@x.test", "ann@x.test")
            outcomes = {who: one.outcome for who, one in done.items()}
            self.assertEqual(outcomes, {"joe": "delivered", "nobody": "failed", "ann": "delivered"}, done)
            await house.close()
        for who in ("joe", "ann"):
            self.assertEqual(len(list((dovecot.base / "mail" / who / "new").iterdir())), 2)


DOVECOT = """
protocols = lmtp
auth_username_format = %Ln
service auth {{
  user = {user}
}}
service lmtp {{
  user = {user}
  unix_listener {base}/lmtp {{
    mode = 0600
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""
"""On a port of TCP and at `base`/lmtp."""
