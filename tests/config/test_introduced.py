"""Peers that must begin with a PROXY header on ports that nobody listens on."""

from __future__ import annotations

from tests.config.written import FileTestCase


def text(ports: str) -> str:
    return f"""
        proxy_protocol: [{{from: [10.0.0.7/32], ports: {ports}}}]
        routes:
          - {{name: a, match: {{ports: [{{from: 8440, to: 8443}}]}}, action: {{type: respond}}}}
          - {{name: b, enabled: false, match: {{ports: 8444}}, action: {{type: respond}}}}
        email: {{hostname: mail.test, ports: [{{port: 2525, kind: smtp}}]}}
        """


class IntroducedTests(FileTestCase):
    def test_a_port_that_nobody_has_is_warned_of(self) -> None:
        """The header that was meant for another port would be the client's first bytes there."""
        for ports, told in (("444", "port 444"), ("[8443, {from: 1, to: 9}]", "any port from 1 to 9")):
            with self.subTest(ports=ports):
                (warning,) = self.load(text(ports))[1]
                self.assertEqual(warning, f"2:40: proxy_protocol[0].ports: nobody listens on {told}")

    def test_ports_of_routes_and_of_mail_are_fine(self) -> None:
        """Of routes that are not enabled, too."""
        for ports in ("[8441, 2525]", "8444", "[{from: 1, to: 10000}]"):
            with self.subTest(ports=ports):
                self.assertEqual(self.load(text(ports))[1], [])
