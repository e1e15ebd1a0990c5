"""Routes that would forward to themselves."""

from __future__ import annotations

from tests.config.written import FileTestCase

ITSELF = "the route would forward to itself: it listens on that address and port"


def forward(target: str, more: str = "") -> str:
    return f"routes:\n  - {{name: a, match: {{ports: [80, 443]{more}}}, action: {{type: forward, target: {target}}}}}\n"


class LoopTests(FileTestCase):
    """One connection would become another, until descriptors run out."""

    def test_an_own_port_on_an_own_address_is_an_error(self) -> None:
        for target in (
            "{host: 127.0.0.1, port: 443}",
            "{host: localhost, port: 80}",
            "{host: '::1', port: preserve}",
            "{host: 127.8.8.8, port: 80}",
        ):
            with self.subTest(target=target):
                problems = self.problems(forward(target))
                self.assertEqual([problem.partition("action.target: ")[2] for problem in problems], [ITSELF])

    def test_another_port_address_or_client_is_fine(self) -> None:
        for text in (
            forward("{host: 127.0.0.1, port: 8080}"),
            forward("{host: 192.0.2.1, port: 443}"),
            forward("{host: 127.0.0.1, port: 443}", ", listen: [192.0.2.7]"),
            forward("{host: 127.0.0.1, port: 443}", ", client_ips: [192.0.2.0/24]"),
            forward("{host: app.test, port: preserve}"),
        ):
            with self.subTest(text=text):
                self.assertEqual(self.load(text)[1], [])
