"""What follows from the configuration: the order of routes, mail routes, protocols, what is bound."""

# ruff: noqa: E501 - one route is one line here, as in a file

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import MailHandover
from dcrouter.config.effective import Protocols, bind_addresses, effective_routes, protocol
from dcrouter.config.order import order_key, specificity, spots
from dcrouter.config.overlap import NameSet
from dcrouter.config.security import RouteSecurity
from tests.config.written import FORWARD, FileTestCase

LABEL = st.sampled_from("ab")
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = st.tuples(st.sampled_from(("", "*.", "**.")), NAME).map("".join)


def names_of(pattern: str, depth: int = 6) -> set[str]:
    """All names of the labels a and b that match, with up to `depth` labels: the definition, by counting."""
    if not pattern.startswith("*"):
        return {pattern}
    suffix = pattern.lstrip("*")
    most = 1 if pattern.startswith("*.") else depth - suffix.count(".")
    found, heads = set(), [""]
    for _ in range(most):
        heads = [f"{label}.{head}" if head else label for head in heads for label in "ab"]
        found |= {head + suffix for head in heads}
    return found


class NameSetTests(SynchronousTestCase):
    @given(st.lists(PATTERN, max_size=4), PATTERN)
    def test_patterns_meet_where_a_name_matches_both(self, added: list[str], asked: str) -> None:
        """As counted out over small names."""
        names = NameSet()
        names.add(added)
        expected = any(names_of(pattern) & names_of(asked) for pattern in added)
        self.assertEqual(names.meets((asked,)), expected)

    def test_no_domains_mean_every_name(self) -> None:
        """Of one side or the other."""
        names = NameSet()
        self.assertFalse(names.meets(None))
        names.add(("a.b",))
        self.assertTrue(names.meets(None))
        names.add(None)
        self.assertTrue(names.meets(("x.y",)))


class OrderTests(FileTestCase):
    def test_the_order_of_the_contract(self) -> None:
        """Priority, exactness, length, one label before many, expressions, paths, conditions, the file."""
        match = {
            "regex": ", domains: ['re:[abc.]+']",
            "long": ", path: [/a/b]",
            "one-segment": ", path: [/a/*]",
            "rest": ", path: [/a/**]",
            "short": ", path: [/]",
            "last": "",
            "second": "",
            "listening": ", listen: [127.0.0.1]",
            "both": ", listen: [127.0.0.1], client_ips: [10.0.0.0/8]",
            "six": ", alpn: [h2], tls_versions: [TLSv1.3], methods: [GET], headers: {a: b, c: d}, time: {days: mon}",
            "many-short": ", domains: ['**.c']",
            "many": ", domains: ['**.b.c']",
            "one": ", domains: ['*.b.c']",
            "exact": ", domains: [a.b.c]",
        }
        lines = [
            f"  - {{name: {name}, match: {{ports: 1{more}}}, tls: {{mode: terminate}}, action: {FORWARD}}}\n"
            for name, more in match.items()
        ]
        lines.append(
            f"  - {{name: first, priority: 1, match: {{ports: 1}}, tls: {{mode: terminate}}, action: {FORWARD}}}\n"
        )
        config, _ = self.load("routes:\n" + "".join(lines))
        keyed = sorted(
            (order_key(route, spot, at), route.name)
            for at, route in enumerate(config.routes)
            for spot in spots(route.match)
        )
        self.assertEqual(
            " ".join(name for _, name in keyed),
            "first exact one many many-short regex long one-segment rest short six both listening last second",
        )

    def test_specificity(self) -> None:
        """Ascending, the more exact first."""
        patterns = [
            "www.example.com",
            "*.www.example.com",
            "**.www.example.com",
            "*.example.com",
            "**.example.com",
            "re:.*",
            None,
        ]
        self.assertEqual(sorted(patterns, key=specificity), patterns)


class EffectiveRoutesTests(FileTestCase):
    TEXT = """\
        defaults: {timeouts: {idle: 9s}, security: {max_connections: 1, block: [192.0.2.1]}}
        routes:
          - {name: a, match: {ports: 1}, action: {type: block}}
          - {name: off, enabled: false, match: {ports: 2}, action: {type: block}}
        email:
          hostname: a.b
          security: {max_connections: 7}
          trusted: [10.0.0.0/8]
          ports: [25, 587, 465, {port: 2525, kind: submission, listen: [127.0.0.1], max_connections: 3}]
        """

    def test_mail_routes_stand_behind_those_of_the_file(self) -> None:
        """With their own names, kinds, security and addresses; `max_connections` is the mail process's to keep."""
        routes = effective_routes(self.config(self.TEXT))
        self.assertEqual(
            [route.name for route in routes], ["a", "smtp-25", "submission-587", "smtps-465", "submission-2525"]
        )
        self.assertEqual(routes[3].action, MailHandover(kind="smtps"))
        self.assertEqual(routes[1].security, RouteSecurity(max_connections_per_ip=50))
        self.assertEqual(routes[4].match.listen, (ip_address("127.0.0.1"),))
        self.assertEqual(routes[1].timeouts.idle, 9)

    def test_without_email_there_is_no_mail(self) -> None:
        """And routes that are disabled are left out."""
        config = self.config(self.TEXT[: self.TEXT.index("        email:")])
        self.assertEqual([route.name for route in effective_routes(config)], ["a"])


class ProtocolTests(FileTestCase):
    def protocols(self, text: str) -> dict[str, str]:
        config, _ = self.load(text)
        routes = effective_routes(config)
        by_index = Protocols(routes, config.listen)
        for route in routes:
            self.assertEqual(by_index.of(route), protocol(route, routes, config.listen))
        return {route.name: by_index.of(route) for route in routes}

    def test_http_keys_make_http(self) -> None:
        """An answer, and Host on a plain port; all else is tcp."""
        self.assertEqual(
            self.protocols(
                f"""\
                routes:
                  - {{name: redirect, match: {{ports: 1}}, action: {{type: redirect, to: /}}}}
                  - {{name: respond, match: {{ports: 2}}, tls: {{mode: terminate}}, action: {{type: respond}}}}
                  - {{name: host, match: {{ports: 3, domains: [a.b]}}, action: {FORWARD}}}
                  - {{name: status, match: {{ports: 4}}, action: {{type: block, status: 403}}}}
                  - {{name: block, match: {{ports: 5}}, action: {{type: block}}}}
                  - {{name: plain, match: {{ports: 6}}, action: {FORWARD}}}
                  - {{name: sni, match: {{ports: 7, domains: [a.b]}}, tls: {{mode: passthrough}}, action: {FORWARD}}}
                  - {{name: ends, match: {{ports: 8, domains: [a.b]}}, tls: {{mode: terminate}}, action: {FORWARD}}}
                  - {{name: mail, match: {{ports: 9}}, action: {{type: mail}}}}
                email: {{hostname: mx.test, ports: [25]}}
                """
            ),
            {
                "redirect": "http",
                "respond": "http",
                "host": "http",
                "status": "http",
                "block": "tcp",
                "plain": "tcp",
                "sni": "tcp",
                "ends": "tcp",
                "mail": "tcp",
                "smtp-25": "tcp",
            },
        )

    def test_a_neighbour_of_the_same_port_and_name_makes_http(self) -> None:
        """Plain ones by the port, TLS ones by the name too; never what is passed through."""
        self.assertEqual(
            self.protocols(
                f"""\
                routes:
                  - {{name: host, match: {{ports: 80, domains: [a.b]}}, action: {FORWARD}}}
                  - {{name: rest, match: {{ports: [80, 81]}}, action: {{type: block}}}}
                  - {{name: elsewhere, match: {{ports: 82}}, action: {{type: block}}}}
                  - {{name: answer, match: {{ports: 443, domains: ["*.b.c"]}}, tls: {{mode: terminate}}, action: {{type: respond}}}}
                  - {{name: under, match: {{ports: 443, domains: [a.b.c]}}, tls: {{mode: terminate}}, action: {FORWARD}}}
                  - {{name: other, match: {{ports: 443, domains: [b.c]}}, tls: {{mode: terminate}}, action: {FORWARD}}}
                  - {{name: passed, match: {{ports: 443, domains: [x.b.c]}}, tls: {{mode: passthrough}}, action: {FORWARD}}}
                """
            ),
            {
                "host": "http",
                "rest": "http",
                "elsewhere": "tcp",
                "answer": "http",
                "under": "http",
                "other": "tcp",
                "passed": "tcp",
            },
        )


class BindTests(FileTestCase):
    def bound(self, text: str) -> list[str]:
        config, _ = self.load(text)
        return [f"{address} {port}" for address, port in bind_addresses(config)]

    def test_every_port_on_every_address_once(self) -> None:
        """Ranges that overlap, mail ports, and routes that say where they listen."""
        self.assertEqual(
            self.bound(
                """\
                listen: [127.0.0.1]
                routes:
                  - {name: a, match: {ports: [{from: 7, to: 9}, 8]}, action: {type: block}}
                  - {name: b, match: {ports: {from: 9, to: 10}, listen: ["::1"]}, action: {type: block}}
                  - {name: c, enabled: false, match: {ports: 11}, action: {type: block}}
                email: {hostname: a.b, ports: [25]}
                """
            ),
            ["127.0.0.1 7", "127.0.0.1 8", "127.0.0.1 9", "::1 9", "::1 10", "127.0.0.1 25"],
        )

    def test_a_wildcard_serves_its_family(self) -> None:
        """Other addresses of that family are not bound beside it; routes tell them apart."""
        self.assertEqual(
            self.bound(
                """\
                routes:
                  - {name: a, match: {ports: 1, listen: [0.0.0.0, "::1"]}, action: {type: block}}
                  - {name: b, match: {ports: [1, 2], listen: [127.0.0.1]}, action: {type: block}}
                """
            ),
            ["0.0.0.0 1", "::1 1", "127.0.0.1 2"],
        )

    def test_wide_ranges_of_many_routes(self) -> None:
        """Each port is there once, and it does not take for ever."""
        routes = "".join(
            f"  - {{name: r{at}, match: {{ports: {{from: 1, to: 60000}}, client_ips: [10.0.{at}.0/24]}}, action: {{type: block}}}}\n"
            for at in range(100)
        )
        self.assertEqual(len(self.bound("listen: [127.0.0.1]\nroutes:\n" + routes)), 60_000)
