"""Who exists, by asking: what answers mean, how long they hold, and how little a target is troubled."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rates import Rate
from dcrouter.config.rules import MailForward, Rule, Verify
from dcrouter.config.targets import Target
from dcrouter.errors import Unreachable
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.envelope import Client
from dcrouter.mail.server import verify
from dcrouter.mail.server.verify import Verdict, Verifier, asked_hops, in_turn
from dcrouter.wire.smtp.reply import Reply

STRANGER = Client(address="192.0.2.9", kind="smtp")
OURS = Client(address="192.0.2.10", kind="smtp", trusted=True)
TARGETS = (Target(host="a.test"), Target(host="b.test"))
RULE = Rule(name="in", verify=Verify(cache=21600.0), action=MailForward(targets=TARGETS))
GOOD = Reply(code=250, lines=("2.1.5 ok",))


class VerifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.open: list[tuple[str, Deferred[Reply]]] = []
        self.verifier = Verifier(self.ask, self.clock)

    def ask(self, rule: Rule, address: str) -> Deferred[Reply]:
        answer: Deferred[Reply] = Deferred()
        self.open.append((address, answer))
        return answer

    def reply(self, code: int, text: str = "") -> None:
        """To the question that has waited the longest."""
        self.open.pop(0)[1].callback(Reply(code=code, lines=(text,)))

    def begin(self, address: str, client: Client = STRANGER) -> Verdict | Deferred[Verdict]:
        return self.verifier.verdict(RULE, address, client)

    def asked(self, address: str, client: Client = STRANGER) -> Deferred[Verdict]:
        """Of what is not known yet."""
        verdict = self.begin(address, client)
        assert isinstance(verdict, Deferred)
        return verdict

    def verdict(self, address: str, code: int, text: str = "") -> Verdict:
        verdict = self.asked(address)
        self.reply(code, text)
        return self.successResultOf(verdict)

    def test_what_an_answer_means(self) -> None:
        """Only what is about the mailbox says that there is none; a policy, a full one, a 4xx say nothing."""
        for at, (code, text, expected) in enumerate(
            (
                (250, "2.1.5 ok", Verdict.EXISTS),
                (251, "will forward", Verdict.EXISTS),
                (550, "5.1.1 no such user", Verdict.ABSENT),
                (550, "5.1.10 recipient not found", Verdict.ABSENT),
                (550, "5.2.1 disabled", Verdict.ABSENT),
                (550, "no such user", Verdict.ABSENT),
                (551, "moved", Verdict.ABSENT),
                (553, "no", Verdict.ABSENT),
                (550, "5.7.1 relaying denied", Verdict.UNKNOWN),
                (550, "5.1.8 bad sender", Verdict.UNKNOWN),
                (552, "5.2.2 full", Verdict.UNKNOWN),
                (554, "go away", Verdict.UNKNOWN),
                (450, "4.2.0 greylisted", Verdict.UNKNOWN),
                (421, "4.3.2 closing", Verdict.UNKNOWN),
            )
        ):
            self.assertIs(self.verdict(f"u{at}@a.test", code, text), expected, text)

    def test_how_long_an_answer_holds(self) -> None:
        """Good ones for `cache`, bad ones for an hour, none for a minute; case makes no other address."""
        for code, text, seconds in ((250, "", 21600.0), (550, "5.1.1", 3600.0), (450, "", 60.0)):
            address = f"u{code}@a.test"
            first = self.verdict(address, code, text)
            self.clock.advance(seconds - 1)
            self.assertIs(self.begin(address.upper()), first)
            self.clock.advance(2)
            self.assertIsInstance(self.begin(address), Deferred)
            self.reply(250)

    def test_one_question_for_an_address_at_a_time(self) -> None:
        """All who wait for it get its answer."""
        verdicts = [self.asked("u@a.test", client) for client in (STRANGER, OURS, STRANGER)]
        self.assertEqual(len(self.open), 1)
        self.reply(250)
        self.assertEqual([self.successResultOf(one) for one in verdicts], [Verdict.EXISTS] * 3)
        self.assertEqual(self.verifier.asked, 1)

    def test_a_target_that_is_down_or_slow_says_nothing(self) -> None:
        """Nobody waits for longer than half a minute; the question is called off."""
        failed, slow = self.asked("u@a.test"), self.asked("v@a.test")
        self.open[0][1].errback(Unreachable("a.test:25: refused"))
        self.assertIs(self.successResultOf(failed), Verdict.UNKNOWN)
        self.clock.advance(verify.PATIENCE + 1)
        self.assertIs(self.successResultOf(slow), Verdict.UNKNOWN)
        self.assertTrue(self.open[1][1].called)

    def test_a_few_questions_at_once(self) -> None:
        """Others wait for their turn, a bounded number of them; beyond, nobody is asked."""
        many = verify.AT_ONCE + verify.WAITING
        self.patch(verify, "RULE_RATE", Rate(rate=(1, 1.0), burst=10_000))
        self.verifier = Verifier(self.ask, self.clock)
        verdicts = [self.asked(f"u{at}@a.test", OURS) for at in range(many)]
        self.assertEqual(len(self.open), verify.AT_ONCE)
        self.assertIs(self.begin("one-more@a.test", OURS), Verdict.UNKNOWN)
        for _ in range(many):
            self.assertLessEqual(len(self.open), verify.AT_ONCE)
            self.reply(250)
        self.assertEqual({self.successResultOf(one) for one in verdicts}, {Verdict.EXISTS})

    def test_a_dictionary_is_not_passed_on(self) -> None:
        """A stranger has so many questions, from all of a /64; many strangers together have those of the rule."""

        def attack(client: Client, prefix: str) -> int:
            before = self.verifier.asked
            for at in range(1000):
                if isinstance(self.begin(f"{prefix}{at}@a.test", client), Deferred):
                    self.reply(550, "5.1.1")
            return self.verifier.asked - before

        self.assertEqual(attack(Client(address="2001:db8::1", kind="smtp"), "x"), 100)
        self.assertEqual(attack(Client(address="2001:db8::2", kind="smtp"), "y"), 0)
        self.assertEqual(attack(STRANGER, "z"), 100)
        self.assertEqual(attack(Client(address="192.0.2.11", kind="smtp"), "w"), 0)
        self.clock.advance(1)
        self.assertEqual(attack(OURS, "v"), 20)

    def test_memory_is_bounded(self) -> None:
        """The answer that was needed the longest ago is forgotten."""
        self.patch(verify, "MAX_ANSWERS", 3)
        for name in ("a", "b", "c"):
            self.verdict(f"{name}@a.test", 250)
        self.assertIs(self.begin("a@a.test"), Verdict.EXISTS)
        self.verdict("d@a.test", 250)
        self.assertIs(self.begin("a@a.test"), Verdict.EXISTS)
        self.assertIsInstance(self.begin("b@a.test"), Deferred)
        self.reply(250)

    def test_an_answer_at_once(self) -> None:
        """Some targets are known to be down without asking."""

        def ask(rule: Rule, address: str) -> Deferred[Reply]:
            answer: Deferred[Reply] = Deferred()
            answer.errback(Unreachable("down"))
            return answer

        self.assertIs(Verifier(ask, self.clock).verdict(RULE, "u@a.test", STRANGER), Verdict.UNKNOWN)


class InTurnTests(SynchronousTestCase):
    def test_the_next_target_is_asked_where_one_cannot_be_reached(self) -> None:
        """In the order of the rule; an answer, whatever it says, is the answer."""
        asked: list[str] = []

        async def answer(target: str) -> Reply:
            if target == "a.test:25":
                raise Unreachable("down")
            return GOOD

        def ask(hop: NextHop, address: str) -> Deferred[Reply]:
            asked.append(f"{hop.target} {address}")
            return Deferred.fromCoroutine(answer(hop.target))

        self.assertEqual(self.successResultOf(in_turn(ask, asked_hops)(RULE, "u@x.test")), GOOD)
        self.assertEqual(asked, ["a.test:25 u@x.test", "b.test:25 u@x.test"])

    def test_without_anybody_to_ask_there_is_no_answer(self) -> None:
        """All targets down."""

        def ask(hop: NextHop, address: str) -> Deferred[Reply]:
            async def down() -> Reply:
                raise Unreachable(hop.target)

            return Deferred.fromCoroutine(down())

        self.failureResultOf(in_turn(ask, asked_hops)(RULE, "u@x.test"), Unreachable)
