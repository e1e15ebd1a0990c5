"""The table and `explain`, held against a model of the order over random tables in random orders of the file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.admin import Config
from dcrouter.config.load import load_with_warnings
from dcrouter.errors import Misdirected, WireError
from dcrouter.facts import ConnectionFacts
from dcrouter.net.slices import finished
from dcrouter.proxy.explain import explain
from dcrouter.proxy.plan import made
from dcrouter.proxy.question import Question
from dcrouter.proxy.state import State
from dcrouter.proxy.table import MORE, PortTable
from dcrouter.targets.addresses import Addresses
from dcrouter.wire.clienthello import ClientHello
from dcrouter.wire.http1.head import RequestHead, parse_head
from tests.proxy import routing
from tests.proxy.routing import PORT, REQUESTS, TABLES, WEDNESDAY_NOON, Request, first_for_tls, winners, written

VERSIONS = {"TLSv1.2": b"\x03\x03", "TLSv1.3": b"\x7f\x1c\x03\x04\x03\x03"}
"""As clients offer them; a draft of TLS 1.3 is none of them."""

Routes = Sequence[Mapping[str, Any]]


def loaded(text: str) -> tuple[Config, list[str]]:
    """The configuration and its warnings."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "routes.yaml")
        path.write_text(text)
        config, warnings = load_with_warnings(path, {})
    return config, list(warnings)


def table_of(config: Config, now: float = WEDNESDAY_NOON, port: int = PORT) -> PortTable:
    """The table of a port, at that time."""
    plan = finished(made(config, State(), Addresses(), {}))
    routes = [(at, bound) for at, bound in enumerate(plan.routes) if bound in plan.table(port).routes]
    return PortTable(routes, lambda: now)


def facts_of(request: Request) -> ConnectionFacts:
    facts = ConnectionFacts("s", (request.client, 1), (request.local, PORT), 0.0)
    facts.sni = request.host
    facts.hello = hello(request.host, request.alpn, VERSIONS[request.newest])
    return facts


def hello(sni: str | None, alpn: Sequence[str] = (), versions: bytes = b"\x03\x04") -> ClientHello:
    return ClientHello(sni=sni, alpn=tuple(alpn), length=1, versions=versions)


def head_of(octets: bytes) -> RequestHead:
    head = parse_head(octets)
    assert head is not None
    return head


def question_of(request: Request) -> Question:
    return Question(
        port=PORT,
        now=WEDNESDAY_NOON,
        local=ip_address(request.local),
        client=request.client,
        tls=True,
        sni=request.host,
        alpn=request.alpn,
        tls_version=request.newest,
        path=request.path,
        method=request.method,
        headers=request.headers,
    )


class OrderTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(TABLES, st.lists(REQUESTS, min_size=1, max_size=8))
    def test_each_request_gets_the_route_of_the_model(self, routes: Routes, requests: list[Request]) -> None:
        """From the table, in both of its steps, and from `explain`."""
        config, _ = loaded(written(routes))
        table = table_of(config)
        for request in requests:
            expected = next(iter(winners(routes, request)), None)
            facts = facts_of(request)
            met = table.find_tls(facts)
            self.assertEqual(met.route.name if met is not None else None, first_for_tls(routes, request))
            if met is not None:
                found = table.find_request(facts, head_of(request.octets), met)
                self.assertEqual(found.route.name if found is not None else None, expected)
            else:
                self.assertIsNone(expected)
            told = explain(config, question_of(request))
            self.assertEqual(told.winner, expected)
            self.assertEqual([one.verdict for one in told.considered].count("wins"), int(expected is not None))
            self.assertNotIn("open", [one.verdict for one in told.considered])

    @settings(max_examples=300)
    @given(TABLES, st.lists(REQUESTS, min_size=1, max_size=8))
    def test_the_order_of_the_file_never_decides_without_a_warning(
        self, routes: Routes, requests: list[Request]
    ) -> None:
        """Wherever two routes that fit are equal in all else, `check` has warned of the later one."""
        _, warnings = loaded(written(routes))
        names = [route["name"] for route in routes]
        for request in requests:
            for later in winners(routes, request)[1:]:
                place = f"routes[{names.index(later)}]: is "
                self.assertTrue(any(place in warning for warning in warnings), (later, request, warnings))

    def test_the_model_knows_the_contract(self) -> None:
        """A few tables that anybody can follow."""

        def of(**match: Any) -> dict[str, Any]:
            return {"name": next(names), "match": {"ports": PORT, **match}}

        names = iter("abcdefgh")
        routes = [
            of(),
            of(domains=["**.x"]),
            of(domains=["*.x"]),
            of(domains=["re:a.*"], path=["/a/b/c/d"]),
            of(domains=["a.x"], methods=["GET"]),
            of(domains=["a.x"], path=["/a/**"]),
            of(domains=["a.x"], path=["/a/*"]),
            of(domains=["b.x"]),
        ]

        def asked(host: str, path: str = "/", method: str = "GET") -> str:
            request = Request(host, path, method, (), "10.0.0.1", "127.0.0.1", (), "TLSv1.3")
            return winners(routes, request)[0]

        self.assertEqual(asked("a.x"), "e")
        self.assertEqual(asked("a.x", "/a/b"), "g")
        self.assertEqual(asked("a.x", "/a/b/c"), "f")
        self.assertEqual(asked("a.x", "/a"), "f")
        self.assertEqual(asked("a.x", "/", "POST"), "c")
        self.assertEqual(asked("z.x"), "c")
        self.assertEqual(asked("a.z.x", "/a/b/c/d"), "b")
        self.assertEqual(asked("a", "/a/b/c/d"), "d")
        self.assertEqual(asked("z"), "a")
        self.assertFalse(routing.name_matches("*.x", "x"))


class RequestTests(SynchronousTestCase):
    """What a request may not do."""

    TLS = "tls: {mode: terminate}, action: {type: respond}"

    def table(self, *matches: str, tls: str = TLS) -> PortTable:
        lines = [f"  - {{name: r{at}, match: {{ports: 443{more}}}, {tls}}}\n" for at, more in enumerate(matches)]
        return table_of(loaded("routes:\n" + "".join(lines))[0])

    def ask(self, table: PortTable, path: str, sni: str | None = "a.x", host: str = "a.x") -> str | None:
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        facts.sni, facts.hello = sni, hello(sni)
        met = table.find_tls(facts)
        assert met is not None
        found = table.find_request(
            facts, head_of(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")), met
        )
        return found.route.name if found is not None else None

    def test_a_path_means_the_same_however_it_is_spelled(self) -> None:
        """Encoded letters, doubled slashes, single dots."""
        table = self.table(", path: [/admin/**]", "")
        for path in (
            "/admin/x",
            "/%61dmin/x",
            "//admin//x",
            "/./admin/x",
            "/admin/./x",
            "/%2e/admin/",
            "/admin",
            "/admin/",
        ):
            self.assertEqual(self.ask(table, path), "r0", path)
        for path in ("/", "/x", "/administrator", "/Admin/x", "/%2561dmin", "/x/admin"):
            self.assertEqual(self.ask(table, path), "r1", path)

    def test_a_path_that_servers_read_in_two_ways_is_refused_where_that_matters(self) -> None:
        """Where both ways lead to the same route, the request is none of our business."""
        table = self.table(", path: [/admin/**]", ", path: [/public/**]", "")
        for path in (
            "/public/../admin/x",
            "/public/%2e%2e/admin/x",
            "/public/..%2fadmin/x",
            "/public%2f..%2fadmin",
            "/public/..\\admin/x",
            "/public/..;/admin/x",
            "/admin;a=b/x",
            "/admin%2Fx",
            "/x/%2e%2E/admin",
            "/admin/..",
            "/admin\\x",
            "/..%5cadmin/x",
        ):
            error = self.assertRaises(WireError, self.ask, table, path)
            self.assertTrue((error.reply or b"").startswith(b"HTTP/1.1 400 "), path)
        for path, expected in (
            ("/public/a%2Fb", "r1"),
            ("/public/x/../y", "r1"),
            ("/public/page;jsessionid=1", "r1"),
            ("/x;y/z", "r2"),
            ("/admin/x%2f%2e%2e", "r0"),
        ):
            self.assertEqual(self.ask(table, path), expected, path)

    def test_without_paths_in_the_table_nobody_looks_at_them(self) -> None:
        """Whatever they look like."""
        self.assertEqual(self.ask(self.table(""), "/a/..;/%2fb"), "r0")

    def test_a_host_of_another_session_is_misdirected(self) -> None:
        """Other bytes inside, a certificate of its own, TLS that is not ended here; the SNI's own name never is."""
        table = table_of(
            loaded(
                """\
routes:
  - name: a
    match: {ports: 443, domains: [a.x]}
    tls: {mode: terminate}
    action: &respond {type: respond}
  - {name: b, match: {ports: 443, domains: [b.x]}, tls: {mode: terminate}, action: {type: respond}}
  - name: own
    match: {ports: 443, domains: [own.x]}
    tls: &own {mode: terminate, certificate: internal}
    action: *respond
  - {name: pass, match: {ports: 443, domains: [pass.x]}, tls: {mode: passthrough}, action: {type: block}}
  - {name: tcp, match: {ports: 443, domains: [tcp.x]}, tls: {mode: terminate}, action: {type: block}}
  - {name: rest, match: {ports: 443, domains: ['*.y']}, tls: *own, action: *respond}
  - {name: path, match: {ports: 443, domains: [a.y], path: [/a]}, tls: {mode: terminate}, action: {type: respond}}
"""
            )[0]
        )
        self.assertEqual(self.ask(table, "/", host="a.x"), "a")
        self.assertEqual(self.ask(table, "/", host="b.x"), "b")
        self.assertIsNone(self.ask(table, "/", host="nobody.x"))
        for host in ("own.x", "pass.x", "tcp.x"):
            error = self.assertRaises(Misdirected, self.ask, table, "/", "a.x", host)
            self.assertTrue((error.reply or b"").startswith(b"HTTP/1.1 421 "), host)
        self.assertEqual(self.ask(table, "/", "a.y", "a.y"), "rest")
        self.assertEqual(self.ask(table, "/a", "a.y", "a.y"), "path")

    def test_no_path_is_of_no_path(self) -> None:
        """`OPTIONS *` gets a route that asks for none."""
        table = self.table(", path: [/**]", "")
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        facts.sni, facts.hello = "a.x", hello("a.x")
        found = table.find_request(facts, head_of(b"OPTIONS * HTTP/1.1\r\nHost: a.x\r\n\r\n"), table.find_tls(facts))
        assert found is not None
        self.assertEqual(found.route.name, "r1")

    def test_a_request_without_host_is_for_the_name_of_its_tls(self) -> None:
        """HTTP/1.0 knows no Host; on a plain port such a request is for nobody's name."""
        table = self.table(", domains: [a.x], path: [/a]", ", domains: ['re:b.*']", "")
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        for sni, path, expected in (("a.x", "/a", "r0"), ("a.x", "/b", "r2"), ("b.x", "/a", "r1"), (None, "/a", "r2")):
            facts.sni, facts.hello = sni, hello(sni)
            found = table.find_request(facts, head_of(f"GET {path} HTTP/1.0\r\n\r\n".encode()), table.find_tls(facts))
            assert found is not None
            self.assertEqual(found.route.name, expected)

    def test_a_client_without_sni_is_told_by_its_host(self) -> None:
        """Its TLS is that of the first route that ends some."""
        table = self.table(", domains: [a.x]", ", domains: [b.x]")
        self.assertEqual(self.ask(table, "/", None, "b.x"), "r1")

    def test_expressions_are_asked_about_whole_names(self) -> None:
        """Whatever the case of what is written, and never about no name."""
        table = self.table(", domains: ['re:Shop[0-9]+\\.x']", ", domains: ['re:a']")
        self.assertEqual(self.ask(table, "/", "shop1.x", "shop1.x"), "r0")
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        for name in ("myshop1.x", "shop1.x.y", "shop.x", "aa"):
            facts.sni = name
            self.assertIsNone(table.find_tls(facts))

    def test_plain_requests_are_told_apart_alike(self) -> None:
        """Host, path, and expressions on a plain port, before which nobody is chosen."""
        action = "action: {type: respond}"
        table = self.table(", domains: [a.x], path: [/v1/**]", ", domains: ['re:.*']", "", tls=action)
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        self.assertIs(table.find(facts), MORE)
        for line, host, expected in (
            ("GET /v1/a HTTP/1.1", "a.x", "r0"),
            ("GET /v2 HTTP/1.1", "a.x", "r1"),
            ("GET http://b.x/v1/ HTTP/1.1", "a.x", "r1"),
            ("GET http://a.x HTTP/1.1", "b.x", "r1"),
        ):
            found = table.find_request(facts, head_of(f"{line}\r\nHost: {host}\r\n\r\n".encode()))
            assert found is not None
            self.assertEqual(found.route.name, expected)
        found = table.find_request(facts, head_of(b"GET / HTTP/1.0\r\n\r\n"))
        assert found is not None
        self.assertEqual(found.route.name, "r2")


class TimeTests(SynchronousTestCase):
    def test_a_route_holds_in_its_hours(self) -> None:
        """On a port without bytes too, where it decides at once."""
        text = """\
routes:
  - {name: day, match: {ports: 443, time: {from: "08:00", to: "18:00", zone: UTC}}, action: {type: block}}
  - {name: night, match: {ports: 443}, action: {type: block}}
"""
        config, warnings = loaded(text)
        self.assertEqual(warnings, [])
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        midnight = WEDNESDAY_NOON - 12 * 3600
        for hours, expected in ((0, "night"), (7.999, "night"), (8, "day"), (17.999, "day"), (18, "night")):
            found = table_of(config, midnight + hours * 3600).find(facts)
            assert found is not None and found is not MORE
            self.assertEqual(found.route.name, expected, hours)

    def test_hours_are_asked_anew_for_each_request(self) -> None:
        """A kept-alive connection that outlives them gets the next route."""
        text = """\
routes:
  - {name: day, match: {ports: 443, time: {from: "08:00", to: "18:00", zone: UTC}}, action: {type: respond}}
  - {name: night, match: {ports: 443}, action: {type: respond}}
"""
        config, _ = loaded(text)
        now = [WEDNESDAY_NOON]
        plan = finished(made(config, State(), Addresses(), {}))
        table = PortTable(list(enumerate(plan.routes)), lambda: now[0])
        facts = ConnectionFacts("s", ("10.0.0.1", 1), ("127.0.0.1", 443), 0.0)
        head = head_of(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        found = table.find_request(facts, head)
        now[0] += 6 * 3600
        after = table.find_request(facts, head)
        assert found is not None and after is not None
        self.assertEqual((found.route.name, after.route.name), ("day", "night"))
