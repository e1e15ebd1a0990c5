"""Next hops of every temper: what of a message is delivered, deferred or failed, and where it goes instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Queue, Retry
from tests.mail.house import LOCAL, House, forward, impatient, in_thread, send
from tests.mail.nexthop import CUT, SILENT, Script, ScriptedHop
from tests.support.facts import until
from tests.support.ports import reserved


class LimitedHop(ScriptedHop):
    """A next hop that takes `most` messages on a connection, and says 421 to the next one's `verb`."""

    def __init__(self, case: TestCase, verb: str, usual: str, *, cut: bool) -> None:
        super().__init__(case, EHLO=self._greet)
        self.script[verb] = self._say
        self.most = 1
        self._usual = usual
        self._cut = cut
        self._taken = 0

    def _greet(self, line: str) -> str:
        self._taken = 0
        return "250 next"

    def _say(self, line: str) -> str:
        self._taken += 1
        if self._taken <= self.most:
            return self._usual
        if self._cut:
            session = self.sessions[-1]
            reactor.callLater(0, session.transport.loseConnection)
        return "421 4.7.0 enough"


class ForwardTests(TestCase):
    async def outcome(self, house: House, *recipients: str) -> list[dict[str, Any]]:
        """Sends a message, waits for its first attempt; gives the rows that stay in the queue."""
        await in_thread(send, house.listen(), *(recipients or ("b@example.test",)))
        status = house.mta.status
        await until(
            lambda: status()["delivered"] + status()["deferred"] + status()["failed"] >= len(recipients or (1,))
        )
        await house.idle()
        return await house.queue()

    async def test_recipients_share_a_transaction_and_have_results_of_their_own(self) -> None:
        """One message, one DATA; 5xx stays as failed with its reply, 4xx is deferred with its reply, 250 is gone."""

        def rcpt(line: str) -> str:
            if "bad" in line:
                return "550 5.1.1 who"
            return "450 4.2.1 later" if "busy" in line else "250 2.1.5 ok"

        hop = ScriptedHop(self, RCPT=rcpt)
        house = House(self, forward(hop.port))
        rows = await self.outcome(house, "good@example.test", "bad@example.test", "busy@example.test")
        self.assertEqual(len(hop.messages), 1)
        self.assertEqual(
            [(row["recipient"], row["state"], row["reply"], row["attempts"]) for row in rows],
            [
                ("bad@example.test", "failed", "550 5.1.1 who", 1),
                ("busy@example.test", "deferred", "450 4.2.1 later", 1),
            ],
        )
        self.assertEqual(house.mta.status()["queued"], 1)
        for name, answer in (("1", None), ("nonsense", None), (rows[0]["message"], len(rows))):
            dropped = await house.mta.queue_ask({"do": "drop", "messages": [name]})
            self.assertEqual(dropped.get("changed"), answer)
        self.assertEqual(await house.queue(), [])

    async def test_refusals_at_each_step_mean_what_they_say(self) -> None:
        """5xx at MAIL, RCPT, DATA or the end: failed, not tried elsewhere. 4xx: deferred."""
        for verb in ("MAIL", "RCPT", "DATA", "final"):
            for code, state in ((550, "failed"), (451, "deferred")):
                hop, other = ScriptedHop(self), ScriptedHop(self)
                hop.script[verb] = f"{code} {code // 100}.0.0 no"
                house = House(self, forward(hop.port, other.port))
                (row,) = await self.outcome(house)
                self.assertEqual((row["state"], row["reply"]), (state, f"{code} {code // 100}.0.0 no"), verb)
                self.assertEqual(other.connections, 0)

    async def test_a_target_that_cannot_be_used_passes_the_message_on(self) -> None:
        """Nobody there, refused, cut, silent, garbage, 421, at each step: the next target has it, once."""
        tempers: list[Script] = [
            {"greeting": "554 go away"},
            {"greeting": CUT},
            {"greeting": SILENT},
            {"greeting": "SSH-2.0-OpenSSH"},
            {"greeting": "421 busy"},
            {"EHLO": CUT},
            {"EHLO": "421 busy"},
            {"EHLO": "500 what", "HELO": "500 what"},
            {"MAIL": CUT},
            {"MAIL": SILENT},
            {"MAIL": "421 4.3.2 closing"},
            {"RCPT": CUT},
            {"DATA": CUT},
            {"DATA": SILENT},
            {"final": "421 4.3.2 closing"},
        ]
        good = ScriptedHop(self)
        for number, temper in enumerate(tempers):
            hop = ScriptedHop(self, **temper)
            patience = impatient("greeting", "mail", "data") if SILENT in temper.values() else None
            house = House(self, forward(hop.port, good.port), patience=patience)
            rows = await self.outcome(house)
            self.assertEqual((rows, len(good.messages)), ([], number + 1), temper)
            await house.close()
        house = House(self, forward(reserved(self), good.port))
        rows = await self.outcome(house)
        self.assertEqual((rows, len(good.messages)), ([], len(tempers) + 1))

    async def test_a_reply_that_only_dribbles_in_is_not_waited_for(self) -> None:
        """One more line of it is no progress: the next target has the message."""
        slow, good = ScriptedHop(self), ScriptedHop(self)

        def dribble(line: str) -> str:
            more = LoopingCall(slow.sessions[-1].sendLine, b"250-more")
            more.start(0.1)
            self.addCleanup(more.stop)
            return SILENT

        slow.script["EHLO"] = dribble
        house = House(self, forward(slow.port, good.port), patience=impatient("ehlo"))
        rows = await self.outcome(house)
        self.assertEqual((rows, len(good.messages)), ([], 1))

    async def test_a_refused_recipient_is_refused_though_the_session_broke_off(self) -> None:
        """At another recipient, at DATA or within the message: only the others go to the next target."""
        large = "Subject: x\r\n\r\n" + ("y" * 998 + "\r\n") * 3000

        def rcpt(line: str) -> str:
            said = {"bad": "550 5.1.1 who", "many": "452 4.5.3 later", "cut": CUT}
            return said.get(line.partition("<")[2].partition("@")[0], "250 2.1.5 ok")

        for data, last, body in ((CUT, "good", "x\r\n"), ("250 ok", "cut", "x\r\n"), ("354 go", "good", large)):
            hop, good = ScriptedHop(self, EHLO="250 hop", RCPT=rcpt, DATA=data), ScriptedHop(self)
            house = House(self, forward(hop.port, good.port))
            if data == "354 go":

                def cut(line: str, hop: ScriptedHop = hop) -> str:
                    reactor.callLater(0, hop.sessions[-1].transport.abortConnection)
                    return "354 go"

                hop.script["DATA"] = cut
            names = ("many", "bad", last)
            await in_thread(send, house.listen(), *(f"{name}@example.test" for name in names), body=body)
            await until(lambda house=house: len(house.done) >= 3)
            await house.idle()
            done = {one.recipient.partition("@")[0]: (one.outcome, one.target) for one in house.done}
            second = f"127.0.0.1:{good.port}"
            expected = {"many": ("delivered", second), "bad": ("failed", f"127.0.0.1:{hop.port}")}
            self.assertEqual(done, {**expected, last: ("delivered", second)})
            ((envelope, _),) = good.messages
            self.assertEqual(len(envelope), 3)
            await house.close()

    async def test_of_a_reply_without_end_the_beginning_is_kept(self) -> None:
        """60 KB of excuses are a reply; the queue keeps and the logs tell 2000 characters."""
        hop = ScriptedHop(self, RCPT="\r\n".join([f"450-4.2.0 {'y' * 990}"] * 60 + ["450 4.2.0 y"]))
        house = House(self, forward(hop.port))
        rows = await self.outcome(house)
        self.assertEqual((rows[0]["state"], len(rows[0]["reply"])), ("deferred", 2000))
        self.assertTrue(rows[0]["reply"].startswith("450 4.2.0 yyy") and rows[0]["reply"].endswith("yyy ..."))

    async def test_an_answer_counts_though_nonsense_follows(self) -> None:
        """250 with a line behind it that is no reply: delivered, once, and the connection is not used again; so with a
        refusal of the message or of all mail.
        """
        for verb, reply, outcome in (
            ("final", "250 2.0.0 taken\r\nOK", "delivered"),
            ("final", "550 5.7.1 no\r\nOK", "failed"),
            ("greeting", "521 5.3.2 never\r\nOK", "failed"),
        ):
            hop, other = ScriptedHop(self), ScriptedHop(self)
            hop.script[verb] = reply
            hops = (hop.port, other.port) if verb == "final" else (hop.port,)
            house = House(self, forward(*hops))
            port = house.listen()
            for count in (1, 2):
                await in_thread(send, port, "b@example.test", sender="<>")
                await until(lambda count=count, house=house: len(house.done) == count)
            self.assertEqual({one.outcome for one in house.done}, {outcome})
            self.assertEqual((hop.connections, other.connections), (2 if verb == "final" else hop.connections, 0))
            await house.close()

    async def test_a_connection_with_replies_to_nothing_is_not_used_again(self) -> None:
        """Nobody knows what the next one would answer."""
        hop = ScriptedHop(self, final="250 2.0.0 taken\r\n250 2.0.0 taken")
        house = House(self, forward(hop.port))
        port = house.listen()
        for count in (1, 2):
            await in_thread(send, port, "b@example.test")
            await until(lambda count=count: house.mta.status()["delivered"] == count)
        self.assertEqual((hop.connections, len(hop.messages)), (2, 2))

    async def test_targets_beyond_the_retries_are_not_tried(self) -> None:
        """And when none is reached the message waits, with the reasons."""
        good = ScriptedHop(self)
        ports = (reserved(self), reserved(self), good.port)
        house = House(self, forward(*ports, retries=1))
        (row,) = await self.outcome(house)
        self.assertEqual((row["state"], good.connections), ("deferred", 0))
        self.assertIn(f"127.0.0.1:{ports[0]}: ", row["reply"])
        self.assertIn(f"127.0.0.1:{ports[1]}: ", row["reply"])

    async def test_round_robin_shares_messages(self) -> None:
        """Each target has its turn."""
        hops = [ScriptedHop(self) for _ in range(3)]
        house = House(self, forward(*(hop.port for hop in hops), balance="round-robin"))
        port = house.listen()
        for _ in range(6):
            await in_thread(send, port, "b@example.test")
        await until(lambda: house.mta.status()["delivered"] == 6)
        self.assertEqual([len(hop.messages) for hop in hops], [2, 2, 2])

    async def test_connections_are_kept_and_a_closed_one_costs_nothing(self) -> None:
        """The second message takes the same connection; where that had been closed, a new one at once."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))
        port = house.listen()
        for count in (1, 2):
            await in_thread(send, port, "b@example.test")
            await until(lambda count=count: house.mta.status()["delivered"] == count)
        self.assertEqual(hop.connections, 1)
        hop.script["MAIL"] = lambda line: hop.script.pop("MAIL") and hop.script.setdefault("MAIL", "250 ok") and CUT
        await in_thread(send, port, "b@example.test")
        await until(lambda: house.mta.status()["delivered"] == 3)
        self.assertEqual((hop.connections, house.mta.status()["deferred"]), (2, 0))

    async def test_a_server_that_takes_so_many_messages_on_a_connection(self) -> None:
        """421 to the next one, with or without a cut, at each step before the message: it has it by another connection
        at once. Where that says 421 as well, it waits, and the way there is tried later.
        """
        for verb, usual in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go")):
            for end in (True, False):
                hop = LimitedHop(self, verb, usual, cut=end)
                house = House(self, forward(hop.port))
                port = house.listen()
                for count in (1, 2, 3):
                    await in_thread(send, port, "b@example.test")
                    await until(lambda count=count, house=house: len(house.done) == count)
                self.assertEqual({one.outcome for one in house.done}, {"delivered"}, verb)
                self.assertEqual((hop.connections, len([one for one in hop.messages if one[1]])), (3, 3), verb)
                hop.most = 0
                await in_thread(send, port, "b@example.test")
                await until(lambda house=house: len(house.done) == 4)
                self.assertEqual((house.done[3].outcome, hop.connections), ("deferred", 4))
                await house.close()

    async def test_a_large_message_that_breaks_off_is_never_taken_for_a_whole_one(self) -> None:
        """The spool file is gone: the connection is cut without an end mark, and the message stays."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))

        def data(line: str) -> str:
            for path in (house.state / "mail" / "spool").iterdir():
                path.unlink()
            return "354 go"

        hop.script["DATA"] = data
        body = "Subject: x\r\n\r\n" + "text\r\n" * 50000
        await in_thread(send, house.listen(), "b@example.test", body=body)
        await until(lambda: house.mta.status()["deferred"])
        self.assertEqual(hop.messages, [])

    async def test_a_refusal_within_the_message_is_its_answer(self) -> None:
        """The next hop says 552 while the message is still on its way: failed at once, and the connection is cut."""

        def enough(line: str) -> str:
            hop.sessions[0].transport.write(b"354 go\r\n552 5.3.4 enough\r\n")
            hop.sessions[0].transport.pauseProducing()
            return SILENT

        hop = ScriptedHop(self, DATA=enough)
        house = House(self, forward(hop.port))
        body = "Subject: x\r\n\r\n" + "text\r\n" * 500000
        await in_thread(send, house.listen(), "b@example.test", body=body)
        await until(lambda: house.mta.status()["failed"])
        await house.idle()
        (row,) = await house.queue()
        self.assertEqual((row["reply"], hop.messages), ("552 5.3.4 enough", []))

    async def test_eight_bit_content_is_announced(self) -> None:
        """BODY=8BITMIME only for content that is."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))
        port = house.listen()
        await in_thread(send, port, "b@example.test", body="Subject: x\r\n\r\n\u00fc\r\n")
        await in_thread(send, port, "b@example.test")
        await until(lambda: house.mta.status()["delivered"] == 2)
        mails = [command for command in hop.commands if command.startswith("MAIL")]
        self.assertEqual(["8BITMIME" in mail for mail in mails], [True, False])

    async def test_many_recipients_go_in_batches(self) -> None:
        """A hundred in one transaction, as every server must take."""
        hop = ScriptedHop(self)
        house = House(self, forward(hop.port))
        await in_thread(send, house.listen(), *(f"b{number}@example.test" for number in range(250)))
        await until(lambda: house.mta.status()["delivered"] == 250)
        self.assertEqual(sorted(len(envelope) - 1 for envelope, _ in hop.messages), [50, 100, 100])


class QueueTests(TestCase):
    async def test_deferred_mail_is_tried_again_when_it_is_due(self) -> None:
        """By its own time, without anybody asking; then it is gone."""
        hop = ScriptedHop(self, MAIL="451 4.0.0 later")
        retry = Queue(retry=Retry(base=0.3, max=0.3, jitter=0.0))
        house = House(self, forward(hop.port), queue=retry)
        await in_thread(send, house.listen(), "b@example.test")
        await until(lambda: house.mta.status()["deferred"] >= 2)
        hop.script["MAIL"] = "250 ok"
        await until(lambda: house.mta.status()["delivered"] == 1)
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(len([content for _, content in hop.messages if content]), 1)

    async def test_mail_that_is_too_old_fails_with_its_last_reply(self) -> None:
        """After max_age it stays for the operator."""
        hop = ScriptedHop(self, MAIL="451 4.0.0 later")
        retry = Queue(retry=Retry(base=0.1, max=0.1, max_age=0.5, jitter=0.0))
        house = House(self, forward(hop.port), queue=retry)
        await in_thread(send, house.listen(), "b@example.test")
        await until(lambda: house.mta.status()["failed"])
        await house.idle()
        (row,) = await house.queue()
        self.assertEqual((row["state"], row["reply"], row["due"]), ("failed", "451 4.0.0 later", None))

    async def test_mail_that_waits_when_we_close_is_due_at_the_next_start(self) -> None:
        """Going away is no attempt: nothing is deferred, and the next run sends at once what this one could not."""
        slow = ScriptedHop(self, greeting=SILENT)
        state = Path(self.mktemp()).absolute()
        house = House(self, forward(slow.port), state=state)
        await in_thread(send, house.listen(), "b@example.test")
        await until(lambda: slow.connections)
        await house.close()
        up = ScriptedHop(self)
        house = House(self, forward(up.port), state=state)
        await until(lambda: house.mta.status()["delivered"] == 1)
        await until(lambda: house.mta.status()["queued"] == 0)

    async def test_queued_mail_survives_a_restart_and_a_changed_rule(self) -> None:
        """The next run sends it to where the rule points then; nothing is sent twice."""
        down, up = ScriptedHop(self, greeting="421 no"), ScriptedHop(self)
        state = Path(self.mktemp()).absolute()
        house = House(self, forward(down.port), state=state, queue=Queue(retry=Retry(base=0.2, max=0.2)))
        port = house.listen()
        big = "Subject: big\r\n\r\n" + "text\r\n" * 40000
        await in_thread(send, port, "b@example.test")
        await in_thread(send, port, "b@example.test", body=big)
        await until(lambda: house.mta.status()["deferred"] >= 2)
        await house.close()
        house = House(self, forward(up.port), state=state)
        await until(lambda: house.mta.status()["delivered"] == 2)
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(sorted(len(content) > 100000 for _, content in up.messages), [False, True])
        await until(lambda: not list((state / "mail" / "spool").iterdir()))

    async def test_mail_of_a_rule_that_is_gone_is_held_until_it_is_back(self) -> None:
        """With the reason, without attempts; the next start with the rule sends it."""
        down, up = ScriptedHop(self, greeting="421 no"), ScriptedHop(self)
        state = Path(self.mktemp()).absolute()
        soon = Queue(retry=Retry(base=0.2, max=0.2))
        house = House(self, forward(down.port), state=state, queue=soon)
        await in_thread(send, house.listen(), "b@example.test")
        await until(lambda: house.mta.status()["deferred"] >= 1)
        await house.close()
        house = House(self, LOCAL, state=state, queue=soon)

        def held() -> Deferred[list[dict[str, Any]] | bool]:
            return house.queue().addCallback(lambda rows: rows[0]["state"] == "held" and rows)

        (row,) = await until(held)
        self.assertEqual(row["reply"], "no rule named out")
        await house.close()
        house = House(self, forward(up.port), state=state, queue=soon)
        await until(lambda: len(up.messages) == 1)
        await until(lambda: house.mta.status()["queued"] == 0)
