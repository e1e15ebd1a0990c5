"""When the message decides: which end is met, and which recipients can share one."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.rules import RuleMatch
from dcrouter.mail.pipeline.conditions import Content, Late
from dcrouter.mail.server.choices import Choice, Choices, agree, chosen, taking
from dcrouter.mail.server.denial import Denial
from dcrouter.wire.header import Head

NO = Denial("refused", b"550 5.7.1 No\r\n", "rule no")


def late(**match: object) -> Late:
    found = Late.of(RuleMatch(**match))  # type: ignore[arg-type]
    assert found is not None
    return found


A, B = late(headers={"X-A": "1"}), late(size_over=100)
CONTENTS = [
    Content(Head(b"X-A: 1\r\n" if a else b"X-A: 2\r\n"), 101 if b else 100) for a, b in product((True, False), repeat=2)
]
ENDS = st.tuples(
    st.lists(st.tuples(st.sampled_from(((A,), (B,), (A, B))), st.booleans()), max_size=3), st.booleans()
).map(lambda drawn: (*drawn[0], ((), drawn[1])))


def choices(ends: tuple[tuple[tuple[Late, ...], bool], ...]) -> Choices:
    return tuple(Choice(when, "yes") if taken else Choice(when, None, NO) for when, taken in ends)


class ChoiceTests(SynchronousTestCase):
    def test_the_first_whose_conditions_hold(self) -> None:
        """All of its conditions; the last asks for nothing."""
        ends = (Choice((A, B), "both"), Choice((A,), "a"), Choice((), "none"))
        self.assertEqual([chosen(ends, content).rule for content in CONTENTS], ["both", "a", "none", "none"])

    def test_at_rcpt_it_is_the_last_that_counts(self) -> None:
        """Or whichever may take it, where that refuses."""
        self.assertEqual(taking(choices((((A,), True), ((), True)))), Choice((), "yes"))
        self.assertEqual(taking(choices((((B,), False), ((A,), True), ((), False)))), Choice((A,), "yes"))
        self.assertIsNone(taking(choices((((A,), False), ((), False)))))

    def test_always_taken_is_always_taken(self) -> None:
        """By whichever rule: such share a message with recipients about whom nothing is open."""
        self.assertTrue(agree((), choices((((A,), True), ((), True)))))
        self.assertFalse(agree((), choices((((A,), False), ((), True)))))

    @given(ENDS, ENDS)
    def test_who_agrees_is_never_parted(self, first: object, second: object) -> None:
        """Whatever the message is: both are taken, or both refused."""
        one, other = choices(first), choices(second)  # type: ignore[arg-type]
        self.assertTrue(agree(one, one))
        if agree(one, other):
            for content in CONTENTS:
                self.assertEqual(chosen(one, content).rule is None, chosen(other, content).rule is None)


class LateTests(SynchronousTestCase):
    def holds(self, head: bytes, **headers: str) -> bool:
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        return late(headers=wanted).hold(Content(Head(head), 0))

    def test_headers_are_read_as_they_stand(self) -> None:
        """Names without case, values unfolded and without blanks around; one of several suffices. RFC 5322 2.2."""
        head = b"Received: x\r\nx-List :  a\r\n\tlist \r\nX-LIST: b\r\nSubject: =?utf-8?q?=C3=BC?= \xc3\xbc\r\n"
        for value, expected in (("a\tlist", True), ("b", True), ("a", False), ("re:a.*", True), ("re:.*t", True)):
            self.assertEqual(self.holds(head, X_List=value), expected, value)
        self.assertTrue(self.holds(head, subject="=?utf-8?q?=C3=BC?= ü"))
        self.assertTrue(self.holds(head, x_list="b", subject="re:=.*"))
        self.assertFalse(self.holds(head, x_list="b", to="re:.*"))
        self.assertFalse(self.holds(b"", x_list="re:.*"))

    def test_equal_conditions_are_one(self) -> None:
        """Whatever the case of names and the order."""
        self.assertEqual(late(headers={"A": "1", "b": "2"}), late(headers={"B": "2", "a": "1"}))
        self.assertNotEqual(late(headers={"a": "1"}), late(headers={"a": "1"}, size_over=1))
        self.assertEqual(str(late(headers={"A": "1"}, size_over=1024)), "headers: a: 1, size_over: 1KB")
        self.assertIsNone(Late.of(RuleMatch(recipients=("*",))))
