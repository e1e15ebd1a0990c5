"""Which egress rule decides: each condition, and that all must hold."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.egress import EgressMatch, EgressRule
from dcrouter.config.forms import Secret
from dcrouter.config.through import Proxy
from dcrouter.config.times import TimeWindow
from dcrouter.interfaces import Departure
from dcrouter.mail.delivery.egress.rules import EgressRules
from dcrouter.mail.delivery.egress.way import DIRECT

MONDAY_NOON = 4 * 86400 + 12 * 3600.0
PROXY = Proxy(scheme="socks5", host="p.test", port=1080, user="me", password=Secret("hush"))
ASKED = Departure(
    host="mx1.example.com", port=25, address="192.0.2.1", zone="bulk", recipient="User@Example.com", attempts=3
)


class RuleTests(SynchronousTestCase):
    def first(self, departure: Departure = ASKED, **match: Any) -> bool:
        rules = EgressRules((EgressRule(match=EgressMatch(**match), through=(PROXY,)),), lambda: MONDAY_NOON)
        found = rules.first(departure)
        self.assertEqual(found is not None, rules.explain(departure)["rule"] == 0)
        return found is not None

    def test_each_condition(self) -> None:
        """Held and not held; of several values one is enough."""
        held: tuple[dict[str, Any], ...] = (
            {},
            {"zone": ("a", "bulk")},
            {"recipient": ("user@example.com",)},
            {"recipient": ("*@*.com", "x@y.test")},
            {"host": ("mx1.example.com",)},
            {"host": ("*.example.com",)},
            {"host": ("**.com",)},
            {"host": ("re:mx[0-9]\\.example\\.com",)},
            {"destination_ips": (ip_network("192.0.2.0/24"),)},
            {"time": TimeWindow(days=((0, 4),), start=8 * 60, end=18 * 60, zone="UTC")},
            {"attempts_over": 2},
        )
        missed: tuple[dict[str, Any], ...] = (
            {"zone": ("default",)},
            {"recipient": ("other@example.com",)},
            {"host": ("example.com", "*.com", "192.0.2.1")},
            {"destination_ips": (ip_network("198.51.100.0/24"),)},
            {"time": TimeWindow(days=((5, 6),), zone="UTC")},
            {"attempts_over": 3},
        )
        for match in held:
            self.assertTrue(self.first(**match), match)
        for match in missed:
            self.assertFalse(self.first(**match), match)
            for other in held:
                self.assertFalse(self.first(**{**other, **match}), (match, other))

    def test_hosts_that_are_addresses(self) -> None:
        """Of address literals and of targets, in any spelling."""
        asked = evolve(ASKED, host="2001:db8:0::1")
        self.assertTrue(self.first(asked, host=("2001:db8::1",)))
        self.assertFalse(self.first(asked, host=("**.com",)))

    def test_the_first_that_is_enabled(self) -> None:
        """Later ones are not looked at; without any it goes straight."""
        other = evolve(PROXY, host="q.test")
        rules = EgressRules(
            (
                EgressRule(enabled=False, through=(PROXY,)),
                EgressRule(match=EgressMatch(zone=("bulk",)), through=(other,), on_failure="direct"),
                EgressRule(through=(PROXY,)),
            ),
            lambda: 0.0,
        )
        found = rules.first(ASKED)
        assert found is not None
        self.assertEqual((found.number, found.way.proxies, found.way.on_failure), (1, (other,), "direct"))
        self.assertNotIn("hush", str(rules.explain(ASKED)) + repr(found.way))
        self.assertIsNone(EgressRules((), lambda: 0.0).first(ASKED))
        self.assertEqual(rules.proxies, {PROXY, other})

    def test_checks_go_no_way_that_mail_might_not(self) -> None:
        """Conditions on mail count as if they held; where code decides, nobody knows."""
        host = Departure(host="mx1.example.com", port=25)
        mail = EgressRule(match=EgressMatch(zone=("bulk",), recipient=("a@b.test",), attempts_over=5), through=(PROXY,))
        elsewhere = EgressRule(match=EgressMatch(host=("other.test",)), select="a:b")
        self.assertEqual(EgressRules((elsewhere, mail), lambda: 0.0).for_checks(host).proxies, (PROXY,))  # type: ignore[union-attr]
        self.assertIsNone(EgressRules((EgressRule(select="a:b"), mail), lambda: 0.0).for_checks(host))
        self.assertEqual(EgressRules((elsewhere,), lambda: 0.0).for_checks(host), DIRECT)
