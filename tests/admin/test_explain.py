"""`dcrouter explain`, offline and over the admin socket."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from ipaddress import ip_address
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.cli import main
from dcrouter.admin.explain import Mistaken, explained_live
from dcrouter.config.load import load
from dcrouter.net.slices import finished
from dcrouter.proxy.decide import decide
from dcrouter.proxy.plan import made
from dcrouter.proxy.question import asked
from dcrouter.proxy.state import State
from dcrouter.targets.addresses import Addresses
from tests.config.written import FORWARD

TLS = "tls: {mode: terminate}, action: {type: respond}"
PASSED = "tls: {mode: passthrough}, action: {type: block}"
FILE = f"""\
listen: [127.0.0.1]
routes:
  - {{name: office, priority: 1, match: {{ports: 443, domains: [a.test], client_ips: [10.0.0.0/8]}}, {TLS}}}
  - {{name: write, match: {{ports: 443, domains: [a.test], path: [/v1/**], methods: [POST, PUT]}}, {TLS}}}
  - {{name: v1, match: {{ports: 443, domains: [a.test], path: [/v1/**]}}, {TLS}}}
  - {{name: a, match: {{ports: 443, domains: [a.test]}}, {TLS}}}
  - {{name: shop, match: {{ports: 443, domains: ['re:shop[0-9]+']}}, {PASSED}}}
  - {{name: rest, match: {{ports: 443, domains: ['**.test']}}, {TLS}}}
  - {{name: redirect, match: {{ports: 80}}, action: {{type: redirect, to: 'https://{{host}}{{uri}}'}}}}
  - {{name: ssh, match: {{ports: 22, listen: [127.0.0.1]}}, action: {FORWARD}}}
"""


class ExplainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.base)
        Path("routes.yaml").write_text(FILE)

    def explain(self, *arguments: str) -> tuple[int, str, str]:
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            try:
                status = main(["explain", *arguments])
            except SystemExit as exit:
                status = int(exit.code or 0)
        return status, output.getvalue(), errors.getvalue()

    def answer(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.explain("--json", *arguments)[1])
        return found

    def test_it_says_who_wins_and_why_the_others_lose(self) -> None:
        """In the order in which they are met; what has another name is counted."""
        status, output, errors = self.explain(
            "--port", "443", "--sni", "A.test", "--path", "/v1/x?y", "--client-ip", "192.0.2.7", "--method", "GET"
        )
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(
            output.splitlines(),
            [
                "port 443 from 192.0.2.7: TLS for a.test, GET /v1/x",
                "v1 wins (http, respond 200)",
                "order  route   for                  why",
                "1      office  a.test         lost  it is for clients from 10.0.0.0/8, not for 192.0.2.7",
                "2      write   a.test /v1/**  lost  it is for POST or PUT, not for GET",
                "3      v1      a.test /v1/**  wins  a.test, /v1/**",
                "4      a       a.test         lost  it fits, but 'v1' has the longer path",
                "5      rest    **.test        lost  it fits, but 'v1' has the more specific name",
                "1 more for other names (--all)",
            ],
        )

    def test_what_is_not_told_is_open(self) -> None:
        """And whoever asks for it may come first."""
        status, output, _ = self.explain("--port", "443", "--sni", "a.test", "--path", "/v1/x")
        self.assertEqual(status, 0)
        self.assertIn("v1 wins (http, respond 200), unless one above it does that is open\n", output)
        verdicts = {place["route"]: place for place in self.answer("--port", "443", "--sni", "a.test")["considered"]}
        self.assertEqual(verdicts["office"]["verdict"], "open")
        self.assertIn("no address is told (--client-ip)", verdicts["office"]["why"])
        self.assertIn("none is told (--path)", verdicts["v1"]["why"])
        self.assertEqual(verdicts["a"]["verdict"], "wins")

    def test_each_port_is_explained_by_what_its_clients_say(self) -> None:
        """Nothing, a request, a hello without a name."""
        for arguments, route, status in (
            (["--port", "22"], None, None),
            (["--port", "22", "--listen", "127.0.0.1"], "ssh", None),
            (["--port", "80"], "redirect", None),
            (["--port", "80", "--host", "x.test:8080", "--path", "/"], "redirect", None),
            (["--port", "443", "--tls"], None, 404),
            (["--port", "443", "--sni", "shop7"], "shop", None),
            (["--port", "443", "--sni", "a.test", "--host", "shop7", "--path", "/"], None, 421),
            (["--port", "443", "--sni", "a.test", "--path", "/v1/../x", "--client-ip", "192.0.2.1"], None, 400),
            (["--port", "443", "--sni", "nobody"], None, None),
            (["--port", "8", "--sni", "nobody"], None, None),
        ):
            answer = self.answer(*arguments)
            self.assertEqual((answer["route"], answer["status"]), (route, status), arguments)
            self.assertEqual(self.explain(*arguments)[0], 0 if route else 1)

    def test_a_question_that_cannot_be_understood_is_one_line(self) -> None:
        """With what is wrong."""
        for arguments, problem in (
            (["--port", "0"], "'0' is not a port"),
            (["--port", "443", "--sni", "a b"], "'a b' is not a host name"),
            (["--port", "443", "--client-ip", "x"], "'x' is not an IP address"),
            (["--port", "443", "--sni", "a", "--path", "x"], "no route would get such a request: HTTP request: "),
            (["--port", "443", "--sni", "a", "--header", "x"], "--header is written as NAME:VALUE"),
            (["--port", "443", "--time", "noon"], "'noon' is not a time"),
        ):
            status, output, errors = self.explain(*arguments)
            self.assertEqual((status, output, errors.count("\n")), (1, "", 1), errors)
            self.assertIn(problem, errors)

    def test_times_and_hellos_count(self) -> None:
        """As they are told."""
        Path("routes.yaml").write_text(
            "routes:\n"
            f"  - {{name: day, match: {{ports: 443, time: {{from: '08:00', to: '18:00', zone: UTC}}}}, {TLS}}}\n"
            f"  - {{name: new, match: {{ports: 443, alpn: [h2], tls_versions: [TLSv1.3]}}, {TLS}}}\n"
            f"  - {{name: rest, match: {{ports: 443, headers: {{x: y}}}}, {TLS}}}\n"
        )
        for arguments, route in (
            (["--time", "2026-11-21T12:00+00:00"], "day"),
            (["--time", "2026-11-21T19:00+00:00", "--alpn", "h2,http/1.1", "--tls-version", "TLSv1.3"], "new"),
            (["--time", "2026-11-21T07:59+00:00", "--alpn", "x", "--header", "X: y"], "rest"),
            (["--time", "2026-11-21T07:59+00:00", "--alpn", "x", "--header", "X: z"], None),
        ):
            answer = self.answer("--port", "443", "--tls", *arguments)
            self.assertEqual(answer["route"], route, answer)

    def live(self, fields: dict[str, Any], edge: dict[str, Any] | None = None) -> dict[str, Any]:
        """As the API answers, with an edge of the same configuration, or with one that says `edge`."""
        config = load(Path("routes.yaml"))
        plan = finished(made(config, State(), Addresses(), {}))

        def ask_edge(told: dict[str, Any]) -> Deferred[dict[str, Any]]:
            question = asked(told)
            return succeed(edge or decide(plan.table(question.port), plan.fallback, question))

        return self.successResultOf(explained_live(config, fields, ask_edge))

    def test_the_running_service_answers_the_same(self) -> None:
        """Its edge decides as the explanation says, for each kind of question."""
        for fields in (
            {"port": 22, "listen": "127.0.0.1"},
            {"port": 80, "host": "x.test", "path": "/"},
            {"port": 443, "tls": True, "path": "/"},
            {"port": 443, "sni": "shop7"},
            {"port": 443, "sni": "nobody"},
            {"port": 443, "sni": "a.test", "client_ip": "10.0.0.1", "path": "/", "method": "GET"},
            {"port": 443, "sni": "a.test", "client_ip": "192.0.2.1", "path": "/v1/", "method": "PUT"},
            {"port": 443, "sni": "a.test", "client_ip": "192.0.2.1", "path": "/v1/%2e%2e/", "method": "GET"},
            {"port": 443, "sni": "a.test", "host": "shop7", "path": "/", "client_ip": "192.0.2.1", "method": "GET"},
        ):
            answer = self.live(fields)
            self.assertEqual(answer["edge"], {"route": answer["route"], "status": answer["status"]}, fields)
            self.assertFalse([note for note in answer["notes"] if "decides otherwise" in note], fields)

    def test_an_edge_that_decides_otherwise_is_told(self) -> None:
        """Nobody should believe an explanation then."""
        answer = self.live({"port": 80, "host": "x.test"}, {"route": "other", "status": None})
        self.assertIn("the edge decides otherwise, as it has another configuration: other", answer["notes"])

    def test_a_wrong_question_is_refused(self) -> None:
        """The API says 400."""
        self.assertRaises(Mistaken, self.live, {"port": 80, "colour": "red"})
        for wrong in (
            {},
            {"port": "80"},
            {"port": 80, "alpn": 5},
            {"port": 80, "headers": 5},
            {"port": 80, "headers": [["a"]]},
            {"port": 80, "path": 5},
            {"port": 80, "host": ["a"]},
            {"port": 80, "method": "GET /x"},
            {"port": 80, "path": "/ HTTP/1.1\r\nx: y"},
            {"port": 80, "tls_version": []},
            {"port": 80, "time": {}},
            {"port": 80, "time": 1e300},
        ):
            self.assertRaises(Mistaken, self.live, wrong)
        self.assertEqual(str(asked({"port": 1, "listen": "::1"}).local), str(ip_address("::1")))
