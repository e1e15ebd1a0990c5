"""`dcrouter explain` beside a running service: it says where a connection goes, and the connection goes there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.router import Router

FILE = """
routes:
  - {name: v1, match: {ports: $web, domains: [a.test], path: [/v1/**]}, action: {type: respond, body: v1}}
  - name: write
    match: {ports: $web, domains: [a.test], path: [/v1/**], methods: [PUT]}
    action: {type: respond, body: write}
  - {name: shop, match: {ports: $web, domains: ["re:shop[0-9]+"]}, action: {type: respond, body: shop}}
"""
MORE = FILE + "  - {name: rest, match: {ports: $web}, action: {type: respond, body: rest}}\n"


class ExplainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router(FILE, ports=("web",))
        self.addCleanup(self.router.close)

    def explain(self, *arguments: str) -> dict[str, Any]:
        argv = [
            sys.executable,
            "-m",
            "dcrouter.admin.cli",
            "explain",
            "--json",
            "--port",
            str(self.router.ports["web"]),
        ]
        done = subprocess.run(
            [*argv, *arguments], cwd=self.router.base, capture_output=True, text=True, timeout=240, check=False
        )
        self.assertEqual(done.stderr, "")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def ask(self, line: str, host: str) -> str:
        """The body of an answer, or its status."""
        with self.router.connect("web") as sock:
            sock.sendall(f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while more := sock.recv(65536):
                data += more
        status = data.split()[1].decode()
        return data.rpartition(b"\r\n\r\n")[2].decode() if status == "200" else status

    def test_it_tells_what_happens(self) -> None:
        """From the file, from the service, and in truth."""
        for method, path, host in (
            ("GET", "/v1/x", "a.test"),
            ("PUT", "/v1/x", "a.test"),
            ("GET", "/", "a.test"),
            ("GET", "/v1/..%2f", "a.test"),
            ("GET", "/v1/../../v1/", "a.test"),
            ("GET", "/", "shop7"),
        ):
            told = self.explain("--live", "--method", method, "--path", path, "--host", host)
            self.assertEqual(told["edge"], {"route": told["route"], "status": told["status"]})
            self.assertEqual(self.ask(f"{method} {path}", host), told["route"] or str(told["status"]))
            self.assertEqual(self.explain("--method", method, "--path", path, "--host", host)["route"], told["route"])

    def test_the_service_answers_by_what_it_has_loaded(self) -> None:
        """A file that was edited since counts after the reload."""
        self.router.write(MORE)
        request = ("--path", "/", "--host", "b.test", "--method", "GET")
        self.assertEqual(self.explain(*request)["route"], "rest")
        self.assertEqual(self.explain("--live", *request)["status"], 404)
        self.assertTrue(self.router.reload()["ok"])
        self.assertEqual(self.explain("--live", *request)["route"], "rest")
        self.assertEqual(self.ask("GET /", "b.test"), "rest")
