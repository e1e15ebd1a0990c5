"""Mail rules: where postmaster's mail ends, which rules are never asked, what their patterns and replies look like."""

from __future__ import annotations

from pathlib import Path

from tests.config.mailrules import DELIVER, MTA, email
from tests.config.test_lists import HASH
from tests.config.written import FileTestCase


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
            *(
                (
                    text,
                    f"'{text}': '*' stands for a whole local part, or behind '+' for any detail, not for a piece of it",
                )
                for text in ("a*@example.com", "*+*@example.com", "a+*b@example.com", "a+**@example.com")
            ),
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

    def test_postmaster_is_reached_through_every_port(self) -> None:
        """By rules that ask nothing of senders and networks; as from a client that may relay, which need not log in."""
        ours = "recipients: ['*@ours.test']"
        no_rule = "3:3: email.postmaster: no rule accepts mail to 'p@ours.test'"
        for match, more, problems in (
            (f"{ours}, clients: may_relay", "", []),
            (f"{ours}, senders: ['*']", "", []),
            (f"{ours}, client_ips: [0.0.0.0/0, '::/0']", "", []),
            (f"{ours}, clients: authenticated", "", [no_rule]),
            (f"{ours}, senders: ['*@x.test', '<>']", "", [no_rule]),
            (f"{ours}, client_ips: [10.0.0.0/8]", "", [no_rule]),
            (f"{ours}, kinds: [smtp]", "", [no_rule + " that comes through submission and smtps ports"]),
            (f"{ours}, kinds: [smtp]", "  ports: [25]\n", []),
            (
                f"{ours}, kinds: [smtp]",
                f"    - {{name: out, match: {{clients: may_relay}}, {MTA}}}\n",
                [],
            ),
        ):
            text = email().replace(f"{ours}", match).replace("  rules:", "  rules:") + more
            if problems:
                self.assertEqual(self.problems(text), problems)
            else:
                self.load(text)

    def test_a_conditional_refusal_does_not_refuse_postmaster(self) -> None:
        """The rules behind it take the rest."""
        self.config(email("match: {client_ips: [192.0.2.0/24]}, action: {type: reject}"))
        self.config(email("match: {senders: ['*@spam.test']}, action: {type: reject}"))

    def test_postmaster_must_exist(self) -> None:
        """Where a rule knows who does."""
        text = email().replace(DELIVER, f"recipients_file: known, {DELIVER}")
        for known in ("P@ours.test", "*@ours.test", "*@*.test"):
            Path("known").write_text(known)
            self.config(text)
        Path("known").write_text("q@ours.test\n")
        self.assertEqual(
            self.problems(text),
            [
                "3:3: email.postmaster: rule 'r0' refuses mail to 'p@ours.test': its recipients_file has no such one",
            ],
        )

    def test_who_takes_mail_only_from_clients_that_are_known_needs_none(self) -> None:
        """They are no strangers."""
        for match in ("clients: may_relay", "kinds: [submission]"):
            self.config(f"email: {{hostname: a.b, rules: [{{name: x, match: {{{match}}}, {MTA}}}]}}")
        text = f"email: {{hostname: a.b, rules: [{{name: x, match: {{client_ips: [10.0.0.0/8]}}, {MTA}}}]}}"
        (problem,) = self.problems(text)
        self.assertIn("'postmaster' is missing: rule 'x' accepts mail from strangers", problem)

    def test_a_postmaster_is_one_address(self) -> None:
        """No pattern, no name alone."""
        for text in ("postmaster", "'*@ours.test'", "p@", "p@*.ours.test", "<p@ours.test>"):
            (problem,) = self.problems(email(postmaster=text))
            self.assertTrue(problem.startswith("3:3: email.postmaster: "), problem)


def deliver(*patterns: str) -> str:
    """What a rule delivers for these recipients."""
    return f"match: {{recipients: {list(patterns)}}}, {DELIVER}"


class ShadowTests(FileTestCase):
    def shadows(self, *rules: str) -> list[str]:
        return [warning.partition(": ")[2] for warning in self.load(email(*rules))[1]]

    def test_a_rule_behind_a_wider_one_is_never_asked(self) -> None:
        """By domain, wildcard, local part, or several rules together."""
        never = "is never asked: all that it matches is matched by rule "
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

    def test_every_condition_counts(self) -> None:
        """A rule is hidden only by one whose every condition is at least as wide."""
        pairs = (
            ("clients: may_relay", "clients: authenticated"),
            ("kinds: [smtp, submission]", "kinds: [smtp]"),
            ("senders: ['*@a.b']", "senders: [x@a.b]"),
            ("senders: ['*@a.b', '<>']", "senders: ['<>', y@a.b]"),
            ("client_ips: [10.0.0.0/8, '2001:db8::/32']", "client_ips: [10.1.0.0/16, '2001:db8::1']"),
            ("headers: {X-A: b}", "headers: {x-a: b, x-c: d}"),
            ("size_over: 1KB", "size_over: 2KB, headers: {x-a: b}"),
        )
        for wide, narrow in (*pairs, *(("", wide) for wide, _ in pairs), *(("senders: ['*']", "senders: ['<>']"),)):
            first, second = (f"match: {{recipients: ['*@x.y'], {match}}}, {DELIVER}" for match in (wide, narrow))
            told = "email.rules[1]: is never asked: all that it matches is matched by rule 'r0' before it"
            users = f"  auth: {{users: [{{name: u@a.b, password_hash: '{HASH}'}}]}}\n"
            self.assertEqual([one.partition(": ")[2] for one in self.load(email(first, second) + users)[1]], [told])
            self.assertEqual(self.load(email(second, first) + users)[1], [], (wide, narrow))

    def test_thousands_of_rules_for_the_same_recipients(self) -> None:
        """Are not all compared with each other; those before are."""
        rules = [f"match: {{client_ips: [10.{at >> 8}.{at & 255}.1]}}, {DELIVER}" for at in range(2000)]
        self.assertEqual(self.load(email(*rules))[1], [])

    def test_rules_that_nobody_can_meet(self) -> None:
        """Kinds that no port has, and clients that cannot exist."""
        self.assertEqual(
            self.shadows(f"match: {{recipients: ['*@a.b'], clients: authenticated}}, {DELIVER}"),
            ["email.rules[0].match.clients: is never asked: nobody can log in without email.auth.users or users_file"],
        )
        known = email(f"match: {{recipients: ['*@a.b'], clients: authenticated}}, {DELIVER}")
        for source in (
            f"users: [{{name: u@a.b, password_hash: '{HASH}'}}]",
            "ldap: {url: 'ldaps://ldap.test', base_dn: dc=x}",
            "oauth2: {jwks_url: 'https://id.test/jwks', issuer: a, audience: b}",
        ):
            self.assertEqual(self.load(f"{known}  auth: {{{source}}}\n")[1], [])
        text = email(f"match: {{recipients: ['*@a.b'], kinds: [smtps]}}, {DELIVER}") + "  ports: [25]\n"
        (warning,) = self.load(text)[1]
        self.assertTrue(warning.endswith("match.kinds: is never asked: email.ports has no port of that kind"), warning)

    def test_a_size_that_no_message_has(self) -> None:
        """The server takes none that is as large."""
        text = email(f"match: {{recipients: ['*@a.b'], size_over: 2MB}}, {DELIVER}") + "  max_message_size: 2MB\n"
        (warning,) = self.load(text)[1]
        self.assertTrue(warning.endswith("size_over: is never asked: email.max_message_size is 2MB"), warning)

    def test_conditions_of_headers_are_checked(self) -> None:
        """A name, a value that a field can have, an expression that ends; at least one of them."""
        for headers, problem in (
            ("{}", "headers: the mapping is empty: leave it out to match every message"),
            ("{'a b': c}", "'a b' is not the name of a header"),
            ("{a: ' b'}", "it neither begins nor ends with a space"),
            ("{a: 're:(a+)+'}", "repeats what already repeats or chooses"),
        ):
            (found,) = self.problems(email(f"match: {{recipients: ['*@a.b'], headers: {headers}}}, {DELIVER}"))
            self.assertIn(problem, found)

    def test_a_rule_that_matches_anything_more_is_asked(self) -> None:
        """Another domain, another local part, other clients."""
        strangers = f"match: {{recipients: ['*@a.b'], clients: strangers}}, {DELIVER}"
        for rules in (
            (deliver("x@a.b"), deliver("*@a.b")),
            (deliver("*@*.b"), deliver("*@x.a.b")),
            (deliver("*@*.b"), deliver("*@b")),
            (deliver("*@**.b.c"), deliver("*@**.c")),
            (strangers, deliver("*@a.b")),
            (deliver("*@a.b"), deliver("x@a.b", "x@c.d")),
            (f"match: {{size_over: 1KB}}, {DELIVER}", deliver("*@a.b")),
            (f"match: {{headers: {{a: b}}}}, {DELIVER}", f"match: {{headers: {{a: c}}}}, {DELIVER}"),
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
