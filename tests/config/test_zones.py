"""The keys of sending to the world, as they are written."""

from __future__ import annotations

from dcrouter.config.load import from_plain, to_plain
from tests.config.written import FileTestCase

EMAIL = "email:\n  hostname: a.b\n  auth: {required: []}\n"


class ZoneTests(FileTestCase):
    def test_zones_and_destinations(self) -> None:
        """As in the reference; what is not said has its default, and all of it reaches the mail process."""
        config, _ = self.load(
            EMAIL + "  zones:\n"
            "    default: {connections: 5, connection_time: 5m, messages_per_connection: 50, rate: 100/hour}\n"
            "    premium: {rate: {rate: 500/hour, burst: 9}, match: {senders: ['*@vip.example'], recipients: ['*'],\n"
            "      headers: {x-zone: premium}, client_ips: [10.0.0.0/8]}}\n"
            "  destinations:\n"
            "    default: {connections: 4, tls: opportunistic}\n"
            "    google: {mx: [google.com, googlemail.com], messages_per_connection: 50, tls: required}\n"
            "    example.net: {connections: 1, rate: 10/min}\n"
            "  rules: [{name: out, match: {clients: may_relay}, action: {type: mta}}]\n"
            "  trusted: [10.0.0.0/8]\n"
        )
        email = config.email
        assert email is not None
        default, premium = email.zones["default"], email.zones["premium"]
        self.assertEqual(
            (default.connections, default.connection_time, default.messages_per_connection), (5, 300.0, 50)
        )
        assert premium.rate is not None and premium.match is not None
        self.assertEqual(
            (premium.connections, premium.rate.burst, premium.match.headers), (20, 9, {"x-zone": "premium"})
        )
        self.assertEqual(email.destinations["google"].mx, ("google.com", "googlemail.com"))
        self.assertIsNone(email.destinations["google"].connections)
        self.assertEqual(from_plain(to_plain(config)), config)

    def test_slips(self) -> None:
        """Each at its place."""
        rules = "  rules: [{name: r, match: {clients: may_relay}, action: {type: mta, zone: gold}}]\n"
        for text, problem in (
            (
                "  zones: {god: {}}\n" + rules,
                "email.rules[0].action.zone: there is no zone 'gold' (did you mean 'god'?)",
            ),
            ("  zones: {a: {connections: 0}}\n", "email.zones.a.connections: '0' is not"),
            ("  zones: {a: {conections: 1}}\n", "email.zones.a.conections: unknown key (did you mean 'connections'?)"),
            ("  zones: {a: {connection_time: 0s}}\n", "email.zones.a.connection_time: no connection would carry"),
            ("  zones: {a: {match: {senders: []}}}\n", "email.zones.a.match.senders: the list is empty"),
            ("  zones: {a: {match: {headers: {x y: z}}}}\n", "email.zones.a.match.headers"),
            ("  zones: [a]\n", "email.zones: expected a mapping"),
            ("  destinations: {google: {connections: 1}}\n", "email.destinations.google: 'google' is not a domain: an"),
            (
                "  destinations: {10.0.0.1: {connections: 1}}\n",
                "destinations.'10.0.0.1': '10.0.0.1' is an address",
            ),
            ("  destinations: {default: {mx: [a.b]}}\n", "email.destinations.default.mx: default is for all"),
            ("  destinations: {a: {mx: [x.y]}, b: {mx: [x.y]}}\n", "email.destinations.b.mx[0]: 'x.y' is also of 'a'"),
        ):
            self.assertIn(problem, "\n".join(self.problems(EMAIL + text)))

    def test_what_has_no_effect(self) -> None:
        """A match that nobody asks."""
        text = "  trusted: [10.0.0.0/8]\n  zones: {a: {match: {senders: ['*']}}, default: {match: {senders: ['*']}}}\n"
        _, warnings = self.load(EMAIL + text)
        told = "\n".join(warnings)
        self.assertIn("email.zones.a.match: is never asked: no rule of type mta leaves the zone open", told)
        self.assertIn("email.zones.default.match: has no effect", told)
