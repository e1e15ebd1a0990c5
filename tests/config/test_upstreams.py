from __future__ import annotations

from typing import Any

from dcrouter.config.actions import Forward
from dcrouter.config.effective import Protocols
from dcrouter.config.forms import Secret
from dcrouter.config.health import Health, Passive
from dcrouter.config.load import from_plain
from dcrouter.config.plain import to_plain
from dcrouter.config.targets import Target, TargetMatch
from dcrouter.config.through import Proxy
from tests.config.written import FileTestCase

ROUTE = "routes: [{name: a, match: {ports: [1]}, action: {type: forward, %s}}]"


class UpstreamTest(FileTestCase):
    def forward(self, action: str) -> Forward:
        """The action of a route that says this; it survives the way to the edge."""
        config = self.config(ROUTE % action)
        self.assertEqual(from_plain(to_plain(config)), config)
        found = config.routes[0].action
        assert isinstance(found, Forward)
        return found

    def wrong(self, action: str, *expected: str, ports: str = "[1]") -> None:
        """What is wrong with it, from the action on."""
        problems = self.problems((ROUTE % action).replace("[1]", ports, 1))
        self.assertEqual([problem.partition(": routes[0].action.")[2] for problem in problems], list(expected))


class TargetTests(UpstreamTest):
    def test_weights_and_backups(self) -> None:
        """Beside where they are."""
        action = self.forward(
            "targets: [{host: a.test, port: 1, weight: 3}, {unix: /run/x, backup: true}], balance: random-two"
        )
        first, second = action.targets
        self.assertEqual(first, Target(host="a.test", port=1, weight=3))
        self.assertEqual((second.weight, second.backup, action.balance), (1, True, "random-two"))

    def test_bounds(self) -> None:
        """A weight of nothing would be a target of nothing."""
        self.wrong(
            "target: {host: a.test, port: 1, weight: 0, backup: yes}",
            "target.weight: '0' is not between 1 and 1000",
            "target.backup: 'yes' is not true or false",
        )

    def test_mail_takes_no_part(self) -> None:
        """Its targets have no weights, and nobody has an address that would always lead to the same one."""
        mail = "email: {hostname: a.b, rules: [{name: a, match: {clients: may_relay}, action: {type: forward, %s}}]}"
        problems = self.problems(mail % "balance: hash-client-ip, targets: [{host: a.test, weight: 2}]")
        self.assertEqual(
            [problem.partition("action.")[2] for problem in problems],
            [
                "balance: 'hash-client-ip' is not one of failover, round-robin, least-connections, random-two",
                "targets[0].weight: unknown key (known here: host, port, unix)",
            ],
        )


class HealthTests(UpstreamTest):
    def health(self, text: str) -> Any:
        return self.forward("target: {host: a.test, port: 1}, health: {" + text + "}").health

    def test_defaults(self) -> None:
        """Of active checks, and of passive ones, each without the other."""
        self.assertEqual(self.health("type: tcp"), Health(type="tcp", interval=10, timeout=2, rise=2, fall=3))
        self.assertEqual(self.health("passive: {}"), Health(passive=Passive(failures=5, within=30, eject=30)))
        self.assertIsNone(self.forward("target: {host: a.test, port: 1}").health)

    def test_http(self) -> None:
        """One status, or several."""
        self.assertEqual(self.health("type: http, path: '/h?x=1', expect: 204").expect, (204,))
        self.assertEqual(self.health("type: http, expect: [200, 301]").expect, (200, 301))

    def test_what_does_not_go_together(self) -> None:
        """Every key that would do nothing is told."""
        for text, *problems in (
            ("{}", "health: says nothing that could be looked at: 'type' or 'passive' is missing"),
            (
                "{passive: {eject: 0s}, rise: 2, path: /x}",
                "health.passive.eject: nothing would be ejected",
                "health.rise: is for active checks: 'type' is missing",
                "health.path: is for active checks: 'type' is missing",
            ),
            ("{type: smtp, expect: 220}", "health.expect: is for type: http, not for smtp"),
            (
                "{type: tcp, interval: 0s, timeout: 0s}",
                "health.interval: there would be no time between two checks",
                "health.timeout: no check could be good",
            ),
            (
                "{type: http, path: health}",
                "health.path: 'health' is not a path: ASCII without spaces that begins with /",
            ),
            ("{type: ping}", "health.type: 'ping' is not one of tcp, tls, http, smtp"),
        ):
            self.wrong("target: {host: a.test, port: 1}, health: " + text, *problems)

    def test_a_check_of_preserve_needs_one_port(self) -> None:
        """Else nobody could say which."""
        action = "target: {host: a.test, port: preserve}, health: {type: tcp}"
        self.forward(action)
        self.wrong(
            action,
            "target.port: a check would not know which port to ask: the route has several",
            ports="[{from: 1, to: 9}]",
        )


class WayTests(UpstreamTest):
    TARGET = "target: {host: a.test, port: 1}, "

    def test_proxies(self) -> None:
        """Three kinds, with a login or without, percent-encoded."""
        for text, proxy in (
            ("socks5://proxy.test:1080", Proxy(scheme="socks5", host="proxy.test", port=1080)),
            ("http://10.0.0.1:3128/", Proxy(scheme="http", host="10.0.0.1", port=3128)),
            (
                "https://me:p%40ss%2F%3A@[2001:db8::1]:443",
                Proxy(scheme="https", host="2001:db8::1", port=443, user="me", password=Secret("p@ss/:")),
            ),
        ):
            self.assertEqual(self.forward(self.TARGET + f"through: '{text}'").through, proxy)

    def test_no_error_shows_a_password(self) -> None:
        """Wherever the slip is; nor does the value, printed."""
        for text in (
            "socks5://me:hunter2@proxy.test",
            "socks5://hunter2@proxy.test:1080",
            "socks://me:hunter2@proxy.test:1080",
            "socks5h://me:hunter2@proxy.test:1080",
            "socks5://me:hunter2",
            "http://m%3Ae:hunter2@proxy.test:1",
            "http://me:hunter2%0A@proxy.test:1",
            "me:hunter2@proxy.test:1080",
            "socks5://me:hunter2%FF@proxy.test:1080",
            "socks5://me:" + "hunter2" * 40 + "@proxy.test:1080",
        ):
            problems = self.problems(ROUTE % (self.TARGET + f"through: '{text}'"))
            self.assertEqual(len(problems), 1, problems)
            self.assertNotIn("hunter2", problems[0])
        proxy = self.forward(self.TARGET + "through: 'http://me:hunter2@proxy.test:1'").through
        self.assertNotIn("hunter2", f"{proxy} {proxy!r}")

    def test_source(self) -> None:
        """One address of this host, of the family of what is connected to."""
        self.assertEqual(str(self.forward(self.TARGET + "source: 192.0.2.1").source), "192.0.2.1")
        self.wrong(
            "targets: [{host: '::1', port: 9}, {host: 10.0.0.1, port: 1}, {unix: /x}], source: 192.0.2.1",
            "targets[0]: cannot be reached from 192.0.2.1 (source): one is IPv4, the other IPv6",
            "targets[2]: a unix socket is connected to by its path: source has no meaning for it",
        )
        self.wrong(
            "targets: [{host: '::1', port: 1}, {unix: /x}], source: 192.0.2.1, through: 'http://[::1]:1'",
            "targets[1]: a unix socket is connected to by its path: through has no meaning for it",
            "through: cannot be reached from 192.0.2.1 (source): one is IPv4, the other IPv6",
        )
        self.wrong(self.TARGET + "source: 0.0.0.0", "source: 0.0.0.0 is no address of one host")


class MatchTests(UpstreamTest):
    def test_a_target_for_some(self) -> None:
        """It makes an http route of its own, where it asks for what only a request tells."""
        config = self.config(
            ROUTE % "targets: [{host: a.test, port: 1}, {host: b.test, port: 1, match: {headers: {x-api-version: v2}}}]"
        )
        self.assertEqual(from_plain(to_plain(config)), config)
        action = config.routes[0].action
        assert isinstance(action, Forward)
        self.assertEqual(action.targets[1].match, TargetMatch(headers={"x-api-version": "v2"}))
        self.assertEqual(Protocols(config.routes, config.listen).of(config.routes[0]), "http")
        config = self.config(ROUTE % "target: {host: a.test, port: 1, match: {client_ips: [10.0.0.0/8]}}")
        self.assertEqual(Protocols(config.routes, config.listen).of(config.routes[0]), "tcp")

    def test_what_cannot_be_meant(self) -> None:
        """An empty match, and a request that nobody sees."""
        self.wrong(
            "targets: [{host: a.test, port: 1, match: {}}]",
            "targets[0].match: says nothing: leave it out for a target that is for all",
        )
        problems = self.problems(
            """\
            routes:
              - name: a
                match: {ports: [1]}
                tls: {mode: passthrough}
                action: {type: forward, targets: [{host: a.test, port: 1, match: {path: [/x]}}]}
              - name: b
                match: {ports: [2]}
                protocol: tcp
                action: {type: forward, targets: [{host: a.test, port: 1, match: {methods: [GET]}}]}
            """
        )
        self.assertEqual(
            [problem.partition(": ")[2] for problem in problems],
            [
                "routes[0].action.targets[0].match.path: nobody sees a request inside TLS that is passed through: "
                "leave it out",
                "routes[1].protocol: bytes of a tcp route pass untouched, but action.targets[0].match.methods needs "
                "http",
            ],
        )

    def test_what_does_nothing_is_warned_of(self) -> None:
        """A target that is listed twice, a weight that nobody looks at, backups of nobody."""
        _, warnings = self.load(
            ROUTE % "balance: failover, targets: [{host: a.test, port: 1, weight: 2, backup: true}, "
            "{host: a.test, port: 1, backup: true}]"
        )
        self.assertEqual(
            [warning.partition(": ")[2] for warning in warnings],
            [
                "routes[0].action: all of its targets are backups, and there is nobody that they stand in for",
                "routes[0].action.targets[0].weight: failover takes no notice of it: the first target that can be "
                "reached is taken",
                "routes[0].action.targets[1]: is listed twice: its share is its `weight`",
            ],
        )
