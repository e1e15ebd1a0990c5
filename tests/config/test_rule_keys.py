"""What a mail rule can say, and the slips that are told."""

from __future__ import annotations

from pathlib import Path

from dcrouter.config.admin import Config
from dcrouter.config.forms import HostPort
from dcrouter.config.load import load
from dcrouter.config.rates import Rate
from dcrouter.config.rules import Deliver, MailForward, Rule, RuleLimits, Verify
from dcrouter.errors import ConfigError
from tests.config.mailrules import DELIVER, MTA, email
from tests.config.written import FileTestCase


class RuleTests(FileTestCase):
    def test_what_a_rule_can_say(self) -> None:
        """Each key, in its short and its long form."""
        Path("known").write_text("a@x.test")
        text = email(
            "match: {recipients: ['*@x.test'], senders: ['<>', '*@Y.test', 're:.*@z\\.test'], kinds: [smtp]}, "
            f"limits: {{messages: 100/min, max_recipients: 50}}, recipients_file: known, {DELIVER}",
            "match: {recipients: ['*@z.test'], senders: ['*']}, limits: {messages: {rate: 5/s, burst: 20}}, "
            "verify: {ask: target}, action: {type: forward, targets: [{host: h.test}, {host: i.test, port: 26}], "
            "auth: {user: u, password: p}}",
            "match: {recipients: ['*@l.test']}, action: {type: deliver, lmtp: '127.0.0.1:24'}",
        )
        first, second, third = (rule for rule in _rules(self.config(text)) if rule.name != "r3")
        self.assertEqual(first.match.senders, ("<>", "*@y.test", "re:.*@z\\.test"))
        self.assertEqual(first.limits, RuleLimits(messages=Rate(rate=(100, 60.0)), max_recipients=50))
        self.assertEqual(first.recipients_file, self.directory / "known")
        self.assertEqual(second.limits.messages, Rate(rate=(5, 1.0), burst=20))
        self.assertEqual(second.verify, Verify(ask="target", cache=21600.0))
        assert isinstance(second.action, MailForward) and isinstance(third.action, Deliver)
        self.assertEqual([target.port for target in second.action.targets], [25, 26])
        self.assertEqual(second.action.tls, "required")
        self.assertEqual((third.action.lmtp, third.action.maildir), (HostPort("127.0.0.1", 24), None))

    def test_slips(self) -> None:
        """With what would be right."""
        forward = "action: {type: forward, targets: [{host: h.test}]"
        ours = "match: {recipients: ['*@x.test']}, "
        for rule, problem in (
            ("action: {type: deliver}", "action: 'maildir' or 'lmtp' is missing"),
            ("action: {type: deliver, maildr: x}", "action.maildr: unknown key (did you mean 'maildir'?)"),
            (
                "action: {type: deliver, maildir: x, lmtp: /run/l}",
                "action.lmtp: needs either 'maildir' or 'lmtp', not both",
            ),
            (
                "action: {type: deliver, lmtp: localhost}",
                "action.lmtp: 'localhost' has no port: LMTP has no usual one (127.0.0.1:24)",
            ),
            (
                ours + forward + ", tls: none, auth: {user: u, password: p}}",
                "action.tls: a password is sent over TLS only: say tls: required, or leave `auth` out",
            ),
            (ours + forward + ", auth: {user: u}}", "action.auth: 'password' is missing"),
            (ours + forward + ", auth: {user: '', password: p}}", "action.auth.user: is empty"),
            (
                ours + "action: {type: forward, targets: [{unix: /run/x}], tls: required}",
                "action.targets[0].unix: mail is forwarded to a host and a port",
            ),
            (ours + "verify: {ask: users}, " + forward + "}", "verify.ask: 'users' is not target"),
            (
                f"verify: {{}}, {DELIVER}",
                "verify: only a rule that forwards has a target to ask: deliver has none",
            ),
            (ours + f"verify: {{}}, {MTA}", "verify: only a rule that forwards has a target to ask: mta has none"),
            (
                ours + "verify: {}, recipients_file: x, " + forward + "}",
                "verify: stands instead of 'recipients_file': keep one of them",
            ),
            (
                "match: {recipients: [a@x.test]}, limits: {max_recipients: 1}, action: {type: reject}",
                "limits: the rule rejects all that it matches: leave it out",
            ),
            (
                f"recipients_file: none, {DELIVER}",
                f"recipients_file: {self.directory}/none cannot be read: no such file or directory",
            ),
            (f"limits: {{messages: 100}}, {DELIVER}", "limits.messages: '100' is not a rate such as 100/s, 300/min,"),
            (f"limits: {{messages: {{burst: 1}}}}, {DELIVER}", "limits.messages: 'rate' is missing"),
            (f"match: {{recipients: ['<>']}}, {DELIVER}", "'<>' is the sender of bounces, and nobody's address"),
            (f"match: {{senders: []}}, {DELIVER}", "match.senders: the list is empty: no sender would match"),
        ):
            problems = self.problems(email(rule))
            self.assertEqual(len(problems), 1, problems)
            self.assertIn("email.rules[0]." + problem, problems[0].replace("match.recipients[0]: ", ""))

    def test_a_password_makes_tls_required(self) -> None:
        """It goes only to a target that has proved its name, whatever is written."""
        config, (warning,) = self.load(
            email(
                "match: {recipients: ['*@x.test']}, action: {type: forward, targets: [{host: h.test}], "
                "tls: opportunistic, auth: {user: u, password: p}}"
            )
        )
        self.assertTrue(
            warning.endswith("is taken as required: a password goes only to a target that has proved its name"), warning
        )
        action = _rules(config)[0].action
        assert isinstance(action, MailForward)
        self.assertEqual(action.tls, "required")

    def test_limits_that_are_never_reached(self) -> None:
        """The server's own comes first."""
        (warning,) = self.load(
            email(f"match: {{recipients: [a@x.test]}}, limits: {{max_recipients: 2000}}, {DELIVER}")
        )[1]
        self.assertTrue(
            warning.endswith("limits.max_recipients: is never reached: email.max_recipients is 1000"), warning
        )

    def test_a_list_without_anybody_is_warned_of(self) -> None:
        """And every problem in it has its place."""
        Path("known").write_text("# nobody yet\n")
        text = email(f"match: {{recipients: ['*@x.test']}}, recipients_file: known, {DELIVER}")
        (warning,) = self.load(text)[1]
        self.assertTrue(warning.endswith("known is empty: the rule takes nobody's mail"), warning)
        Path("known").write_text("x.test\n")
        Path("routes.yaml").write_text(text)
        (problem,) = self.assertRaises(ConfigError, load, Path("routes.yaml")).problems
        self.assertTrue(problem.startswith(f"{self.directory}/known:1:1: 'x.test' is not a recipient"), problem)

    def test_times_that_make_no_sense(self) -> None:
        """Of the queue, and of the resolver."""
        for text, problem in (
            ("email: {hostname: a.b, queue: {retry: {base: 0s}}}", "base: no wait at all would be an endless loop"),
            ("email: {hostname: a.b, queue: {retry: {max: 1s}}}", "max: is shorter than base"),
            ("resolver: {timeout: 0s}", "resolver.timeout: no server could answer in no time"),
            ("resolver: {servers: []}", "resolver.servers: the list is empty: nobody could be asked"),
            ("resolver: {servers: [dns.test]}", "'dns.test' is not the address of a DNS server, such as 192.0.2.53"),
            ("resolver: {trust_ad: yes}", "'yes' is not one of auto, true, false"),
        ):
            self.assertIn(problem, "\n".join(self.problems(text)))
        (warning,) = self.load("email: {hostname: a.b, queue: {retry: {delay_notice: 5d}}}")[1]
        self.assertTrue(warning.endswith("nobody is told: messages are given up before (max_age)"), warning)

    def test_the_resolver(self) -> None:
        """Booleans are what YAML makes of them, in either spelling."""
        for text, meant in (("true", "true"), ("False", "false"), ("auto", "auto")):
            self.assertEqual(
                self.config(f"resolver: {{trust_ad: {text}}}\nemail: {{hostname: a.b}}").resolver.trust_ad, meant
            )
        servers = self.config(
            "resolver: {servers: [192.0.2.53, '[::1]:5353']}\nemail: {hostname: a.b}"
        ).resolver.servers
        self.assertEqual(servers, (HostPort("192.0.2.53"), HostPort("::1", 5353)))


def _rules(config: Config) -> tuple[Rule, ...]:
    assert config.email is not None
    return config.email.rules
