"""What strangers can reach through mail rules."""

from __future__ import annotations

from pathlib import Path

from tests.config.mailrules import DELIVER, FORWARD, MTA, email
from tests.config.written import FileTestCase


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

    def test_what_a_message_says_keeps_nobody_out(self) -> None:
        """Anyone can write any header, and as much as he likes."""
        for match in ("headers: {x-secret: abc}", "size_over: 1KB"):
            (problem,) = self.problems(email(f"match: {{{match}}}, {MTA}"))
            self.assertIn("an open relay: strangers match rule 'r0' with any recipient", problem)

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

    def test_senders_keep_nobody_out(self) -> None:
        """Anyone can write any sender."""
        for senders in ("'*@ours.test'", "'<>'", "boss@ours.test"):
            (problem,) = self.problems(email(f"match: {{senders: [{senders}]}}, {FORWARD}"))
            self.assertIn("email.rules[0]: an open relay: strangers match rule 'r0' with any recipient", problem)

    def test_who_may_relay_may_send_anywhere(self) -> None:
        """With an account or trusted; through ports on which AUTH is required; or from networks that are named."""
        for match in (
            "clients: may_relay",
            "kinds: [submission, smtps]",
            "client_ips: [10.0.0.0/8, 192.0.2.7, 'fc00::/7', '2001:db8::/32']",
        ):
            for action in (FORWARD, MTA):
                self.load(email(f"match: {{{match}}}, {action}"))
        self.load(email(f"match: {{clients: authenticated}}, {MTA}") + "  trusted: [10.0.0.0/8]\n")

    def test_a_network_of_half_the_world_is_nobody_in_particular(self) -> None:
        """In a rule, and in `trusted`; nor are ports on which strangers may send."""
        for match in (
            "client_ips: [0.0.0.0/0]",
            "client_ips: [10.0.0.0/8, 128.0.0.0/1]",
            "client_ips: ['::/0']",
            "client_ips: ['2000::/3']",
            "kinds: [smtp]",
            "kinds: [smtp, submission]",
            "clients: strangers, client_ips: [0.0.0.0/7]",
        ):
            for action in (FORWARD, MTA):
                (problem,) = self.problems(email(f"match: {{{match}}}, {action}"))
                self.assertIn("email.rules[0]: an open relay: ", problem)
        (problem,) = self.problems(
            email(f"match: {{kinds: [submission]}}, {MTA}") + "  auth: {required: [smtps]}\n",
        )
        self.assertIn("email.rules[0]: an open relay: ", problem)
        self.assertEqual(
            self.problems(email() + "  trusted: [10.0.0.0/8, 0.0.0.0/0, '::/0']\n"),
            [
                "6:25: email.trusted[1]: an open relay: '0.0.0.0/0' is no network of anybody in particular",
                "6:36: email.trusted[2]: an open relay: '::/0' is no network of anybody in particular",
            ],
        )

    def test_strangers_send_on_to_named_domains_only(self) -> None:
        """As a backup MX does; a top-level domain may be one's own network with `forward`, with `mta` it is not."""
        self.config(email(f"match: {{recipients: ['*@example.com', '*@**.example.com']}}, {MTA}"))
        (problem,) = self.problems(email(MTA))
        self.assertTrue(
            problem.endswith("it sends their mail; say match.recipients, or match.clients: may_relay"), problem
        )
        for recipients in ("*@*.com", "*@**.com"):
            (problem,) = self.problems(email(f"match: {{recipients: ['{recipients}']}}, {MTA}"))
            self.assertTrue(problem.endswith("with every domain under .com; name the domain"), problem)
        (problem,) = self.problems(email(f"match: {{recipients: ['*']}}, {MTA}"))
        self.assertTrue(
            problem.endswith("with recipients of any domain; name the domain, or say match.clients: may_relay"), problem
        )

    def test_a_list_of_who_exists_names_its_domains(self) -> None:
        """So a rule with one reaches no other; asking the target does not, which may take anything."""
        Path("known").write_text("a@example.com\n")
        self.load(email(f"recipients_file: known, {FORWARD}", postmaster="a@example.com"))
        (problem,) = self.problems(email(f"verify: {{ask: target}}, {FORWARD}"))
        self.assertIn("an open relay", problem)

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
