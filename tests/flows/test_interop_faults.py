"""smtp-sink as a next hop that refuses, drops, says goodbye or takes its time at each verb: what comes of the mail."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen
from twisted.trial.unittest import TestCase

from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import MailForward, Rule, RuleMatch
from dcrouter.config.targets import Target
from dcrouter.events import DeliveryDone
from dcrouter.mail.delivery.patience import TIMEOUTS, Patience
from tests.mail.house import House, in_thread, send
from tests.support.facts import until
from tests.support.ports import Reserved
from tests.support.programs import SmtpSink

VERBS = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")
HARD, SOFT, DROP, BYE, SLOW = "-f", "-r", "-q", "-Q", "-W"
"""Options of smtp-sink: 5xx, 4xx, cut without a word, 421 and cut, an answer after `seconds`."""
BODY = "Subject: x\r\n\r\ntext\r\n"
LARGE = "Subject: x\r\n\r\n" + ("y" * 998 + "\r\n") * 3000


@frozen
class Fault:
    """What is wrong at which verb."""

    how: str
    verb: str
    seconds: int = 1

    @property
    def domain(self) -> str:
        name = {".": "end"}.get(self.verb, self.verb.lower())
        return f"{name}{self.how.lower()}{'x' if self.how == BYE else ''}.test"

    @property
    def options(self) -> tuple[str, ...]:
        if self.how == SLOW:
            return "-p", SLOW, f"{self.verb}:{self.seconds}"  # pipelined commands it answers out of order then
        return self.how, self.verb

    @property
    def session(self) -> bool:
        """Whether it is the session that is refused, and not this mail."""
        return self.how in (DROP, BYE) or self.verb in ("CONNECT", "EHLO")


FAULTS = tuple(Fault(how, verb) for how in (HARD, SOFT, DROP, BYE) for verb in VERBS)


class FaultTests(TestCase):
    def sinks(self, faults: Iterable[Fault]) -> dict[Fault, SmtpSink]:
        found = {}
        for fault in faults:
            found[fault] = SmtpSink(options=fault.options)
            self.addCleanup(found[fault].close)
        return found

    def house(self, targets: dict[Fault, list[int]], patience: float = 20.0) -> House:
        """A rule for each fault, with its targets."""
        rules = [
            Rule(
                name=fault.domain,
                match=RuleMatch(recipients=(f"*@{fault.domain}",)),
                action=MailForward(targets=tuple(Target(host="127.0.0.1", port=port) for port in ports)),
            )
            for fault, ports in targets.items()
        ]
        return House(
            self,
            *rules,
            patience=Patience(connect=patience, replies=dict.fromkeys(TIMEOUTS, patience)),
            queue=Queue(retry=Retry(base=600.0, max=600.0)),
        )

    async def first_attempts(
        self, house: House, faults: Iterable[Fault], body: str = BODY
    ) -> dict[Fault, DeliveryDone]:
        """One message for all of them; gives what came of each."""
        domains = {fault.domain: fault for fault in faults}
        count = len(house.done)
        await in_thread(send, house.listen(), *(f"b@{domain}" for domain in domains), body=body)
        await until(lambda: len(house.done) >= count + len(domains))
        await house.idle()
        done: list[DeliveryDone] = house.done[count:]
        self.assertEqual(len(done), len(domains))
        return {domains[one.recipient.partition("@")[2]]: one for one in done}

    async def test_refusals_and_cuts_at_each_verb(self) -> None:
        """What a server says of the mail is its outcome: 5xx failed, 4xx deferred. Where it breaks off the mail waits;
        EHLO that is refused is HELO's turn. Never is anything delivered that was not taken, nor taken that was refused.
        """
        sinks = self.sinks(FAULTS)
        house = self.house({fault: [sink.port] for fault, sink in sinks.items()})
        for body in (BODY, LARGE):
            found = await self.first_attempts(house, FAULTS, body)
            for fault, done in found.items():
                if fault.how in (HARD, SOFT) and fault.verb == "EHLO":
                    expected, reply = ("delivered", "250") if fault.how == HARD else ("deferred", "4.")
                elif fault.how == HARD and not fault.session:
                    expected, reply = "failed", "500 5.3.0"
                elif fault.how == SOFT and not fault.session:
                    expected, reply = "deferred", "450 4.3.0"
                else:
                    expected, reply = "deferred", "4."
                self.assertEqual((done.outcome, done.reply[: len(reply)]), (expected, reply), (fault, done.reply))
                if fault.verb != ".":
                    whole = [one for one in sinks[fault].messages() if len(one) >= len(body.replace("\r", ""))]
                    self.assertEqual(len(whole), expected == "delivered", fault)
                    for file in sinks[fault].dump.iterdir():
                        file.unlink()

    async def test_another_target_has_what_the_first_did_not_answer(self) -> None:
        """Who refuses or cuts the session is passed over; what was said of the mail, or may have been taken, is not
        taken elsewhere.
        """
        sinks = self.sinks(FAULTS)
        good = SmtpSink()
        self.addCleanup(good.close)
        house = self.house({fault: [sink.port, good.port] for fault, sink in sinks.items()})
        found = await self.first_attempts(house, FAULTS)
        elsewhere = {fault for fault, done in found.items() if done.target == f"127.0.0.1:{good.port}"}
        expected = {fault for fault in FAULTS if fault.session and fault not in (Fault(DROP, "."), Fault(HARD, "EHLO"))}
        self.assertEqual(elsewhere, expected)
        self.assertEqual({found[fault].outcome for fault in expected}, {"delivered"})
        self.assertEqual(len(good.messages()), len(expected))
        self.assertEqual(found[Fault(DROP, ".")].outcome, "deferred")

    async def test_who_takes_time_is_waited_for(self) -> None:
        """A second at each verb: delivered, once."""
        slow = tuple(Fault(SLOW, verb) for verb in (*VERBS, "QUIT"))
        sinks = self.sinks(slow)
        house = self.house({fault: [sink.port] for fault, sink in sinks.items()})
        found = await self.first_attempts(house, slow)
        self.assertEqual({done.outcome for done in found.values()}, {"delivered"})
        self.assertEqual([len(sink.messages()) for sink in sinks.values()], [1] * len(slow))

    async def test_who_takes_too_much_time_is_not(self) -> None:
        """The mail waits, and the reason names the verb; the next target has it, but not where the first may."""
        slow = tuple(Fault(SLOW, verb, 20) for verb in VERBS)
        sinks = self.sinks(slow)
        good = SmtpSink()
        self.addCleanup(good.close)
        alone = self.house({fault: [sink.port] for fault, sink in sinks.items()}, patience=5.0)
        found = await self.first_attempts(alone, slow)
        phases = dict(zip(VERBS, ("greeting", "ehlo", "mail", "rcpt", "data", "final"), strict=True))
        for fault, done in found.items():
            self.assertEqual(done.outcome, "deferred", fault)
            self.assertIn(f"timeout in {phases[fault.verb]}", done.reply, fault)
        await alone.close()
        both = self.house({fault: [sink.port, good.port] for fault, sink in sinks.items()}, patience=5.0)
        found = await self.first_attempts(both, slow)
        outcomes = {fault.verb: done.outcome for fault, done in found.items()}
        self.assertEqual(outcomes, dict.fromkeys(VERBS, "delivered") | {".": "deferred"})
        self.assertEqual(len(good.messages()), len(VERBS) - 1)

    async def test_a_server_that_refuses_within_the_message_and_one_that_does_not_read(self) -> None:
        """550 behind DATA, without reading on: failed at once. One that pauses before it reads is waited for."""
        early, pause = Fault(HARD, "early"), Fault(SLOW, "pause")
        sinks = {early: SmtpSink(options=("-A", "0")), pause: SmtpSink(options=("-H", "1"))}
        for sink in sinks.values():
            self.addCleanup(sink.close)
        house = self.house({fault: [sink.port] for fault, sink in sinks.items()})
        found = await self.first_attempts(house, sinks, LARGE)
        self.assertEqual((found[early].outcome, found[early].reply[:3]), ("failed", "550"))
        self.assertEqual(found[pause].outcome, "delivered")
        (raw,) = sinks[pause].messages()
        self.assertTrue(raw.replace(b"\r\n", b"\n").rstrip().endswith(LARGE.replace("\r\n", "\n").rstrip().encode()))

    async def test_a_server_without_any_extension(self) -> None:
        """Neither ESMTP nor pipelining nor 8BITMIME nor codes: delivered; what has eight bits is converted (RFC 6152
        3).
        """
        poor = {Fault("-e", "old"): ("-e",), Fault("-p", "old"): ("-p", "-8", "-E"), Fault("-P", "pix"): ("-P",)}
        sinks = {fault: SmtpSink(options=options) for fault, options in poor.items()}
        for sink in sinks.values():
            self.addCleanup(sink.close)
        house = self.house({fault: [sink.port] for fault, sink in sinks.items()})
        found = await self.first_attempts(house, poor)
        self.assertEqual({done.outcome for done in found.values()}, {"delivered"})
        found = await self.first_attempts(house, poor, "Subject: x\r\n\r\nGr\u00fc\u00dfe\r\n")
        self.assertEqual({done.outcome for done in found.values()}, {"delivered"})
        for sink in sinks.values():
            plain, converted = sink.messages()
            self.assertIn(b"\nGr=C3=BC=C3=9Fe\n", plain + converted)
            self.assertTrue((plain + converted).isascii())

    async def test_a_server_that_is_well_again_gets_its_mail(self) -> None:
        """421 first; then another sink in its place, which has the mail at the next attempt, once."""
        at = Reserved()
        self.addCleanup(at.close)
        fault = Fault(BYE, "MAIL")
        sick = SmtpSink(at.port, fault.options)
        self.addCleanup(sick.close)
        house = self.house({fault: [at.port]})
        found = await self.first_attempts(house, [fault])
        self.assertEqual(found[fault].outcome, "deferred")
        sick.close()
        well = SmtpSink(at.port)
        self.addCleanup(well.close)
        await house.mta.queue_ask({"do": "retry", "all": True})
        await until(lambda: house.done[-1].outcome == "delivered")
        self.assertEqual(len(well.messages()), 1)
