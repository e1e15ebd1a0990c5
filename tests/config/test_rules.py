"""Mail rules: what strangers can reach, where postmaster's mail ends, which rules are never asked."""

from __future__ import annotations

from tests.config.written import FileTestCase

FORWARD = "action: {type: forward, targets: [{host: h.test}]}"
DELIVER = "action: {type: deliver, maildir: 'maildir/{recipient}'}"


def email(*rules: str, postmaster: str = "p@ours.test") -> str:
    """A mail half with these rules, and one at the end that takes postmaster's mail."""
    more = [*rules, f"match: {{recipients: ['*@ours.test']}}, {DELIVER}"]
    lines = [f"    - {{name: r{at}, {rule}}}\n" for at, rule in enumerate(more)]
    return f"email:\n  hostname: mail.test\n  postmaster: {postmaster}\n  rules:\n{''.join(lines)}"


class OpenRelayTests(FileTestCase):
    def test_no_stranger_reaches_a_domain_of_his_choice(self) -> None:
        """With recipients absent, a bare wildcard as domain, or an expression without a literal domain at its end."""
        for recipients in (
            "*",
            "*@*",
            "user@*",
            "re:.*",
            "re:.*@.*",
            "re:.*@.*\\.com",
            "re:.*@example.com",
            "re:.*example\\.com",
            "re:.*@(example\\.com|.*)",
            "re:.*@example\\.com|.*",
            "re:.*@example\\.com.*",
            "re:.*@example\\.com?",
            "re:(?x).*  # @example\\.com",
            "re:.*\\.com",
            "re:.*(x\\.)?example\\.com",
            "re:.*(?=e.*\\.)example\\.com",
            "re:.*@(x\\.|y)?example\\.com",
        ):
            (problem,) = self.problems(email(f"match: {{recipients: ['{recipients}']}}, {FORWARD}"))
            self.assertTrue(
                problem.startswith(
                    f"5:39: email.rules[0].match.recipients[0]: an open relay: strangers match {recipients!r} with"
                ),
                problem,
            )

    def test_a_rule_without_recipients_forwards_for_everybody(self) -> None:
        """Both for `any` and for `strangers`."""
        for match in ("", "match: {clients: strangers}, "):
            self.assertEqual(
                self.problems(email(match + FORWARD)),
                [
                    "5:7: email.rules[0]: an open relay: strangers match rule 'r0' with any recipient, and it forwards "
                    "their mail; say match.recipients"
                ],
            )

    def test_domains_that_are_named_may_be_forwarded(self) -> None:
        """Exactly, by wildcard, and by an expression that ends in a name."""
        for recipients in (
            "*@example.com",
            "*@*.example.com",
            "*@**.example.com",
            "user@example.com",
            "re:.*@example\\.com",
            "re:.*@example\\.com$",
            "re:.*@(.+\\.)?example\\.com",
            "re:(a|b)@one\\.test|c@two\\.test",
            "re:.*@localhost",
        ):
            self.assertEqual(self.load(email(f"match: {{recipients: ['{recipients}']}}, {FORWARD}"))[1], [])

    def test_a_whole_top_level_domain_is_warned_of(self) -> None:
        """It may be a network of one's own."""
        self.assertEqual(
            self.load(email(f"match: {{recipients: ['*@*.internal']}}, {FORWARD}"))[1],
            ["5:39: email.rules[0].match.recipients[0]: strangers can send to every domain under .internal"],
        )

    def test_what_stays_here_may_be_for_anybody(self) -> None:
        """A delivery or a refusal is no relay."""
        config, _ = self.load(email(f"match: {{recipients: ['*']}}, {DELIVER}"))
        assert config.email is not None
        self.assertEqual(config.email.rules[0].match.recipients, ("*@*",))


class ExpressionTests(FileTestCase):
    def test_expressions_that_can_explode_are_refused(self) -> None:
        """One address could keep the server busy for ever."""
        for text, why in (
            ("(a+)+@x\\.test", "repeats what already repeats or chooses"),
            ("(a|b)*@x\\.test", "repeats what already repeats or chooses"),
            (".*.*.*@x\\.test", "repeats and chooses too often"),
            ("(.)\\1@x\\.test", "refers back to a group"),
            ("(", "is not a regular expression"),
        ):
            (problem,) = self.problems(email(f"match: {{recipients: ['re:{text}']}}, {DELIVER}"))
            self.assertIn(why, problem)

    def test_slips_are_told(self) -> None:
        """With what would be right."""
        for text, problem in (
            ("example.com", "'example.com' is not a recipient: a domain is written as *@example.com"),
            ("a*@example.com", "'a*@example.com': '*' stands for a whole local part, not for a piece of it"),
            ("a@b@example.com", "'a@b@example.com' is not a mail address such as admin@example.com"),
            ("a@-..", "'a@-..': '-..' is not a host name"),
            ("@example.com", "'@example.com' is not a mail address such as admin@example.com"),
        ):
            self.assertEqual(
                self.problems(email(f"match: {{recipients: ['{text}']}}, {DELIVER}")),
                [f"5:39: email.rules[0].match.recipients[0]: {problem}"],
            )


class PostmasterTests(FileTestCase):
    def test_who_accepts_mail_from_strangers_has_a_postmaster(self) -> None:
        """RFC 5321 section 4.5.1."""
        text = email().replace("  postmaster: p@ours.test\n", "")
        self.assertEqual(
            self.problems(text), ["1:1: email: 'postmaster' is missing: rule 'r0' accepts mail from strangers"]
        )

    def test_who_accepts_nothing_needs_none(self) -> None:
        """Every rule rejects."""
        self.config("email: {hostname: a.b, rules: [{name: x, action: {type: reject}}]}")

    def test_postmaster_s_mail_must_be_accepted_by_the_rules(self) -> None:
        """By a rule for any client, and by the first that matches."""
        self.assertEqual(
            self.problems(email(postmaster="p@other.test")),
            ["3:3: email.postmaster: no rule accepts mail to 'p@other.test'"],
        )
        self.assertEqual(
            self.problems(email("match: {recipients: [P@ours.test]}, action: {type: reject}")),
            ["3:3: email.postmaster: rule 'r0' rejects mail to 'p@ours.test'"],
        )
        only_strangers = email().replace(
            "recipients: ['*@ours.test']", "recipients: ['*@ours.test'], clients: strangers"
        )
        self.assertEqual(
            self.problems(only_strangers), ["3:3: email.postmaster: no rule accepts mail to 'p@ours.test'"]
        )

    def test_a_postmaster_is_one_address(self) -> None:
        """No pattern, no name alone."""
        for text in ("postmaster", "'*@ours.test'", "p@", "p@*.ours.test", "<p@ours.test>"):
            (problem,) = self.problems(email(postmaster=text))
            self.assertTrue(problem.startswith("3:3: email.postmaster: "), problem)


class ShadowTests(FileTestCase):
    def shadows(self, *rules: str) -> list[str]:
        return [warning.partition(": ")[2] for warning in self.load(email(*rules))[1]]

    def test_a_rule_behind_a_wider_one_is_never_asked(self) -> None:
        """By domain, wildcard, local part, or several rules together."""
        never = "is never asked: all that it matches is matched by rule "
        deliver = lambda *patterns: f"match: {{recipients: {list(patterns)}}}, {DELIVER}"  # noqa: E731
        for rules, warnings in (
            ((DELIVER,), [f"email.rules[1]: {never}'r0' before it"]),
            ((deliver("*@a.b"), deliver("x@a.b")), [f"email.rules[1]: {never}'r0' before it"]),
            ((deliver("*@*.b"), deliver("x@a.b")), [f"email.rules[1]: {never}'r0' before it"]),
            ((deliver("*@**.c"), deliver("*@*.b.c")), [f"email.rules[1]: {never}'r0' before it"]),
            ((deliver("x@*"), deliver("x@a.b")), [f"email.rules[1]: {never}'r0' before it"]),
            ((deliver("re:a@b"), deliver("re:a@b")), [f"email.rules[1]: {never}'r0' before it"]),
            (
                (deliver("*@a.b"), deliver("*@c.d"), deliver("x@a.b", "y@c.d")),
                [f"email.rules[2]: {never}'r0' and 'r1' before it"],
            ),
        ):
            self.assertEqual(self.shadows(*rules), warnings)

    def test_a_rule_that_matches_anything_more_is_asked(self) -> None:
        """Another domain, another local part, other clients."""
        deliver = lambda *patterns: f"match: {{recipients: {list(patterns)}}}, {DELIVER}"  # noqa: E731
        strangers = f"match: {{recipients: ['*@a.b'], clients: strangers}}, {DELIVER}"
        for rules in (
            (deliver("x@a.b"), deliver("*@a.b")),
            (deliver("*@*.b"), deliver("*@x.a.b")),
            (deliver("*@*.b"), deliver("*@b")),
            (deliver("*@**.b.c"), deliver("*@**.c")),
            (strangers, deliver("*@a.b")),
            (deliver("*@a.b"), deliver("x@a.b", "x@c.d")),
        ):
            self.assertEqual(self.shadows(*rules), [])


class ReplyTests(FileTestCase):
    def test_replies_are_well_formed(self) -> None:
        """A code, its enhanced status code, and nothing that could be a second line."""
        for action, problem in (
            (
                "{type: reject, message: No}",
                "message: 'No' does not begin with an enhanced status code, as '5.7.1 Relaying denied'",
            ),
            (
                '{type: reject, message: "5.7.1 a\\r\\n250 b"}',
                "message: '5.7.1 a\\r\\n250 b' is not one line of printable ASCII",
            ),
            ("{type: reject, code: 450}", "code: code 450 does not go with status code 5.7.1"),
            ("{type: reject, code: 450, message: 5.7.1 No}", "message: code 450 does not go with status code 5.7.1"),
            ("{type: reject, code: 250}", "code: '250' is not between 400 and 599"),
            (
                "{type: reject, code: 421, message: 4.7.0 Bye}",
                "code: 421 announces the end of the connection: it refuses no recipient",
            ),
            ("{code: 550}", "'type' is missing: one of forward, mta, deliver, reject"),
        ):
            (found,) = self.problems(email(f"action: {action}"))
            self.assertTrue(found.endswith(problem), found)

    def test_the_default_refuses(self) -> None:
        """Whatever is written there."""
        for text, problem in (
            ("{type: forward}", "email.default_action.type: 'forward' is not reject"),
            ("{code: 450}", "email.default_action: 'type' is missing"),
        ):
            (found,) = self.problems(email() + f"  default_action: {text}\n")
            self.assertTrue(found.endswith(problem), found)

    def test_maildirs_stay_where_they_are(self) -> None:
        """Under state_dir, in a directory of their own."""
        for template in (
            "/var/mail/{local}",
            "../{local}",
            "a/../b",
            "a//b",
            "",
            "{recipient}",
            "a/{user}",
            "a/{local",
            ".",
        ):
            (found,) = self.problems(email(f"action: {{type: deliver, maildir: '{template}'}}"))
            self.assertIn("email.rules[0].action.maildir: ", found)
