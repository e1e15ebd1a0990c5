"""The keys of limits and of the PROXY protocol, as they are written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Forward
from dcrouter.config.admin import Config
from dcrouter.config.effective import effective_routes
from dcrouter.config.load import from_plain, load, to_plain
from dcrouter.config.rates import Rate
from dcrouter.config.security import MinRate
from dcrouter.errors import ConfigError

ROUTES = """
routes:
  - name: plain
    match: {ports: 80}
    action: {type: forward, target: {host: 127.0.0.1, port: 8080}, proxy_protocol: v1}
  - name: own
    match: {ports: 81}
    action: {type: forward, target: {host: 127.0.0.1, port: 8080}, proxy_protocol: v2}
    security: {min_rate: {bytes: 1, over: 1h}, connection_rate_per_ip: {rate: 10/s, burst: 50}}
"""


class LimitKeysTests(SynchronousTestCase):
    def load(self, text: str) -> Config:
        file = Path(tempfile.mkdtemp()) / "routes.yaml"
        file.write_text(text)
        config = load(file)
        self.assertEqual(from_plain(to_plain(config)), config)
        return config

    def test_a_floor_is_inherited_and_a_rate_is_not(self) -> None:
        """A route's own floor replaces the default; rates are counters, which hold beside each other."""
        config = self.load(
            "defaults: {security: {min_rate: {bytes: 100, over: 30s}, connection_rate_per_ip: 300/min}}"
            + ROUTES
            + "email: {hostname: a.example, ports: [25], postmaster: p@a.example,\n"
            "  security: {min_rate: {bytes: 5, over: 2s}},\n"
            "  rules: [{name: in, match: {recipients: ['*@a.example']}, action: {type: deliver, maildir: mail}}]}\n"
        )
        floor = MinRate(bytes=100, over=30.0)
        self.assertEqual(config.defaults.security.min_rate, floor)
        self.assertEqual(config.defaults.security.connection_rate_per_ip, Rate(rate=(300, 60.0)))
        plain, own, mail = effective_routes(config)
        self.assertEqual((plain.security.min_rate, plain.security.connection_rate_per_ip), (floor, None))
        self.assertEqual(own.security.min_rate, MinRate(bytes=1, over=3600.0))
        self.assertEqual(own.security.connection_rate_per_ip, Rate(rate=(10, 1.0), burst=50))
        self.assertEqual(mail.security.min_rate, MinRate(bytes=5, over=2.0))
        versions = [route.action.proxy_protocol for route in (plain, own) if isinstance(route.action, Forward)]
        self.assertEqual(versions, ["v1", "v2"])

    def test_what_makes_no_sense_is_told(self) -> None:
        """Each with the path of the key."""
        for security, said in (
            ("min_rate: {bytes: 0, over: 30s}", "security.min_rate.bytes: '0' is not between 1 and"),
            ("min_rate: {bytes: 100, over: 100ms}", "security.min_rate.over: a period shorter than 1s"),
            ("min_rate: {bytes: 100}", "security.min_rate: 'over' is missing"),
            ("connection_rate_per_ip: 300", "is not a rate such as"),
            ("connection_rate_per_ip: {rate: 300/min, burst: 0}", "security.connection_rate_per_ip.burst: "),
        ):
            error = self.assertRaises(ConfigError, self.load, f"defaults: {{security: {{{security}}}}}\n{ROUTES}")
            self.assertIn(said, str(error))
        error = self.assertRaises(ConfigError, self.load, ROUTES.replace("v1", "v3"))
        self.assertIn("action.proxy_protocol: 'v3' is not one of v1, v2", str(error))
