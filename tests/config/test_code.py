"""`handler` and `select` in the file: what may stand there, and what follows from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.table import rows
from dcrouter.config.code import code_of, needs_handlers
from dcrouter.config.load import from_plain, load, to_plain
from dcrouter.config.schema import json_schema
from dcrouter.errors import ConfigError

BEGIN = "version: 1\nroutes:\n"
HANDLER = "action: {type: handler, factory: 'hooks:Echo'}"


class CodeTests(SynchronousTestCase):
    def written(self, *routes: str) -> Path:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, folder)
        path = folder / "routes.yaml"
        path.write_text(BEGIN + "".join(f"  - {{name: r{at}, {text}}}\n" for at, text in enumerate(routes)))
        return path

    def problems(self, *routes: str) -> list[str]:
        path = self.written(*routes)
        found = self.assertRaises(ConfigError, load, path).problems
        return [problem.removeprefix(f"{path}:").partition(": ")[2] for problem in found]

    def test_what_is_good(self) -> None:
        """Handlers with and without TLS, a select with targets and without."""
        config = load(
            self.written(
                f"match: {{ports: [1000]}}, {HANDLER}",
                f"match: {{ports: [2000], domains: [a.example.com]}}, tls: {{mode: terminate, alpn: [x]}}, {HANDLER}",
                f"match: {{ports: [2000], domains: [b.example.com]}}, tls: {{mode: passthrough}}, {HANDLER}",
                "match: {ports: [3000]}, action: {type: forward, select: 'a.b:c.d', target: {unix: /run/a}}",
                "match: {ports: [4000]}, action: {type: forward, select: 'a.b:c.d'}",
                "enabled: false, match: {ports: [5000]}, action: {type: handler, factory: 'x:y'}",
            )
        )
        self.assertEqual(from_plain(to_plain(config)), config)
        self.assertEqual(
            [(code.kind, code.name, code.module, code.attribute) for code in code_of(config.routes, None)],
            [("factory", "hooks:Echo", "hooks", "Echo")] * 3 + [("select", "a.b:c.d", "a.b", "c.d")] * 2,
        )
        self.assertFalse(needs_handlers(config.routes[5:], None))
        shown = {row["name"]: (row["protocol"], row["action"]) for row in rows(config)}
        self.assertEqual(shown["r1"], ("tcp", "handler hooks:Echo"))
        self.assertEqual(shown["r3"], ("tcp", "forward as a.b:c.d says, else to unix:/run/a"))
        self.assertEqual(shown["r4"], ("tcp", "forward as a.b:c.d says"))

    def test_names_have_a_form(self) -> None:
        for text in ("hooks", "hooks:", ":x", "a b:c", "hooks:Echo()", "a..b:c", "../hooks:x"):
            route = f"match: {{ports: [1000]}}, action: {{type: handler, factory: '{text}'}}"
            self.assertIn("is not package.module:name", self.problems(route)[0])

    def test_a_handler_takes_connections_not_requests(self) -> None:
        """What only a request tells, or answers, is told where it stands."""
        reason = "a handler takes the connection"
        for more, key in (
            ("match: {ports: [1000], domains: [a.example.com]}", "match.domains"),
            ("match: {ports: [1000], path: [/a]}", "match.path"),
            ("match: {ports: [1000]}, protocol: http", "protocol"),
            ("match: {ports: [1000]}, security: {request_rate: 1/s}", "security.request_rate"),
        ):
            self.assertEqual(self.problems(f"{more}, {HANDLER}")[0].partition(reason)[0], f"routes[0].{key}: ")
        self.assertIn(
            "handler has no target to re-encrypt for",
            self.problems(f"match: {{ports: [1000]}}, tls: {{mode: terminate-and-reencrypt}}, {HANDLER}")[0],
        )

    def test_a_plain_handler_may_speak_first(self) -> None:
        """So it is no neighbour for routes that wait for the client."""
        web = "match: {ports: [1000], domains: [a.example.com]}, action: {type: respond}"
        self.assertIn(
            "cannot be told apart from route 'r1'", self.problems(f"match: {{ports: [1000]}}, {HANDLER}", web)[0]
        )

    def test_requests_are_not_left_to_a_handler(self) -> None:
        """A connection on which requests are looked at cannot be handed over any more."""
        name = "match: {ports: [1000], domains: [a.example.com]"
        found = self.problems(
            f"{name}, path: [/a]}}, tls: {{mode: terminate}}, action: {{type: respond}}",
            f"{name}}}, tls: {{mode: terminate}}, {HANDLER}",
        )
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0].startswith("routes[1].action.type: "), found)
        self.assertTrue(found[0].endswith("a handler takes whole connections"), found)

    def test_targets_are_wanted_unless_somebody_chooses(self) -> None:
        """An empty list stays wrong, and health has something to look at."""
        forward = "match: {ports: [1000]}, action: {type: forward"
        self.assertEqual(self.problems(f"{forward}}}"), ["routes[0].action: 'targets' is missing"])
        self.assertIn("the list is empty", self.problems(f"{forward}, select: 'a:b', targets: []}}")[0])
        self.assertEqual(
            self.problems(f"{forward}, select: 'a:b', health: {{type: tcp}}}}"),
            ["routes[0].action.health: there are no `targets` that it could look at"],
        )

    def test_the_schema_says_the_same(self) -> None:
        """Either of the two keys, or neither beside `select`."""
        forward = json_schema()["$defs"]["Forward"]
        self.assertEqual(
            forward["oneOf"],
            [
                {"required": ["targets"]},
                {"required": ["target"]},
                {"required": ["select"], "not": {"anyOf": [{"required": ["targets"]}, {"required": ["target"]}]}},
            ],
        )
