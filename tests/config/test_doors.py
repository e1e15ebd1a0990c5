"""Routes and mail ports that meet at the same port and address."""

from __future__ import annotations

from tests.config.written import FORWARD, FileTestCase

TLS = "tls: {mode: passthrough}"
CANNOT_TELL = (
    "cannot be told apart from route 'b', which needs the client's first bytes: a client that waits for the server "
    "would wait for ever (give it a priority above 0, or another port)"
)


def two(one: str, other: str) -> str:
    """Two routes on port 443, `a` and `b`; each with what more is said of it."""
    return f"routes:\n  - {{name: a, match: {{ports: 443}}, {one}}}\n  - {{name: b, match: {{ports: 443}}, {other}}}\n"


def matched(one: str, other: str, more: str = "") -> str:
    """A plain `forward` and a TLS one on port 443; each with what more it matches."""
    return (
        f"routes:\n  - {{name: a, match: {{ports: 443{one}}}, action: {FORWARD}{more}}}\n"
        f"  - {{name: b, match: {{ports: [{{from: 400, to: 500}}]{other}}}, {TLS}, action: {FORWARD}}}\n"
    )


class WaitingTests(FileTestCase):
    """A client that waits for the server must not meet a route that waits for the client."""

    def assert_fine(self, text: str) -> None:
        self.assertEqual(self.load(text)[1], [])

    def assert_cannot_tell(self, text: str) -> None:
        self.assertEqual(self.problems(text), [f"2:23: routes[0].match.ports: {CANNOT_TELL}"])

    def test_a_plain_forward_beside_tls_is_an_error(self) -> None:
        """Whether the TLS route has names or not, and in whatever order."""
        self.assert_cannot_tell(matched("", ""))
        self.assert_cannot_tell(matched("", ", domains: [x.test]"))

    def test_a_mail_route_beside_anything_that_waits_is_an_error(self) -> None:
        """Plain HTTP too: mail clients never speak first."""
        email = "email: {hostname: mx.test, ports: [25]}"
        self.assert_cannot_tell(two("action: {type: mail}", f"{TLS}, action: {FORWARD}") + email)
        self.assert_cannot_tell(two("action: {type: mail}", "action: {type: respond}") + email)

    def test_a_mail_route_without_a_mail_server_is_an_error(self) -> None:
        """Nobody would ever take its connections. Not so where the route is off, or `email` is there but wrong."""
        route = "routes: [{name: a, match: {ports: 9465}, action: {type: mail, kind: smtps}}]\n"
        self.assertEqual(
            self.problems(route),
            [
                "1:51: routes[0].action.type: no mail server would take it: `email` is missing (its `ports` make such "
                "routes by themselves)"
            ],
        )
        self.assert_fine(route + "email: {hostname: mx.test, ports: [25]}")
        self.assert_fine(route.replace("name: a", "name: a, enabled: false"))
        self.assertEqual(self.problems(route + "email: {}"), ["2:1: email: 'hostname' is missing"])

    def test_a_plain_forward_beside_plain_http_is_fine(self) -> None:
        """There the client speaks first."""
        self.assert_fine(two("priority: 1, action: {type: redirect, to: /}", f"action: {FORWARD}"))
        self.assert_fine(
            f"routes:\n  - {{name: a, match: {{ports: 80}}, action: {FORWARD}}}\n"
            f"  - {{name: b, match: {{ports: 80, domains: [x.test]}}, action: {FORWARD}}}\n"
        )

    def test_what_can_be_told_without_a_byte_is_fine(self) -> None:
        """Ports, addresses and clients that have nothing in common."""
        self.assert_fine(matched("", "").replace("ports: 443", "ports: 399"))
        self.assert_fine(matched(", client_ips: [10.0.0.0/8]", ", client_ips: [11.0.0.0/8]"))
        self.assert_fine(matched(", listen: [127.0.0.1]", ", listen: [127.0.0.2, '::']"))

    def test_a_wildcard_address_meets_every_address_of_its_family(self) -> None:
        """0.0.0.0 is 127.0.0.1 too, and not ::1."""
        self.assert_cannot_tell(matched(", listen: [127.0.0.1]", ", listen: [0.0.0.0], domains: [x.test]"))
        self.assert_fine(matched(", listen: ['::1']", ", listen: [0.0.0.0], domains: [x.test]"))

    def test_a_route_that_certainly_comes_first_is_fine(self) -> None:
        """By its conditions, as long as no name is more specific than they are."""
        self.assert_fine(matched(", client_ips: [10.0.0.0/8]", ""))
        self.assert_cannot_tell(matched(", client_ips: [10.0.0.0/8]", ", domains: [x.test]"))

    def test_a_higher_priority_takes_all(self) -> None:
        """It is a choice, and the routes behind it are never reached."""
        _, warnings = self.load(two(f"priority: 1, action: {FORWARD}", f"{TLS}, action: {FORWARD}"))
        self.assertEqual(warnings, ["3:5: routes[1]: is never reached: route 'a' takes all of its connections first"])

    def test_routes_that_are_disabled_do_not_count(self) -> None:
        """As if they were not there."""
        self.assert_fine(matched("", "", ", enabled: false"))

    def test_blocking_what_is_not_tls_is_fine(self) -> None:
        """Nobody who is closed in the end waits for an answer."""
        self.assert_fine(
            f"routes:\n  - {{name: a, match: {{ports: 443}}, action: {{type: block}}}}\n"
            f"  - {{name: b, match: {{ports: 443, domains: [x.test]}}, {TLS}, action: {FORWARD}}}\n"
        )


class OrderTests(FileTestCase):
    """What is allowed and hardly meant."""

    EQUAL = "is equal to route 'a' in all that decides: only the file's order puts it behind"

    def test_routes_that_only_the_order_tells_apart(self) -> None:
        """Plain or TLS, with a name in common or none at all."""
        self.assertEqual(
            self.load(two(f"action: {FORWARD}", "action: {type: block}"))[1], [f"3:5: routes[1]: {self.EQUAL}"]
        )
        text = two(f"{TLS}, action: {FORWARD}", f"{TLS}, action: {FORWARD}").replace(
            "ports: 443", "ports: 443, domains: [x.test, y.test]"
        )
        self.assertEqual(self.load(text)[1], [f"3:5: routes[1]: {self.EQUAL}"])

    def test_a_route_that_takes_anything_behind_one_that_waits(self) -> None:
        """It gets what is left, and would get all in front of it. So is one in front that shares some of the ports."""
        block = "action: {type: block}"
        for other in ("action: {type: respond}", f"{TLS}, action: {FORWARD}"):
            self.assertEqual(self.load(two(other, block))[1], [f"3:5: routes[1]: {self.EQUAL}"])
            self.assertEqual(self.load(two(f"priority: 1, {other}", block))[1], [])
        tcp = two("action: {type: respond}", f"action: {FORWARD}")
        self.assertEqual(self.load(tcp)[1], [f"3:5: routes[1]: {self.EQUAL}"])
        some = two(block, "action: {type: respond}").replace("443}", "[443, 444]}", 1).replace("443}", "[443, 445]}", 1)
        self.assertEqual(self.load(some)[1], [f"3:5: routes[1]: {self.EQUAL}"])

    def test_routes_that_something_tells_apart(self) -> None:
        """Another name, priority, port, address or client, and TLS beside plain HTTP."""
        tls = f"{TLS}, action: {FORWARD}"
        for text in (
            two(tls, tls).replace("443}", "443, domains: [x.test]}", 1),
            two(tls, tls).replace("443}", "443, client_ips: [10.0.0.0/8]}", 1),
            two(tls, tls).replace("443}", "444}", 1),
            two(tls, tls).replace("443}", "443, listen: [127.0.0.1]}", 1),
            two(tls, "action: {type: respond}"),
        ):
            self.assertEqual(self.load(text)[1], [])

    def test_a_route_behind_one_that_takes_everything(self) -> None:
        """By a higher priority, or at once where the other would wait."""
        never = "3:5: routes[1]: is never reached: route 'a' takes all of its connections first"
        tls = f"{TLS}, action: {FORWARD}"
        for text in (
            two(f"priority: 1, {tls}", tls)
            .replace("443}, tls", "443, domains: [x.test]}, tls", 2)
            .replace(", domains: [x.test]", "", 1),
            two("action: {type: block}", tls),
        ):
            self.assertEqual(self.load(text)[1], [never])


class MailPortTests(FileTestCase):
    def test_a_route_on_a_mail_port_is_an_error(self) -> None:
        """On the same address, also inside a range, whatever its priority."""
        for ports in ("25", "{from: 20, to: 30}", "[1, 587]"):
            route = f"{{name: a, priority: 9, match: {{ports: {ports}}}, action: {{type: block}}}}"
            (problem,) = self.problems(f"routes: [{route}]\nemail: {{hostname: a.b}}")
            self.assertTrue(problem.endswith("of the same address belongs to mail (email.ports)"), problem)
            self.assertTrue(problem.startswith("1:41: routes[0].match.ports: port "), problem)

    def test_a_route_on_another_address_is_fine(self) -> None:
        """An address and a port together are what is claimed."""
        self.config(
            """\
            routes: [{name: a, match: {ports: 25, listen: [127.0.0.1]}, action: {type: block}}]
            email: {hostname: a.b, ports: [{port: 25, listen: [127.0.0.2, "::"]}]}
            """
        )

    def test_a_mail_port_twice(self) -> None:
        """On one address it cannot be, on two it is one entry with two addresses."""
        self.assertEqual(
            self.problems(
                """\
                email:
                  hostname: a.b
                  ports:
                    - 25
                    - {port: 25, kind: submission, listen: [127.0.0.1]}
                    - {port: 26, listen: [127.0.0.1]}
                    - {port: 26, listen: [127.0.0.2]}
                    - {port: 26, listen: [127.0.0.3], kind: smtps}
                """
            ),
            [
                "5:7: email.ports[1]: port 25 is listed twice for the same address",
                "7:7: email.ports[3]: port 26 is listed twice: name all its addresses in one `listen`",
            ],
        )

    def test_a_name_of_a_generated_route_is_taken(self) -> None:
        """It would appear twice in every log."""
        self.assertEqual(
            self.problems(
                "routes: [{name: smtp-25, match: {ports: 1}, action: {type: block}}]\n"
                "email: {hostname: a.b, ports: [25]}"
            ),
            ["1:11: routes[0].name: 'smtp-25' is also the name of a route of email.ports"],
        )
