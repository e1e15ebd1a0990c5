"""Routes that would forward to themselves, redirects that go in circles, and mail that would come back."""

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


def redirect(to: str, ports: str = "[80, 443]", *, tls: bool = True, domains: str = "[a.test]") -> str:
    secure = ", tls: {mode: terminate, certificate: internal}" if tls else ""
    match = f"match: {{ports: {ports}, domains: {domains}}}"
    return f"routes:\n  - {{name: a, {match}{secure}, action: {{type: redirect, to: '{to}'}}}}\n"


class RedirectLoopTests(FileTestCase):
    """A browser asks some twenty times, and shows an error."""

    def warning(self, text: str) -> str:
        (warning,) = self.load(text)[1]
        return warning.partition("routes[0].action.to: ")[2]

    def test_the_same_place_is_warned_of(self) -> None:
        itself = "clients would come back for ever: this route answers https on port 443 itself"
        for to in ("https://{host}{uri}", "https://{host}:443{path}", "https://A.test{uri}"):
            with self.subTest(to=to):
                self.assertEqual(self.warning(redirect(to)), itself)
        whatever = "clients would come back for ever: this route answers https on whatever port they came to"
        for to in ("{uri}", "{path}", "https://{host}:{port}{uri}"):
            with self.subTest(to=to):
                self.assertEqual(self.warning(redirect(to)), whatever)
        self.assertEqual(
            self.warning(redirect("http://{host}:8080{uri}", "8080", tls=False)),
            "clients would come back for ever: this route answers http on port 8080 itself",
        )

    def test_another_place_is_fine(self) -> None:
        for text in (
            redirect("https://{host}{uri}", "80", tls=False),
            redirect("https://{host}{uri}", "8443"),
            redirect("https://{host}:8443{uri}"),
            redirect("https://www.a.test{uri}"),
            redirect("https://a.test{uri}", domains='["*.a.test"]'),
            redirect("https://{host}/new{uri}"),
            redirect("https://{host}:" + "9" * 5000 + "{uri}"),
            redirect("/new"),
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
