"""ARC chains: the public suite (ValiMail, RFC 8617), every case of it, and what it does not say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.arc import Arc, Chain
from dcrouter.wire.asking import Found
from dcrouter.wire.dkim.canonical import split
from dcrouter.wire.dkim.verify import Bodies
from dcrouter.wire.header import block
from tests.support.publicdata import documents, print_counts


def judge(message: bytes, keys: dict[str, str]) -> Arc:
    head = block(message)
    if head is None:
        head, message = message, message + b"\r\n"
    bodies = Bodies()
    chain = Chain(split(head), bodies)
    bodies.add(message[len(head) + 2 :])
    answers = {one: Found((keys[one.name],)) if keys.get(one.name) else Found() for one in chain.questions}
    return chain.result(answers)


class SuiteTests(SynchronousTestCase):
    def test_every_case_of_the_public_suite(self) -> None:
        """The state of the chain is the one that the suite names."""
        failed, count = [], 0
        for scenario in documents("arc/arc-draft-validation-tests.yml"):
            for name, case in scenario["tests"].items():
                count += 1
                message = case["message"].encode().replace(b"\n", b"\r\n")
                got = judge(message, scenario["txt-records"] or {})
                expected = "none" if case["cv"] is None else case["cv"].strip().lower()
                if got.result != (expected or "fail"):  # where it leaves it open: RFC 8617 5.2, step 2
                    failed.append(f"{scenario['description']}: {name}: {got}, not {case['cv']}")
        print_counts("ARC", count, len(failed))
        self.assertEqual(failed, [])
        self.assertGreater(count, 150)


class FormTests(SynchronousTestCase):
    def test_a_message_without_a_chain_asks_nothing(self) -> None:
        """And is "none"."""
        self.assertEqual(judge(b"From: a@x.test\r\n\r\nHi\r\n", {}), Arc("none"))

    def test_a_chain_in_pieces_fails_without_questions(self) -> None:
        """A set that is not whole, one too many, a number that is none (RFC 8617 5.2, step 3)."""
        for field in (
            b"ARC-Seal: i=1; cv=none",
            b"ARC-Seal: i=51; cv=none",
            b"ARC-Seal: i=0; cv=none",
            b"ARC-Seal: \xff",
            b"ARC-Authentication-Results: x",
        ):
            for times in (1, 2, 200):
                fields = split((field + b"\r\n") * times)
                chain = Chain(fields, Bodies())
                self.assertEqual(chain.questions, set())
                self.assertEqual(chain.result({}).result, "fail")
