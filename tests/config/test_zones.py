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


class PoolTests(FileTestCase):
    def test_pools_and_replies(self) -> None:
        """As in the reference; all of it reaches the mail process."""
        config, _ = self.load(
            EMAIL + "  zones: {default: {pool: main}}\n"
            "  pools:\n"
            "    main:\n"
            "      - {address: 127.0.0.1, name: mta1.example.com, weight: 2}\n"
            "      - {address: 127.0.0.2, warmup: {start: 2026-12-01, daily: [50, 100, 250], per: provider}}\n"
            "  on_reply:\n"
            '    - {match: "re:(?i)blocked|blacklist|spamhaus", action: rotate_source, for: 1h}\n'
            '    - {match: "421 4.7.0", action: slow_down, to: 10/min, for: 2h}\n'
        )
        email = config.email
        assert email is not None
        first, second = email.pools["main"]
        assert second.warmup is not None
        self.assertEqual((str(first.address), first.name, first.weight), ("127.0.0.1", "mta1.example.com", 2))
        self.assertEqual((second.warmup.start, second.warmup.daily, second.name), ("2026-12-01", (50, 100, 250), None))
        turn, slow = email.on_reply
        self.assertEqual((turn.action, turn.for_, slow.to and slow.to.rate), ("rotate_source", 3600.0, (10, 60.0)))
        self.assertEqual(from_plain(to_plain(config)), config)

    def test_slips(self) -> None:
        """Each at its place."""
        for text, problem in (
            (
                "  zones: {default: {pool: man}}\n  pools: {main: [{address: 127.0.0.1}]}\n",
                "there is no pool 'man' (did",
            ),
            ("  pools: {main: []}\n", "email.pools.main: has no source: nothing could leave"),
            ("  pools: {main: [{address: here}]}\n", "email.pools.main[0].address: 'here' is not an IP address"),
            ("  pools: {main: [{address: 127.0.0.1, weight: 0}]}\n", "email.pools.main[0].weight: '0' is not between"),
            ("  pools: {main: [{address: '::1'}, {address: '0::1'}]}\n", "main[1].address: is also the address of [0]"),
            (
                "  pools: {main: [{address: 127.0.0.1, warmup: {start: tomorrow, daily: [1]}}]}\n",
                "'tomorrow' is not",
            ),
            (
                "  pools: {main: [{address: 127.0.0.1, warmup: {start: 2026-12-01, daily: []}}]}\n",
                "daily: the list is empty",
            ),
            ("  on_reply: [{match: '4', action: slow_down}]\n", "email.on_reply[0]: 'to' is missing: the rate"),
            ("  on_reply: [{match: '4', action: suspend, to: 1/s}]\n", "on_reply[0].to: suspend has no rate"),
            ("  on_reply: [{match: 're:(', action: suspend}]\n", "email.on_reply[0].match: 're:(' is not a regular"),
            ("  on_reply: [{match: 're:(a+)+b', action: suspend}]\n", "email.on_reply[0].match"),
            ("  on_reply: [{match: ' ', action: suspend}]\n", "match: is empty: every reply would match"),
            ("  on_reply: [{match: '4', action: wait}]\n", "'wait' is not one of rotate_source, slow_down, suspend"),
            ("  on_reply: [{match: '4', action: suspend, for: 0s}]\n", "email.on_reply[0].for: is no time at all"),
        ):
            self.assertIn(problem, "\n".join(self.problems(EMAIL + text)))

    def test_what_is_hardly_meant(self) -> None:
        """It is allowed."""
        _, warnings = self.load(
            EMAIL + "  pools:\n"
            "    a: [{address: 203.0.113.77, warmup: {start: 2026-12-01, daily: [5, 3]}}]\n"
            "  on_reply: [{match: '4', action: rotate_source}]\n"
        )
        told = "\n".join(warnings)
        for text in (
            "email.pools.a: is not used by any zone",
            "email.pools.a: has no warm source: what is too much",
            "email.pools.a[0].address: 203.0.113.77 is not an address of this host",
            "email.pools.a[0].warmup.daily: has less on a later day than before",
            "email.on_reply[0].action: has nothing to turn to: no pool has two sources",
        ):
            self.assertIn(text, told)
