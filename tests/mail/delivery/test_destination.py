"""Connections to next hops: whom they serve, how many there may be, and what a next hop that is slow or down means."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcrouter.config.resolver import Resolver as ResolverConfig
from dcrouter.config.rules import MailForward, Rule
from dcrouter.errors import Unreachable
from dcrouter.mail import floor
from dcrouter.mail.delivery import destination as module
from dcrouter.mail.delivery.body import NextPiece
from dcrouter.mail.delivery.destinations import Destinations, Question
from dcrouter.mail.delivery.egress.egress import Leg
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.delivery.outcome import Peer, Postponed
from dcrouter.mail.delivery.patience import TIMEOUTS, Patience
from dcrouter.mail.delivery.sending import Trouble
from dcrouter.mail.server.verify import asked_hops, in_turn
from dcrouter.mail.shaping.limits import Limits
from dcrouter.net.resolver import Resolver
from dcrouter.wire.smtp.client import Phase, Transaction
from tests.mail.delivery.test_forward import LimitedHop
from tests.mail.house import House, forward, impatient, in_thread, send
from tests.mail.nexthop import CUT, SILENT, ScriptedHop
from tests.support.facts import until

SMALL = b"Subject: x\r\n\r\ntext\r\n"


class Sent:
    """A message for one recipient; `result`: (`finished` | `unanswered` | `unreachable`, what was said).

    `next_piece`: of one that is not in memory.
    """

    def __init__(self, next_piece: NextPiece | None = None) -> None:
        self.transaction = Transaction("a@x.test", ["b@x.test"], len(SMALL), False)
        self.content: Any = self
        self.octets: bytes | None = None if next_piece else SMALL
        self.dotless = False
        self.result: tuple[str, Any] | None = None
        self.ticket = id(self)
        self._next_piece = next_piece

    def pieces(self) -> NextPiece:
        assert self._next_piece is not None, "it is in memory"
        return self._next_piece

    def file(self) -> None:
        return None

    async def ended(self) -> tuple[str, Any]:
        """Its result, when it is there."""
        await until(lambda: self.result)
        assert self.result is not None
        return self.result

    def finished(self, replies: Any, peer: Peer) -> None:
        self.result = ("finished", replies[0].code)

    def answered(self, replies: Any, peer: Peer) -> None:
        pass

    def unanswered(self, replies: Any, reason: str, peer: Peer) -> None:
        self.result = ("unanswered", reason)

    def parted(self, reply: str) -> bool:
        return False

    def refused(self, replies: Any, peer: Peer) -> None:
        pass

    def unreachable(self, trouble: Trouble) -> None:
        self.result = ("unreachable", trouble)

    def postponed(self, outcome: Postponed) -> None:
        self.result = ("postponed", outcome)


class DestinationTests(TestCase):
    def setUp(self) -> None:
        self.recovered: list[str] = []

    def destinations(self, patience: Patience | None = None, size: int = 1000) -> Destinations:
        resolver = Resolver(ResolverConfig(), reactor)
        destinations = Destinations(
            "me.test",
            resolver,
            reactor,
            patience or Patience(),
            ca_files={},
            recovered=self.recovered.append,
            limits=Limits(reactor, self.recovered.append, size=size),
        )
        self.addCleanup(resolver.close)
        self.addCleanup(self.close, destinations)
        return destinations

    async def close(self, destinations: Destinations) -> None:
        """Every connection has ended when this fires."""
        destinations.close()
        await until(lambda: not any(one._connections or one._opening for one in destinations._known.values()))

    def hop(self, port: int) -> NextHop:
        return NextHop(host="127.0.0.1", port=port, tls="none")

    def test_nobody_is_waited_for_less_than_the_standard_says(self) -> None:
        """RFC 5321 4.5.3.2.1 to 4.5.3.2.6, in minutes."""
        least: dict[Phase, int] = {"greeting": 5, "ehlo": 5, "mail": 5, "rcpt": 5, "data": 2, "body": 3, "final": 10}
        self.assertEqual(
            {phase: TIMEOUTS[phase] >= 60.0 * minutes for phase, minutes in least.items()}, dict.fromkeys(least, True)
        )
        self.assertEqual(Patience().replies, TIMEOUTS)

    async def test_each_phase_has_its_timeout(self) -> None:
        """A server that falls silent at any point is left, and the reason names the point; behind the end of the
        message nobody knows whether it has arrived.
        """
        phases: tuple[Phase, ...] = ("greeting", "ehlo", "mail", "rcpt", "data")
        for verb, phase in zip(("greeting", "EHLO", "MAIL", "RCPT", "DATA"), phases, strict=True):
            hop = ScriptedHop(self, EHLO="250 no pipelining")
            hop.script[verb] = SILENT
            patience = Patience(replies={**TIMEOUTS, phase: 0.2})
            sent = Sent()
            self.destinations(patience).of(self.hop(hop.port)).send(sent)
            result, trouble = await sent.ended()
            self.assertEqual(result, "unreachable")
            self.assertIn(f"timeout in {phase}", trouble.reason)
        hop = ScriptedHop(self, final=SILENT)
        sent = Sent()
        self.destinations(Patience(replies={**TIMEOUTS, "final": 0.2})).of(self.hop(hop.port)).send(sent)
        self.assertEqual(await sent.ended(), ("unanswered", "timeout in final (waiting for final)"))

    async def ends_in_time(self, seconds: float, drop: NextPiece, drops: list[Deferred[bytes]]) -> None:
        """A message of which `drop` gives the next piece, and which has so long, is broken off; nothing comes later."""
        sent = Sent(drop)
        self.patch(floor, "SPAN", seconds)
        hop = ScriptedHop(self)
        self.destinations(Patience(replies={**TIMEOUTS, "body": seconds})).of(self.hop(hop.port)).send(sent)
        result, trouble = await sent.ended()
        self.assertEqual(result, "unreachable")
        self.assertIn("timeout in body", trouble.reason)
        self.assertEqual(hop.messages, [])
        await gatherResults(drops)

    async def test_a_body_that_only_trickles_ends(self) -> None:
        """It is never silent, and holds its connection no longer than it may."""
        drops: list[Deferred[bytes]] = []

        def drop() -> Deferred[bytes]:
            drops.append(deferLater(reactor, 0.02, lambda: b"x\r\n"))
            return drops[-1]

        await self.ends_in_time(1.0, drop, drops)

    async def test_a_piece_that_comes_when_its_time_is_over(self) -> None:
        """The reactor was away meanwhile: the deadline strikes, and then the piece is there."""
        drops: list[Deferred[bytes]] = []

        def drop() -> Deferred[bytes]:
            if drops:
                time.sleep(0.5)
            drops.append(deferLater(reactor, 0, lambda: b"x\r\n"))
            return drops[-1]

        await self.ends_in_time(0.2, drop, drops)

    async def test_a_server_that_goes_behind_the_message_is_not_replaced_by_another(self) -> None:
        """Cut, silent, garbage, before the final reply: deferred, and the next target does not get a second copy."""
        for temper in (CUT, SILENT, "what?"):
            hop, other = ScriptedHop(self, final=temper), ScriptedHop(self)
            house = House(self, forward(hop.port, other.port), patience=impatient("final"))
            await in_thread(send, house.listen(), "b@example.test")
            await until(lambda house=house: house.done)
            self.assertEqual((house.done[0].outcome, other.connections), ("deferred", 0), temper)
            self.assertIn("waiting for final", house.done[0].reply)

    async def test_recipients_that_are_too_many_follow_on_the_same_connection(self) -> None:
        """452 4.5.3 at RCPT, again and again, or the 552 of old servers (RFC 5321 4.5.3.1.10): everybody gets the
        message, nobody waits, nobody gets it twice.
        """
        for refusal in ("452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "552 too many"):
            hop = ScriptedHop(self)
            hop.script["RCPT"] = lambda line, hop=hop, refusal=refusal: (
                refusal if len(hop.sessions[-1].accepted) >= 3 else "250 2.1.5 ok"
            )
            house = House(self, forward(hop.port))
            recipients = [f"b{number}@example.test" for number in range(8)]
            await in_thread(send, house.listen(), *recipients)
            await until(lambda house=house: len(house.done) == 8)
            self.assertEqual({done.outcome for done in house.done}, {"delivered"}, refusal)
            self.assertEqual((hop.connections, len(hop.messages)), (1, 3), refusal)

    async def test_limits_that_are_announced_are_kept(self) -> None:
        """RCPTMAX and MAILMAX (RFC 9422): groups of that size, a connection for each so many messages; nobody is
        refused, or waits.
        """
        hop = ScriptedHop(self, EHLO="250-next\r\n250 LIMITS RCPTMAX=3 MAILMAX=2")
        hop.script["RCPT"] = lambda line: "421 no" if len(hop.sessions[-1].accepted) >= 3 else "250 2.1.5 ok"
        house = House(self, forward(hop.port))
        await in_thread(send, house.listen(), *(f"b{number}@example.test" for number in range(10)))
        await until(lambda: len(house.done) == 10)
        self.assertEqual({done.outcome for done in house.done}, {"delivered"})
        self.assertEqual((hop.connections, len(hop.messages)), (2, 4))

    async def test_nobody_taken_is_no_reason_to_ask_again(self) -> None:
        """452 for every recipient is an answer."""
        hop = ScriptedHop(self, RCPT="452 4.5.3 too many")
        house = House(self, forward(hop.port))
        await in_thread(send, house.listen(), "b@example.test", "c@example.test")
        await until(lambda: len(house.done) == 2)
        self.assertEqual({done.outcome for done in house.done}, {"deferred"})

    async def test_a_recipient_is_asked_about_without_a_message(self) -> None:
        """The reply to RCPT; then the connection carries mail, behind a RSET."""
        hop = ScriptedHop(self, RCPT=lambda line: "550 5.1.1 who" if "bad" in line else "250 2.1.5 ok")
        destinations = self.destinations()
        for address, code in (("bad@x.test", 550), ("b@x.test", 250)):
            reply = await destinations.verify(Leg(self.hop(hop.port)), address)
            self.assertEqual(reply.code, code)
            await deferLater(reactor, 0)  # the connection is idle from then on
        sent = Sent()
        destinations.of(self.hop(hop.port)).send(sent)
        self.assertEqual((await sent.ended(), hop.connections), (("finished", 250), 1))
        self.assertEqual(len(hop.messages), 1)
        verbs = [line.split(" ")[0] for line in hop.commands]
        self.assertEqual(verbs[1:6], ["MAIL", "RCPT", "RSET", "MAIL", "RCPT"])

    async def test_a_server_that_takes_so_many_questions_on_a_connection(self) -> None:
        """421 to the next one, with or without a cut: it is asked by another connection at once, and only once more."""
        for verb in ("MAIL", "RCPT"):
            for cut in (True, False):
                hop = LimitedHop(self, verb, "250 ok", cut=cut)
                destinations = self.destinations()
                for _ in range(3):
                    reply = await destinations.verify(Leg(self.hop(hop.port)), "b@x.test")
                    self.assertEqual(reply.code, 250)
                    await deferLater(reactor, 0)
                self.assertEqual(hop.connections, 3)
                hop.most = 0
                reply = await destinations.verify(Leg(self.hop(hop.port)), "b@x.test")
                self.assertEqual((reply.code, hop.connections), (421, 4))

    async def test_questions_go_to_the_first_target_that_answers(self) -> None:
        """And fail where none does; one that nobody waits for any more hurts nobody."""
        down, up = ScriptedHop(self, greeting="421 busy"), ScriptedHop(self)
        house = House(self, forward(down.port, up.port))
        rule = house.email.rules[0]
        ask = in_turn(house.mta._attempts.verify, asked_hops)
        reply = await ask(rule, "b@example.test")
        self.assertEqual(reply.code, 250)
        assert isinstance(rule.action, MailForward)
        alone = Rule(name="alone", action=MailForward(targets=rule.action.targets[:1]))
        await self.assertFailure(ask(alone, "b@example.test"), Unreachable)
        question = Question("b@x.test")
        question.answer.addErrback(lambda failure: None)
        question.answer.cancel()
        question.finished((reply,), Peer("x:25"))
        question.unreachable(Trouble("x:25", "gone"))

    async def test_a_next_hop_that_is_back_is_told_of(self) -> None:
        """Once, when the first connection is good again; not while it is down, nor when it never was."""
        hop = ScriptedHop(self, greeting="421 busy")
        destination = self.destinations(Patience(down=1.0)).of(self.hop(hop.port))
        first, second = Sent(), Sent()
        destination.send(first)
        await first.ended()
        self.assertTrue(destination.down)
        destination.send(second)
        assert second.result is not None
        self.assertEqual((second.result[0], hop.connections), ("unreachable", 1))
        hop.script["greeting"] = "220 next"
        await until(lambda: not destination.down)
        self.assertEqual(self.recovered, [])
        for _ in range(2):
            sent = Sent()
            destination.send(sent)
            self.assertEqual(await sent.ended(), ("finished", 250))
        self.assertEqual(self.recovered, [f"127.0.0.1:{hop.port}"])

    async def test_who_says_421_is_tried_less_and_less(self) -> None:
        """At the greeting or at MAIL: what waits goes elsewhere, the pause doubles, then there is one connection until
        a message is taken; only that wakes others (RFC 5321 4.2.1, 4.5.4.1)."""
        for verb in ("greeting", "MAIL"):
            self.recovered.clear()
            hop = ScriptedHop(self)
            hop.script[verb] = "421 4.7.0 not now"
            destination = self.destinations(Patience(down=0.1)).of(self.hop(hop.port))
            for pause in (0.1, 0.2, 0.4):
                sent = [Sent() for _ in range(10)]
                for one in sent:
                    destination.send(one)
                self.assertNotIn(("finished", 250), [await one.ended() for one in sent])
                self.assertEqual(destination._away, pause)
                await until(lambda destination=destination: not (destination.down or destination._connections))
            self.assertEqual(self.recovered, [])
            # The first round opens as many as wait.
            self.assertLessEqual(hop.connections, 12)
            hop.script[verb] = "220 next" if verb == "greeting" else "250 ok"
            before, sent = hop.connections, [Sent() for _ in range(10)]
            for one in sent:
                destination.send(one)
            self.assertEqual(len(destination._opening), 1)
            self.assertEqual({await one.ended() for one in sent}, {("finished", 250)})
            self.assertGreater(hop.connections, before)
            self.assertEqual((self.recovered, destination._away), ([f"127.0.0.1:{hop.port}"], 0.0))

    async def test_a_next_hop_that_takes_mail_may_say_421_to_some(self) -> None:
        """One connection too many for it is no reason to leave it alone."""
        for verb in ("greeting", "MAIL"):
            hop = ScriptedHop(self)
            destination = self.destinations().of(self.hop(hop.port))
            first = Sent()
            destination.send(first)
            await first.ended()

            def only_the_first(_: str, hop: ScriptedHop = hop, good: str = hop.script[verb]) -> str:
                return good if len(hop.sessions) == 1 else "421 4.7.0 too many connections"

            hop.script[verb] = only_the_first
            sent = [Sent() for _ in range(3)]
            for one in sent:
                destination.send(one)
            self.assertIn(("finished", 250), [await one.ended() for one in sent])
            self.assertEqual((destination.down, destination._away), (False, 0.0))

    async def test_a_next_hop_that_says_421_and_closes_is_understood(self) -> None:
        """To commands that go out together it answers one: its word is told, and it is left alone (RFC 5321 3.8)."""

        for verb in ("MAIL", "RCPT"):
            hop = ScriptedHop(self, RCPT=SILENT, DATA=SILENT)

            def part(_: str, hop: ScriptedHop = hop) -> str:
                reactor.callLater(0, hop.sessions[-1].transport.loseConnection)
                return "421 4.7.0 not now"

            hop.script[verb] = part
            destination = self.destinations(Patience(down=0.1)).of(self.hop(hop.port))
            sent = Sent()
            destination.send(sent)
            self.assertEqual((await sent.ended(), destination._away), (("finished", 421), 0.1))

    async def test_an_operator_need_not_wait_for_the_pause_to_end(self) -> None:
        """A next hop that was found down is tried by the next message once somebody asked for it."""
        hop = ScriptedHop(self, greeting="421 busy")
        destinations = self.destinations(Patience(down=1000.0))
        destination = destinations.of(self.hop(hop.port))
        first, second = Sent(), Sent()
        destination.send(first)
        await first.ended()
        hop.script["greeting"] = "220 next"
        destinations.try_all()
        destination.send(second)
        self.assertEqual(await second.ended(), ("finished", 250))
        self.assertEqual(self.recovered, [f"127.0.0.1:{hop.port}"])

    async def test_all_connections_together_are_bounded_and_go_round(self) -> None:
        """Two slots, three next hops: idle connections make way, everybody is served."""
        hops = [ScriptedHop(self) for _ in range(3)]
        destinations = self.destinations(Patience(), size=2)
        sent = []
        for _ in range(3):
            for hop in hops:
                sent.append(Sent())
                destinations.of(self.hop(hop.port)).send(sent[-1])
        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, sum(len(hop.sessions) for hop in hops))
            return all(one.result for one in sent)

        await until(over)
        self.assertEqual([one.result for one in sent], [("finished", 250)] * 9)
        self.assertLessEqual(most, 2)

    async def test_what_waits_for_a_slow_next_hop_is_cut_down(self) -> None:
        """All but a few are deferred, and told of when these have gone; a fast one may have a long queue."""
        self.patch(module, "SLOW", 0.3)
        self.patch(module, "KEPT_BY_SLOW", 4)
        hop = ScriptedHop(self, greeting=SILENT)
        patient = self.destinations(Patience()).of(self.hop(hop.port))
        sent = [Sent() for _ in range(30)]
        for one in sent:
            patient.send(one)
        await until(lambda: len([one for one in sent if one.result]) == 26)
        self.assertFalse([one for one in sent[:4] if one.result])
        late = Sent()
        patient.send(late)
        assert late.result is not None
        self.assertEqual(late.result[1].status, "4.4.5")
        for session in hop.sessions:
            session.sendLine(b"220 next")
        await until(lambda: all(one.result == ("finished", 250) for one in sent[:4]))
        self.assertEqual(self.recovered, [f"127.0.0.1:{hop.port}"])

    async def test_next_hops_of_which_nothing_is_known_are_forgotten(self) -> None:
        """However many domains there are; those in use stay."""
        hop = ScriptedHop(self)
        destinations = self.destinations(Patience())
        destinations._many = 10
        used = destinations.of(self.hop(hop.port))
        sent = Sent()
        used.send(sent)
        await sent.ended()
        for port in range(1, 30):
            destinations.of(self.hop(port))
        self.assertIs(destinations.of(self.hop(hop.port)), used)
        self.assertNotIn((self.hop(1), None), destinations._known)
        await deferLater(reactor, 0)
