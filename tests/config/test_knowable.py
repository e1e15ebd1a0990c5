"""Conditions of a route: what each may say, and what nobody could ever tell."""

from __future__ import annotations

from tests.config.written import FORWARD, FileTestCase

TERMINATE = "tls: {mode: terminate}"
PASSTHROUGH = "tls: {mode: passthrough}"


def route(match: str, more: str = TERMINATE, action: str = FORWARD) -> str:
    """One route on port 443."""
    return f"routes:\n  - {{name: a, match: {{ports: 443, {match}}}, {more}, action: {action}}}\n"


class KnowableTests(FileTestCase):
    def assert_problem(self, text: str, *problems: str) -> None:
        found = [problem.partition(": ")[2] for problem in self.problems(text)]
        self.assertEqual(found, list(problems))

    def test_every_condition_can_be_said(self) -> None:
        """And becomes a value."""
        text = (
            "domains: [a.test, 're:b[0-9]+\\.test'], alpn: [h2, http/1.1], tls_versions: [TLSv1.3], "
            "path: [/v1/**, /x/*], methods: [GET, PURGE], headers: {X-Api: v2, accept: 're:.*json.*'}, "
            "time: {days: [mon-fri, sun], from: '22:00', to: '06:00', zone: Europe/Berlin}"
        )
        match = self.config(route(text)).routes[0].match
        self.assertEqual(match.domains, ("a.test", "re:b[0-9]+\\.test"))
        self.assertEqual((match.alpn, match.tls_versions), (("h2", "http/1.1"), ("TLSv1.3",)))
        self.assertEqual((match.path, match.methods), (("/v1/**", "/x/*"), ("GET", "PURGE")))
        self.assertEqual(match.headers, {"X-Api": "v2", "accept": "re:.*json.*"})
        assert match.time is not None
        self.assertEqual(
            (match.time.days, match.time.start, match.time.end, match.time.zone),
            (((0, 4), (6, 6)), 22 * 60, 6 * 60, "Europe/Berlin"),
        )

    def test_empty_conditions_are_errors(self) -> None:
        """Lists, mappings, and nothing at all."""
        for word in ("domains", "alpn", "tls_versions", "path", "methods"):
            (problem,) = self.problems(route(f"{word}: []"))
            self.assertIn(f"match.{word}: the list is empty: no ", problem)
        self.assert_problem(
            route("headers: {}, time: {}"),
            "routes[0].match.headers: the mapping is empty: leave it out to match every request",
            "routes[0].match.time: the mapping is empty: leave it out to match at all times",
        )
        self.assert_problem(
            route("headers: , time: , path: "),
            "routes[0].match.headers: expected a mapping, not nothing",
            "routes[0].match.time: expected a mapping (known here: days, from, to, zone), not nothing",
            "routes[0].match.path: expected a list, such as [...], not nothing",
        )
        (problem,) = self.problems(route("time: {days: []}"))
        self.assertIn("match.time.days: the list is empty", problem)

    def test_values_that_nothing_could_have(self) -> None:
        """Each with what is wrong about it."""
        for text, problem in (
            ("path: [v1]", "'v1' is not a path: it begins with /"),
            ("path: ['/a?b']", "what stands behind '?' or '#' is not part of it"),
            ("path: ['/a b']", "without spaces"),
            ("path: ['/**/a']", "** stands only at the end"),
            ("path: ['/a*']", "'*' stands for a whole segment, not for a piece of it"),
            ("path: ['/a//b']", "has a segment that no path is compared with"),
            ("path: ['/a/%2e%2e/b']", "has a segment that no path is compared with"),
            ("path: ['/100%']", "has a % that begins no code such as %20"),
            ("methods: [get]", "'get' is not a method of HTTP (did you mean 'GET'?)"),
            ("methods: [CONNECT]", "CONNECT is answered with 405 before any route is asked"),
            ("headers: {'a b': c}", "'a b' is not the name of a header"),
            ("headers: {a: ' c'}", "neither begins nor ends with a space"),
            ("headers: {a: b, A: c}", "says the same as 'a'"),
            ("headers: {a: 're:('}", "is not a regular expression"),
            ("headers: {a: 're:(.*)*'}", "repeats what already repeats or chooses"),
            ("headers: {a: 're:a*b*c*'}", "repeats and chooses too often"),
            ("alpn: ['h 2']", "is not the name of a protocol"),
            ("tls_versions: [TLSv1.1]", "'TLSv1.1' is not one of TLSv1.2, TLSv1.3"),
            ("time: {days: [mo]}", "'mo' is not a day or days such as mon or mon-fri (did you mean 'mon'?)"),
            ("time: {from: '8:00'}", "'8:00' is not a time of the day such as 08:00"),
            ("time: {to: '24:01'}", "'24:01' is not a time of the day"),
            ("time: {zone: Europe/Berln}", "'Europe/Berln' is not a time zone of this host"),
            ("time: {zone: ../../etc/passwd}", "is not a time zone of this host"),
            ("time: {from: '08:00', to: '08:00'}", "there is no time between `from` and `to`"),
        ):
            (found,) = self.problems(route(text))
            self.assertIn(problem, found)

    def test_what_nobody_tells_is_an_error(self) -> None:
        """Requests inside TLS that is passed through, hellos of plain clients, anything before the server speaks."""
        self.assert_problem(
            route("path: [/a], methods: [GET], headers: {a: b}", PASSTHROUGH),
            *(
                f"routes[0].match.{word}: nobody sees a request inside TLS that is passed through"
                for word in ("path", "methods", "headers")
            ),
        )
        self.assert_problem(
            route("alpn: [h2], tls_versions: [TLSv1.3]", "priority: 0"),
            *(
                f"routes[0].match.{word}: only a TLS client tells it, and this route is plain: it has no `tls`"
                for word in ("alpn", "tls_versions")
            ),
        )
        mail = "email: {hostname: mx.test, ports: [25]}\n"
        self.assert_problem(
            mail + route("domains: [a.test], path: [/a], alpn: [h2]", "priority: 0", "{type: mail}"),
            "routes[0].match.domains: a mail client tells no name before the server speaks: leave it out",
            "routes[0].match.path: a mail client tells nothing before the server speaks: leave it out",
            "routes[0].match.alpn: a mail client tells nothing before the server speaks: leave it out",
        )
        self.config(mail + route("time: {days: mon}, client_ips: [10.0.0.0/8]", "priority: 0", "{type: mail}"))

    def test_a_protocol_that_cannot_be_is_an_error(self) -> None:
        """TCP where a request is asked for something, HTTP where nobody sees one."""
        for match, more, action, problem in (
            ("path: [/a]", "protocol: tcp, " + TERMINATE, FORWARD, "but match.path needs http"),
            ("methods: [GET]", "protocol: tcp, " + TERMINATE, FORWARD, "but match.methods needs http"),
            ("domains: [a.test]", "protocol: tcp", FORWARD, "but match.domains needs http"),
            ("listen: [127.0.0.1]", "protocol: tcp", "{type: respond}", "but action.type respond needs http"),
            ("listen: [127.0.0.1]", "protocol: http, " + PASSTHROUGH, FORWARD, "nobody sees a request inside TLS"),
        ):
            (found,) = self.problems(route(match, more, action))
            self.assertIn("routes[0].protocol: ", found)
            self.assertIn(problem, found)
        self.config(route("domains: [a.test]", "protocol: tcp, " + PASSTHROUGH))
        self.config(route("domains: [a.test]", "protocol: tcp, " + TERMINATE))

    def test_http_routes_speak_no_other_protocol_yet(self) -> None:
        """`h2` is an error there, and passed on by a tcp route."""
        alpn = "tls: {mode: terminate, alpn: [h2, http/1.1]}"
        self.assert_problem(
            route("path: [/a]", alpn),
            "routes[0].tls.alpn[0]: HTTP/2 is not spoken on http routes yet: leave `alpn` out, or say protocol: tcp to "
            "pass it on untouched",
        )
        config = self.config(route("domains: [a.test]", alpn))
        tls = config.routes[0].tls
        assert tls is not None
        self.assertEqual(tls.alpn, ("h2", "http/1.1"))
        (found,) = self.problems(route("domains: [a.test]", "tls: {mode: passthrough, alpn: [h2]}"))
        self.assertIn("tls.alpn: a passthrough route leaves ALPN to the target", found)


class AgreementTests(FileTestCase):
    """What one connection may need must meet it alike."""

    WHO = "route 'a' of the same port and name looks at requests, and leaves others to this one: "

    def two(self, one: str, other: str) -> str:
        return f"routes:\n  - {{name: a, {one}}}\n  - {{name: b, {other}}}\n"

    def assert_disagree(self, one: str, other: str, problem: str) -> None:
        (found,) = self.problems(self.two(one, other))
        self.assertEqual(found.partition(": ")[2], problem)

    A = "match: {ports: 443, domains: [a.test], path: [/x]}, tls: {mode: terminate}, action: {type: respond}"

    def test_tls_that_was_ended_cannot_be_passed_through(self) -> None:
        """By the same name, a wider one, none, an expression."""
        for domains in (", domains: [a.test]", ", domains: ['*.test']", "", ", domains: ['re:a.*']"):
            self.assert_disagree(
                self.A,
                f"match: {{ports: 443{domains}}}, {PASSTHROUGH}, action: {FORWARD}",
                f"routes[1].tls.mode: {self.WHO}TLS that was ended for it cannot be passed through any more",
            )

    def test_requests_cannot_be_left_to_tcp(self) -> None:
        """In TLS or plain."""
        self.assert_disagree(
            self.A,
            f"protocol: tcp, match: {{ports: 443, domains: ['*.test']}}, {TERMINATE}, action: {FORWARD}",
            f"routes[1].protocol: {self.WHO}it cannot be tcp",
        )
        self.assert_disagree(
            f"match: {{ports: 80, domains: [a.test]}}, action: {FORWARD}",
            f"protocol: tcp, match: {{ports: 80}}, action: {FORWARD}",
            f"routes[1].protocol: {self.WHO}it cannot be tcp",
        )

    def test_routes_that_never_share_a_connection_may_differ(self) -> None:
        """Other names, ports, addresses, clients; and what comes before the one that looks at requests."""
        passed = f"{PASSTHROUGH}, action: {FORWARD}"
        for match in (
            "ports: 443, domains: [b.test]",
            "ports: 444, domains: [a.test]",
            "ports: 443, domains: ['*.a.test']",
            "ports: 443, domains: ['re:b.*']",
        ):
            self.config(self.two(self.A, f"match: {{{match}}}, {passed}"))
        inside = self.A.replace("path", "client_ips: [10.0.0.0/8], path")
        self.config(self.two(inside, f"match: {{ports: 443, client_ips: [192.0.2.0/24]}}, {passed}"))
        everything = self.A.replace("domains: [a.test], ", "")
        self.config(self.two(everything, f"match: {{ports: 443, domains: [a.test]}}, {passed}"))
        self.config(
            self.two(self.A, f"priority: 1, match: {{ports: 443, domains: [a.test], client_ips: [10.0.0.1]}}, {passed}")
        )

    def test_a_route_between_them_that_takes_what_comes_settles_it(self) -> None:
        """For the name itself or a wider one, whatever it costs in the file; not where it leaves something over."""
        passed = f"  - {{name: b, match: {{ports: 443, domains: ['**.test']}}, {PASSTHROUGH}, action: {FORWARD}}}\n"
        respond = f"{TERMINATE}, action: {{type: respond}}}}\n"
        asking = f"  - {{name: a, match: {{ports: 443, domains: [a.b.test], path: [/x]}}, {respond}"
        for match, settled in (
            ("domains: [a.b.test]", True),
            ("domains: ['*.b.test']", True),
            ("domains: [a.b.test], path: [/y, /**]", True),
            ("domains: [a.b.test], path: [/y/**]", False),
            ("domains: [a.b.test], client_ips: [10.0.0.0/8]", False),
            ("domains: [a.b.test], alpn: [http/1.1]", False),
            ("domains: [c.b.test]", False),
            ("domains: ['re:.*']", False),
        ):
            text = f"routes:\n{passed}{asking}  - {{name: c, match: {{ports: 443, {match}}}, {respond}"
            if settled:
                self.config(text)
            else:
                self.assertIn("cannot be passed through any more", self.problems(text)[0])

    def test_who_looks_at_no_request_leaves_none(self) -> None:
        """Its connections are told by their hello alone."""
        inside = self.A.replace("path: [/x]", "client_ips: [10.0.0.0/8]")
        self.config(self.two(inside, f"match: {{ports: 443, domains: ['*.test']}}, {PASSTHROUGH}, action: {FORWARD}"))

    def test_certificates_of_our_own_may_differ(self) -> None:
        """The first route of the name shows its own."""
        self.config(
            self.two(
                self.A, "match: {ports: 443}, tls: {mode: terminate, certificate: internal}, action: {type: respond}"
            )
        )

    def test_thousands_of_names_are_compared_by_looking_them_up(self) -> None:
        """Not each with each."""
        lines = ["routes:"]
        for at in range(1500):
            lines.append(
                f"  - {{name: a{at}, match: {{ports: 443, domains: [a{at}.test], path: [/x]}}, {TERMINATE}, "
                "action: {type: respond}}"
            )
            lines.append(
                f"  - {{name: b{at}, match: {{ports: 443, domains: [b{at}.test]}}, {PASSTHROUGH}, action: {FORWARD}}}"
            )
        self.assertEqual(len(self.config("\n".join(lines)).routes), 3000)


class EqualsTests(FileTestCase):
    """Routes that only their place in the file tells apart."""

    def warnings(self, one: str, other: str, more: str = TERMINATE) -> list[str]:
        text = "routes:\n" + "".join(
            f"  - {{name: {name}, match: {{ports: 443, {match}}}, {more}, action: {{type: respond}}}}\n"
            for name, match in (("a", one), ("b", other))
        )
        return [one for one in self.load(text)[1] if "the internal CA cannot certify" not in one]

    def test_equals_are_warned_of(self) -> None:
        """Of whatever kind their conditions are, as long as some request meets both."""
        for one, other in (
            ("path: [/a]", "path: [/a]"),
            ("path: [/a, /b/*]", "path: [/c, /*/b]"),
            ("path: [/a/*/**]", "path: [/*/a/**]"),
            ("methods: [GET, POST]", "methods: [GET, PUT]"),
            ("methods: [GET]", "headers: {a: b}"),
            ("alpn: [h2]", "alpn: [http/1.1]"),
            ("tls_versions: [TLSv1.2, TLSv1.3]", "tls_versions: [TLSv1.3]"),
            ("headers: {a: b}", "headers: {A: 're:.*'}"),
            ("headers: {a: b}", "headers: {c: b}"),
            ("domains: ['re:a.*']", "domains: ['re:.*b']"),
            ("time: {days: mon}", "time: {days: [sun-tue]}"),
            ("time: {from: '22:00', to: '02:00'}", "time: {from: '01:00', to: '03:00'}"),
            ("time: {days: mon, zone: UTC}", "time: {days: wed, zone: Europe/Berlin}"),
        ):
            (warning,) = self.warnings(one, other)
            self.assertIn("routes[1]: is equal to route 'a' in all that decides", warning)

    def test_what_no_request_meets_both_of_is_fine(self) -> None:
        """And what something else decides."""
        for one, other in (
            ("path: [/a/*]", "path: [/b/*]"),
            ("path: [/a/*]", "path: [/a/*/*]"),
            ("path: [/a/**]", "path: [/b/**]"),
            ("methods: [GET]", "methods: [POST]"),
            ("tls_versions: [TLSv1.2]", "tls_versions: [TLSv1.3]"),
            ("headers: {a: b}", "headers: {A: c}"),
            ("headers: {a: b}", "headers: {a: 're:c.*'}"),
            ("domains: ['re:^shop[0-9]+\\.test$']", "domains: ['re:^img[0-9]+\\.test$']"),
            ("domains: ['re:[a-z]+\\.one']", "domains: ['re:[a-z]+\\.two']"),
            ("time: {days: mon-fri}", "time: {days: [sat, sun]}"),
            ("time: {to: '12:00'}", "time: {from: '12:00'}"),
            ("time: {days: sun, from: '22:00', to: '02:00'}", "time: {days: tue-sun, to: '02:00'}"),
            ("client_ips: [10.0.0.0/8]", "client_ips: [11.0.0.0/8]"),
        ):
            self.assertEqual(self.warnings(one, other), [], (one, other))

    def test_a_condition_that_was_written_twice_in_the_hours_of_others(self) -> None:
        """A plain route of the night does not stand in the way of TLS by day."""
        text = (
            f"routes:\n  - {{name: a, match: {{ports: 443, time: {{days: mon}}}}, action: {FORWARD}}}\n"
            f"  - {{name: b, match: {{ports: 443, time: {{days: tue}}}}, {PASSTHROUGH}, action: {FORWARD}}}\n"
        )
        self.config(text)
        (problem,) = self.problems(text.replace("tue", "[sun, mon]"))
        self.assertIn("cannot be told apart from route 'b'", problem)


class ExpressionTests(FileTestCase):
    def test_many_expressions_on_one_port_are_warned_of(self) -> None:
        """A hundred are fine, and so are more on different ports."""

        def some(*ports: str) -> str:
            names = ", ".join(f"'re:n{at}-[0-9]+[.]test'" for at in range(51))
            return "routes:\n" + "".join(
                f"  - {{name: r{at}, match: {{ports: {port}, domains: [{names.replace('n', f'n{at}-')}]}}, "
                f"{PASSTHROUGH}, action: {FORWARD}}}\n"
                for at, port in enumerate(ports)
            )

        self.config(some("443", "444"))
        _, warnings = self.load(some("443", "[{from: 400, to: 500}]"))
        (warning,) = warnings
        self.assertIn("routes[0].match.domains: there are more than 100 regular expressions on port 443", warning)

    def test_nobody_certifies_an_expression(self) -> None:
        """Where another name stands beside it, that one is certified."""
        internal = "tls: {mode: terminate, certificate: internal}"
        _, (warning,) = self.load(route("domains: ['re:a[0-9]']", internal))
        self.assertIn("routes[0].tls.certificate: the internal CA cannot certify what a regular expression", warning)
        self.config(route("domains: ['re:a[0-9]', a.test]", internal))
        terminate = "tls: {mode: terminate}"
        _, (warning,) = self.load(route("domains: ['re:a[0-9]']", terminate))
        self.assertIn("routes[0].tls: the internal CA cannot certify what a regular expression", warning)
        asked = "certificates: {acme: {email: a@b.test}, on_demand: {ask: 'http://127.0.0.1:9/'}}\n"
        self.config(asked + route("domains: ['re:a[0-9]']", terminate))
