"""`email.egress`, and `health` of mail rules: what may stand there, and what is wrong with the rest."""

from __future__ import annotations

from ipaddress import ip_network

from dcrouter.config.code import code_of, needs_handlers
from dcrouter.config.egress import EgressMatch
from dcrouter.config.health import Health
from dcrouter.config.load import from_plain, to_plain
from dcrouter.config.rules import MailForward
from tests.config.written import FileTestCase

EMAIL = """
    version: 1
    email:
      hostname: mail.test
      postmaster: p@ours.test
      rules:
        - {name: in, match: {recipients: ['*@ours.test']}, action: {type: forward, targets: [{host: h.test}]%s}}
"""


class EgressTests(FileTestCase):
    def wrong(self, *rules: str) -> list[str]:
        """Problems, without their place in the file."""
        return [one.partition(": ")[2] for one in self.problems(self.text(*rules))]

    def text(self, *rules: str, action: str = "") -> str:
        lines = "".join(f"        - {{{rule}}}\n" for rule in rules)
        return EMAIL % action + ("      egress:\n" + lines if rules else "")

    def test_the_reference(self) -> None:
        """Each key, single values and lists; a password is nowhere to be seen."""
        config = self.config(
            self.text(
                'match: {zone: default}, through: ["socks5://user1:${P1}@proxy1.example.com:1080"], on_failure: defer',
                "match: {host: gmail-smtp-in.l.google.com}, through: ['socks5://proxy2.example.com:1080', "
                "'http://proxy3.example.com:3128'], balance: round-robin, on_failure: direct, enabled: true",
                "match: {recipient: User@Example.com, zone: [default]}, through: ['socks5://[2001:db8::1]:1080']",
                "match: {host: ['*.example.net', 192.0.2.1, 're:mx[0-9]\\.example\\.org'], attempts_over: 2, "
                "destination_ips: [192.0.2.0/24, '2001:db8::/32'], time: {days: mon-fri}}, select: 'hooks:pick'",
                "enabled: false, select: 'other:pick'",
            ),
            {"P1": "hush"},
        )
        assert config.email is not None
        one, two, three, four, five = config.email.egress
        self.assertEqual((one.match.zone, one.on_failure, one.balance), (("default",), "defer", "failover"))
        self.assertEqual((one.through[0].user, one.through[0].password), ("user1", "hush"))
        self.assertNotIn("hush", repr(config))
        self.assertEqual(str(two.through[1]), "http://proxy3.example.com:3128")
        self.assertEqual((two.balance, two.on_failure), ("round-robin", "direct"))
        self.assertEqual(three.match.recipient, ("user@example.com",))
        self.assertEqual(four.match.host, ("*.example.net", "192.0.2.1", "re:mx[0-9]\\.example\\.org"))
        self.assertEqual(four.match.destination_ips, (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")))
        self.assertEqual((four.match.attempts_over, four.select, five.match), (2, "hooks:pick", EgressMatch()))
        self.assertEqual(from_plain(to_plain(config)), config)
        self.assertEqual([code.name for code in code_of((), config.email)], ["hooks:pick"])
        self.assertEqual(next(code_of((), config.email)).where, "email.egress[3].select")
        self.assertTrue(needs_handlers((), config.email))

    def test_what_is_wrong(self) -> None:
        """All of it, at its place, and no secret in the words."""
        problems = self.wrong(
            "match: {}, through: ['socks5://me:hush@p']",
            "through: ['ftp://me:hush@p:21']",
            "match: {host: mx.test}",
            "match: {host: 'a b'}, through: []",
            "match: {hosts: mx.test}, through: ['http://p:3128'], on_failure: drop",
            "select: 'hooks:pick', balance: failover",
        )
        where = "email.egress"
        for words in (
            f"{where}[0].match: says nothing: leave it out for a rule of every connection",
            f"{where}[0].through[0]: the proxy has no port: a number after its host, such as :1080",
            f"{where}[1].through[0]: not a proxy such as socks5://proxy.example.com:1080: socks5, http or https",
            f"{where}[2]: 'through' or 'select' is missing",
            f"{where}[3].match.host: 'a b' is not a host name",
            f"{where}[4].match.hosts: unknown key (did you mean 'host'?)",
            f"{where}[4].on_failure: 'drop' is not one of defer, direct",
            f"{where}[5].balance: is for `through`: the callable names the proxies in its order",
        ):
            self.assertIn(words, problems)
        self.assertNotIn("hush", str(problems))
        self.assertEqual(
            self.wrong(
                "match: {zone: defualt}, through: ['socks5://p:1080']",
                "through: ['http://me:hush@p:21'], select: 'hooks:pick'",
            ),
            [
                "email.egress[0].match.zone: there is no zone 'defualt' (did you mean 'default'?)",
                "email.egress[1].select: stands instead of 'through': keep one of them",
            ],
        )

    def test_what_is_hardly_meant(self) -> None:
        """Rules behind one for all, the same proxy twice, a balance of one."""
        _, warnings = self.load(
            self.text(
                "match: {host: a.test}, through: ['http://p:3128', 'http://p:3128']",
                "through: ['http://p:3128'], balance: round-robin",
                "match: {host: b.test}, through: ['http://p:3128']",
            )
        )
        self.assertEqual(
            [one.partition(": ")[2] for one in warnings],
            [
                "email.egress[0].through: names the same proxy twice",
                "email.egress[1].balance: says nothing: there is one proxy",
                "email.egress[2]: is never asked: a rule before it is for every connection",
            ],
        )

    def test_health_of_mail_servers(self) -> None:
        """smtp, tcp, passive; not http."""
        config = self.config(self.text(action=", health: {type: smtp, interval: 5s, passive: {failures: 2}}"))
        assert config.email is not None
        action = config.email.rules[0].action
        assert isinstance(action, MailForward) and isinstance(action.health, Health)
        self.assertEqual((action.health.type, action.health.interval), ("smtp", 5.0))
        self.assertEqual(from_plain(to_plain(config)), config)
        problems = self.problems(self.text(action=", balance: random-two, health: {type: http}"))
        self.assertIn("mail servers are asked by smtp or tcp, not by http", problems[0])
