"""Rules: the first that matches decides; strangers, postmaster, default."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.mail import Email
from dcrouter.config.rules import Deliver, Reject, Rule, RuleMatch
from dcrouter.mail.pipeline.rules import Rules

BOX = Deliver(maildir="{recipient}")
NO = Reject(code=550, message="5.1.1 No such user")


def rule(name: str, *recipients: str, clients: str = "any", action: Deliver | Reject = BOX) -> Rule:
    return Rule(name=name, match=RuleMatch(recipients=recipients or None, clients=clients), action=action)  # type: ignore[arg-type]


class RuleTests(SynchronousTestCase):
    def rules(self, *rules: Rule, postmaster: str | None = "root@a.test") -> Rules:
        return Rules(Email(hostname="Mail.A.test", postmaster=postmaster, rules=rules))

    def test_the_first_match_wins(self) -> None:
        """In the order of the file, for each recipient on its own."""
        rules = self.rules(rule("one", "x@a.test"), rule("two", "*@a.test"), rule("three"))
        self.assertEqual(
            [rules.decide(address).rule.name for address in ("x@a.test", "y@A.TEST", "z@b.test")],  # type: ignore[union-attr]
            ["one", "two", "three"],
        )

    def test_a_reject_rule_refuses_by_its_name(self) -> None:
        """The rule is known, and so is its reply."""
        decision = self.rules(rule("trap", "x@a.test", action=NO)).decide("x@a.test")
        self.assertEqual((decision.refusal, decision.rule and decision.rule.name), (NO, "trap"))

    def test_whom_no_rule_takes_the_default_refuses(self) -> None:
        """Relaying denied."""
        decision = self.rules(rule("one", "*@a.test")).decide("x@b.test")
        self.assertEqual((decision.rule, decision.refusal), (None, Reject()))

    def test_postmaster_meets_the_rules_as_one_who_may_relay(self) -> None:
        """Rules for strangers are not his."""
        rules = self.rules(rule("strangers", clients="strangers", action=NO), rule("ours", "*@a.test"))
        for address in ("postmaster", "POSTMASTER@mail.a.test"):
            decision = rules.decide(address)
            self.assertEqual((decision.address, decision.rule and decision.rule.name), ("root@a.test", "ours"))
        self.assertEqual(rules.decide("root@a.test").refusal, NO)

    def test_without_an_address_for_postmaster_there_is_none(self) -> None:
        """The bare name is refused; with our host name it is an address like others."""
        rules = self.rules(rule("all"), postmaster=None)
        self.assertIsNotNone(rules.decide("postmaster").refusal)
        self.assertIsNone(rules.decide("postmaster@mail.a.test").refusal)
