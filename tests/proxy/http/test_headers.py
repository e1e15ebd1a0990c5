"""action.headers, path_rewrite and tls.hsts, seen from the target and from curl."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.http import HEADER_PLACEHOLDERS
from dcrouter.proxy.http import headers
from dcrouter.proxy.http.features import NO_FEATURES
from dcrouter.proxy.http.rewrite import _segments, _without
from tests.support.features import FeatureTest, resolved
from tests.support.ports import reserved


class HeaderTests(FeatureTest):
    def route(self, changes: str, **more: str) -> int:
        target = self.echo(*(line.encode() for line in more.values())).port
        return self.serve(f"""
            - name: web
              match: {{ports: PORT, domains: [a.example]}}
              action:
                type: forward
                target: {{host: 127.0.0.1, port: {target}}}
                headers: {changes}
        """)

    def test_the_target_sees_a_changed_request(self) -> None:
        """Set replaces, also what differs in an underscore; add adds; remove takes away; Host can be another."""
        port = self.route(
            '{request: {set: {X-Real-IP: "{client_ip}", host: app.internal}, add: {x-tag: b}, remove: [X-Debug]}}'
        )
        given = ("X-Real-IP: 9.9.9.9", "X_Real_IP: 9.9.9.8", "x-debug: 1", "X_DEBUG: 1", "X-Tag: a")
        seen = self.at_target(port, *(part for line in given for part in ("-H", line)))
        self.assertEqual((seen.get(b"x-real-ip"), seen.get(b"host")), (b"127.0.0.1", b"app.internal"))
        lower = seen.head.lower()
        for gone in (b"9.9.9", b"x-debug", b"x_debug"):
            self.assertNotIn(gone, lower, gone)
        self.assertEqual(lower.count(b"\r\nhost:"), 1)
        self.assertIn(b"\r\nx-tag: a\r\n", lower)
        self.assertIn(b"\r\nx-tag: b\r\n", lower)

    def test_placeholders_are_filled_in(self) -> None:
        """All of them, of the request as the client made it; braces stay where they are doubled."""
        every = " ".join(f"{one}={{{one}}}" for one in HEADER_PLACEHOLDERS)
        port = self.route(f'{{request: {{set: {{x-all: "{every} {{{{x}}}}"}}}}}}')
        seen = self.at_target(port, "-A", "x", path="/a/b?c=%20").get(b"x-all")
        assert seen is not None
        said = dict(part.split("=", 1) for part in seen.decode().replace(" {x}", "").split(" "))
        self.assertTrue(seen.endswith(b" {x}"))
        self.assertTrue(said.pop("client_port").isdigit())
        self.assertTrue(said.pop("session"))
        self.assertEqual(
            said,
            {
                "client_ip": "127.0.0.1",
                "host": "a.example",
                "port": str(port),
                "path": "/a/b",
                "query": "c=%20",
                "uri": "/a/b?c=%20",
                "method": "GET",
                "scheme": "http",
                "route": "web",
                "user": "",
            },
        )

    def test_the_client_sees_a_changed_response(self) -> None:
        """Also where we answer ourselves, because the target is gone."""
        port = self.route(
            "{response: {set: {Server: us, x-at: '{path}'}, add: {set-cookie: b=2}, remove: [X-Powered-By]}}",
            server="Server: them",
            powered="X-Powered-By: magic",
            cookie="Set-Cookie: a=1",
        )
        answer = self.curl(f"http://a.example:{port}/p", *resolved(port))
        self.assertEqual((answer.get("server"), answer.get("x-at"), answer.get("x-powered-by")), ("us", "/p", None))
        self.assertEqual(answer.headers["set-cookie"], ["a=1", "b=2"])
        self.assertEqual(answer.body, b"GET /p HTTP/1.1")

    def test_a_page_of_ours_is_changed_too(self) -> None:
        """A response edit holds for whoever answers."""
        gone = reserved(self)
        port = self.serve(f"""
            - name: web
              match: {{ports: PORT}}
              protocol: http
              action:
                {{type: forward, target: {{host: 127.0.0.1, port: {gone}}}, headers: {{response: {{set: {{x-a: b}}}}}}}}
        """)
        answer = self.curl(f"http://127.0.0.1:{port}/")
        self.assertEqual((answer.status, answer.get("x-a")), (502, "b"))

    def test_a_route_without_them_has_none(self) -> None:
        """What is not asked for is not there."""
        self.serve("- {name: web, match: {ports: PORT}, protocol: http, action: {type: respond}}")
        self.assertIs(self.edge.plan.routes[0].features, NO_FEATURES)

    def test_every_placeholder_has_a_value(self) -> None:
        """What the configuration lets through can be filled in."""
        self.assertEqual(set(headers.values()), set(HEADER_PLACEHOLDERS))


class HstsTests(FeatureTest):
    def test_it_is_said_in_tls_only(self) -> None:
        """The target's own word is replaced; pages of ours say it too."""
        target = self.echo(b"Strict-Transport-Security: max-age=1").port
        port = self.serve(f"""
            - name: web
              match: {{ports: PORT, domains: [a.example]}}
              tls: {{mode: terminate, hsts: {{max_age: 365d, include_subdomains: true, preload: true}}}}
              action: {{type: forward, target: {{host: 127.0.0.1, port: {target}}}}}
        """)
        self.assertTrue(self.edge.plan.routes[0].is_http)
        answer = self.curl(f"https://a.example:{port}/", *resolved(port), tls=True)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.get("strict-transport-security"), "max-age=31536000; includeSubDomains; preload")


class RewriteTests(FeatureTest):
    def test_the_target_is_asked_for_another_path(self) -> None:
        """In whole segments, with the query as it was; the target learns what was taken away."""
        target = self.echo().port
        port = self.serve(f"""
            - name: web
              match: {{ports: PORT, domains: [a.example]}}
              action:
                type: forward
                target: {{host: 127.0.0.1, port: {target}}}
                path_rewrite: {{strip_prefix: /v1, add_prefix: /app}}
                headers: {{request: {{set: {{x-was: "{{uri}}"}}}}}}
        """)
        for asked, wanted, told in (
            ("/v1/x?q=/v1", b"/app/x?q=/v1", b"/v1"),
            ("/v1", b"/app/", b"/v1"),
            ("/%761//x/", b"/app/x/", b"/v1"),
            ("/v1x", b"/app/v1x", None),
            ("/", b"/app/", None),
        ):
            seen = self.at_target(port, "--path-as-is", path=asked)
            self.assertEqual((seen.first.split()[1], seen.get(b"x-forwarded-prefix")), (wanted, told), asked)
            self.assertEqual(seen.get(b"x-was"), asked.encode())
        seen = self.at_target(port, "-X", "OPTIONS", "--request-target", "*")
        self.assertEqual(seen.first, b"OPTIONS * HTTP/1.1")


class PrefixTests(SynchronousTestCase):
    @given(st.text("/.%2Fv1a", max_size=12), st.sampled_from(["/v1", "/v1/a", "/a"]))
    def test_the_rest_is_a_path_of_this_host(self, path: str, prefix: str) -> None:
        """Whatever is asked: one slash at its beginning, and nothing but an end of what was asked."""
        rest = _without("/" + path, _segments(prefix))
        if rest is not None:
            self.assertTrue(rest.startswith("/") and not rest.startswith("//"), rest)
            self.assertTrue(("/" + path).endswith(rest[1:]))
