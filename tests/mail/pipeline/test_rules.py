"""Rules: the first that matches decides; who asks, from whom, through which port; postmaster, our own mail, default."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.mail import Email
from dcrouter.config.patterns import matches, parse
from dcrouter.config.rules import Deliver, Reject, Rule, RuleMatch
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.conditions import Content
from dcrouter.mail.pipeline.rules import Decision, Rules
from dcrouter.wire.header import Head

BOX = Deliver(maildir="{recipient}")
NO = Reject(code=550, message="5.1.1 No such user")

STRANGER = Client(address="192.0.2.9", kind="smtp")
TRUSTED = Client(address="10.1.2.3", kind="smtp", trusted=True)
USER = Client(address="192.0.2.9", kind="submission", account="a@a.test")
CLIENTS = (STRANGER, TRUSTED, USER)


def rule(name: str, *recipients: str, action: Deliver | Reject = BOX, **match: Any) -> Rule:
    return Rule(name=name, match=RuleMatch(recipients=recipients or None, **match), action=action)


def rules_of(*rules: Rule, postmaster: str | None = "root@a.test") -> Rules:
    return Rules(Email(hostname="Mail.A.test", postmaster=postmaster, rules=rules))


def name(decision: Decision) -> str | None:
    return decision.rule.name if decision.rule is not None else None


class LateTests(SynchronousTestCase):
    def test_what_the_message_may_still_make_of_it(self) -> None:
        """The rules that ask for it, in the order of the file, up to the first that does not; none behind that."""
        rules = rules_of(
            rule("big", "*@a.test", size_over=10, action=NO),
            rule("other", "*@b.test", size_over=10),
            rule("listed", headers={"x-list": "re:.+"}),
            rule("in", "*@a.test"),
            rule("late", "*@a.test", size_over=99),
        )
        decision = rules.decide("x@a.test", STRANGER, "s@x.test")
        self.assertEqual([(one.rule.name, one.refusal) for one in decision.before], [("big", NO), ("listed", None)])
        self.assertEqual(name(decision), "in")
        decision = rules.decide("x@c.test", STRANGER, "s@x.test")
        self.assertEqual(([one.rule.name for one in decision.before], decision.refusal), (["listed"], Reject()))
        self.assertEqual(rules.decide_own("x@a.test").before, ())

    @given(
        st.lists(
            st.tuples(
                st.sampled_from((None, ("*@a.test",), ("x@a.test", "*@b.test"))),
                st.sampled_from((None, {"x-a": "1"}, {"X-A": "re:.*"})),
                st.sampled_from((None, 10, 20)),
            ),
            max_size=6,
        ),
        st.sampled_from(("x@a.test", "y@a.test", "x@b.test")),
        st.sampled_from((b"", b"X-A: 1\r\n", b"x-a: 2\r\n")),
        st.sampled_from((10, 11, 21)),
    )
    def test_it_is_the_first_in_the_file_whose_conditions_all_hold(
        self,
        given_: list[tuple[tuple[str, ...] | None, dict[str, str] | None, int | None]],
        address: str,
        head: bytes,
        size: int,
    ) -> None:
        """However much of it is known at RCPT."""

        def holds(recipients: tuple[str, ...] | None, headers: dict[str, str] | None, over: int | None) -> bool:
            values = Head(head).values("x-a")
            return (
                (recipients is None or any(matches(parse(one), address) for one in recipients))
                and (headers is None or bool(values if "X-A" in headers else "1" in values))
                and (over is None or size > over)
            )

        made = [
            rule(f"r{at}", *(recipients or ()), headers=headers, size_over=over)
            for at, (recipients, headers, over) in enumerate(given_)
        ]
        expected = next((f"r{at}" for at, one in enumerate(given_) if holds(*one)), None)
        decision = rules_of(*made).decide(address, STRANGER, "s@x.test")
        content = Content(Head(head), size)
        met = next((one.rule.name for one in decision.before if one.late.hold(content)), name(decision))
        self.assertEqual(met, expected)


class RuleTests(SynchronousTestCase):
    def decided(self, rules: Rules, address: str, client: Client = STRANGER, sender: str = "s@x.test") -> str | None:
        return name(rules.decide(address, client, sender))

    def test_the_first_match_wins(self) -> None:
        """In the order of the file, for each recipient on its own."""
        rules = rules_of(rule("one", "x@a.test"), rule("two", "*@a.test"), rule("three"))
        self.assertEqual(
            [self.decided(rules, address) for address in ("x@a.test", "y@A.TEST", "z@b.test")], ["one", "two", "three"]
        )

    def test_a_reject_rule_refuses_by_its_name(self) -> None:
        """The rule is known, and so is its reply."""
        decision = rules_of(rule("trap", "x@a.test", action=NO)).decide("x@a.test", STRANGER, "")
        self.assertEqual((decision.refusal, name(decision)), (NO, "trap"))

    def test_whom_no_rule_takes_the_default_refuses(self) -> None:
        """Relaying denied."""
        decision = rules_of(rule("one", "*@a.test")).decide("x@b.test", USER, "")
        self.assertEqual((decision.rule, decision.refusal), (None, Reject()))

    def test_who_asks(self) -> None:
        """`strangers` are those who are neither logged in nor trusted, `authenticated` only those who are logged in."""
        for clients, expected in (
            ("any", [True, True, True]),
            ("strangers", [True, False, False]),
            ("may_relay", [False, True, True]),
            ("authenticated", [False, False, True]),
        ):
            rules = rules_of(rule("one", clients=clients))
            self.assertEqual([self.decided(rules, "x@b.test", one) == "one" for one in CLIENTS], expected, clients)

    def test_from_which_network(self) -> None:
        """IPv4, IPv6, and IPv4 in IPv6's clothes, on either side."""
        rules = rules_of(
            rule("v4", client_ips=(ip_network("192.0.2.0/24"),)),
            rule("v6", client_ips=(ip_network("2001:db8::/32"), ip_network("::ffff:198.51.100.0/120"))),
        )
        for address, expected in (
            ("192.0.2.1", "v4"),
            ("::ffff:192.0.2.1", "v4"),
            ("2001:DB8::1", "v6"),
            ("198.51.100.7", "v6"),
            ("203.0.113.1", None),
            ("2001:db9::1", None),
        ):
            client = Client(address=address, kind="smtp")
            self.assertEqual(self.decided(rules, "x@b.test", client), expected, address)

    def test_through_which_kind_of_port(self) -> None:
        """One rule for 25, another for 587 and 465."""
        rules = rules_of(rule("in", kinds=("smtp",)), rule("out", kinds=("submission", "smtps")))
        self.assertEqual([self.decided(rules, "x@b.test", one) for one in CLIENTS], ["in", "in", "out"])

    def test_from_which_sender(self) -> None:
        """By the same patterns as recipients; `<>` is the sender of bounces, `*` is everyone and it."""
        rules = rules_of(
            rule("bounces", senders=("<>",)), rule("ours", senders=("*@a.test", "re:x+@y\\.test")), rule("rest")
        )
        for sender, expected in (("", "bounces"), ("U@A.test", "ours"), ("xx@y.test", "ours"), ("u@b.test", "rest")):
            self.assertEqual(self.decided(rules, "x@b.test", sender=sender), expected, sender)
        for sender in ("", "u@b.test"):
            self.assertEqual(self.decided(rules_of(rule("all", senders=("*",))), "x@b.test", sender=sender), "all")
        self.assertIsNone(self.decided(rules_of(rule("some", senders=("*@a.test",))), "x@b.test", sender=""))

    def test_all_conditions_hold_together(self) -> None:
        """One that fails is enough for the next rule to be asked."""
        network = (ip_network("192.0.2.0/24"),)
        one = rule("one", "*@a.test", senders=("*@x.test",), clients="strangers", kinds=("smtp",), client_ips=network)
        rules = rules_of(one, rule("two"))
        self.assertEqual(self.decided(rules, "u@a.test"), "one")
        self.assertEqual(self.decided(rules, "u@b.test"), "two")
        self.assertEqual(self.decided(rules, "u@a.test", sender="s@y.test"), "two")
        for client in (TRUSTED, USER, Client(address="198.51.100.1", kind="smtp")):
            self.assertEqual(self.decided(rules, "u@a.test", client), "two")

    def test_postmaster_meets_the_rules_as_one_who_may_relay(self) -> None:
        """Rules for strangers are not his."""
        rules = rules_of(rule("strangers", clients="strangers", action=NO), rule("ours", "*@a.test"))
        for address in ("postmaster", "POSTMASTER@mail.a.test"):
            decision = rules.decide(address, STRANGER, "s@x.test")
            self.assertEqual((decision.address, name(decision)), ("root@a.test", "ours"))
        self.assertEqual(rules.decide("root@a.test", STRANGER, "s@x.test").refusal, NO)

    def test_without_an_address_for_postmaster_there_is_none(self) -> None:
        """The bare name is refused; with our host name it is an address like others."""
        rules = rules_of(rule("all"), postmaster=None)
        self.assertIsNotNone(rules.decide("postmaster", STRANGER, "").refusal)
        self.assertIsNone(rules.decide("postmaster@mail.a.test", STRANGER, "").refusal)

    def test_our_own_mail_comes_from_one_who_may_relay(self) -> None:
        """From the null sender, from this host, through any kind of port that there is a rule for."""
        rules = rules_of(
            rule("strangers", clients="strangers"),
            rule("users", clients="authenticated"),
            rule("elsewhere", client_ips=(ip_network("192.0.2.0/24"),)),
            rule("theirs", senders=("*@x.test",)),
            rule("late", "x@b.test", kinds=("submission",), clients="may_relay"),
            rule("no", "*@b.test", action=NO),
        )
        self.assertEqual(name(rules.decide_own("x@b.test")), "late")
        self.assertEqual(rules.decide_own("y@b.test").refusal, NO)
        self.assertEqual(rules.decide_own("y@c.test"), Decision("y@c.test", None, Reject()))


LOCALS = st.sampled_from("xy")
DOMAINS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(".".join)
ADDRESSES = st.tuples(LOCALS, DOMAINS).map("@".join)
PATTERNS = st.one_of(
    ADDRESSES,
    st.tuples(st.just("*"), st.tuples(st.sampled_from(("", "*.", "**.")), DOMAINS).map("".join)).map("@".join),
    st.sampled_from(("*", "x@*", "re:.@a", "re:x@.*b")),
)
SOME = st.one_of(st.none(), st.lists(PATTERNS, min_size=1, max_size=3).map(tuple))
MATCHES = st.builds(
    RuleMatch,
    recipients=SOME,
    senders=st.one_of(SOME, st.just(("<>",))),
    clients=st.sampled_from(("any", "may_relay", "authenticated", "strangers")),
)


class IndexTests(SynchronousTestCase):
    @given(st.lists(MATCHES, max_size=8), ADDRESSES, st.one_of(ADDRESSES, st.just("")), st.sampled_from(CLIENTS))
    def test_it_finds_what_a_walk_finds(
        self, conditions: list[RuleMatch], address: str, sender: str, client: Client
    ) -> None:
        """The first rule of the file that matches, whatever the index looks up first."""
        rules = [Rule(name=f"r{at}", match=match, action=BOX) for at, match in enumerate(conditions)]

        def meets(match: RuleMatch) -> bool:
            asked = {
                "any": True,
                "may_relay": client.may_relay,
                "authenticated": client.account is not None,
                "strangers": not client.may_relay,
            }
            return (
                asked[match.clients]
                and any(matches(parse(one), address) for one in match.recipients or ("*",))
                and any(matches(parse(one), sender) for one in match.senders or ("*",))
            )

        expected = next((one.name for one in rules if meets(one.match)), None)
        self.assertEqual(name(rules_of(*rules).decide(address, client, sender)), expected)

    def test_ten_thousand_rules_are_not_walked_through(self) -> None:
        """For each recipient only the few are asked that have its domain, or its sender's, or no pattern at all."""
        rules = rules_of(
            *(rule(f"d{at}", f"*@d{at}.test") for at in range(5000)),
            *(rule(f"s{at}", senders=(f"*@s{at}.test",)) for at in range(5000)),
            rule("last"),
        )
        self.assertEqual(name(rules.decide("x@d4999.test", STRANGER, "s@x.test")), "d4999")
        self.assertEqual(name(rules.decide("x@y.test", STRANGER, "s@s4999.test")), "s4999")
        self.assertEqual(name(rules.decide("x@y.test", STRANGER, "s@x.test")), "last")
        self.assertEqual(list(rules._candidates("x@d7.test", "s@s8.test")), [7, 5008, 10_000])
