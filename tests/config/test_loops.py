"""Routes that would forward to themselves, and mail that would come back."""

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


def mail(target: str, more: str = "") -> str:
    return f"""
        listen: ["0.0.0.0"]
        email:
          hostname: mail.test
          postmaster: p@a.test
          ports: [{{port: 2525, kind: smtp{more}}}]
          rules: [{{name: r, match: {{recipients: ["*@a.test"]}}, action: {{type: forward, targets: [{target}]}}}}]
        """


class MailLoopTests(FileTestCase):
    """It would meet the same rules until its hops run out."""

    def test_an_own_mail_port_is_warned_of(self) -> None:
        for target in ("{host: 127.0.0.1, port: 2525}", "{host: localhost, port: 2525}"):
            with self.subTest(target=target):
                (warning,) = self.load(mail(target))[1]
                told = "mail would come back: this service listens on that address and port (smtp)"
                self.assertEqual(warning.partition("email.rules[0].action.targets[0]: ")[2], told)

    def test_another_port_or_address_is_fine(self) -> None:
        for text in (
            mail("{host: 127.0.0.1, port: 2526}"),
            mail("{host: 192.0.2.1, port: 2525}"),
            mail("{host: 127.0.0.1, port: 2525}", ", listen: [192.0.2.7]"),
        ):
            with self.subTest(text=text):
                self.assertEqual(self.load(text)[1], [])
