"""Handlers through the whole service: the operator's own protocols beside routes.yaml."""

from __future__ import annotations

import os
import re
import socket
import ssl
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.client import ApiError, ask
from tests.support.hello import client_hello
from tests.support.hooks import HOOKS
from tests.support.router import Router, both_ends, until
from tests.support.threaded import Threaded

TEXT = """
routes:
  - name: echo
    match: {ports: $echo}
    timeouts: {connect: 60s}
    action: {type: handler, factory: "hooks:EchoFactory"}
  - {name: counter, match: {ports: $counter}, action: {type: handler, factory: "hooks:counters"}}
  - name: secure
    match: {ports: $secure, domains: [a.example.test]}
    tls: {mode: terminate, certificate: internal, alpn: [echo/1]}
    action: {type: handler, factory: "hooks:EchoFactory"}
  - name: raw
    match: {ports: $secure, domains: [b.example.test]}
    tls: {mode: passthrough}
    action: {type: handler, factory: "hooks:EchoFactory"}
"""
NONE = """
routes:
  - {name: page, match: {ports: $echo}, action: {type: respond, body: page}}
"""


def started(text: str, code: str = HOOKS, **options: Any) -> Router:
    """A service with hooks.py beside its file."""
    router = Router(text, ports=("echo", "counter", "secure", "slow"), start=False, **options)
    (router.base / "hooks.py").write_text(code)
    try:
        router.start()
    except BaseException:
        router.close()
        raise
    return router


def line(sock: socket.socket) -> str:
    """The next line of a connection, without its end."""
    data = b""
    while not data.endswith(b"\n"):
        some = sock.recv(1)
        if not some:
            raise AssertionError(f"ended after {data!r}")
        data += some
    return data[:-1].decode()


def said(sock: socket.socket, text: str) -> str:
    """What comes back for a line."""
    sock.sendall(text.encode() + b"\n")
    return line(sock)


def is_over(sock: socket.socket) -> bool:
    """Whether nothing more comes."""
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


class HandlerTests(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.router = started(TEXT, expected=("handlers .*has died", "hooks:EchoFactory has failed"))
        cls.addClassCleanup(cls.router.close)

    def tls(self, name: str, *alpn: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(self.router.connect("secure"), server_hostname=name)

    def counted(self) -> list[dict[str, Any]]:
        """The connections of `counter`, as they are listed; none while a busy process does not answer."""
        try:
            found = ask(self.router.state / "admin.sock", "GET", "/connections?role=handlers")["connections"]
        except ApiError:
            return []
        return [one for one in found if one["route"] == "counter"]

    def test_a_plain_connection_is_the_factorys(self) -> None:
        """It knows who the client is, and what it does with the connection is in the access log."""
        with self.router.connect("echo") as sock:
            ends = both_ends(sock)
            self.assertEqual(line(sock), "127.0.0.1 None None None None 1")
            self.assertEqual(said(sock, "hello"), "hello")
            self.assertEqual(said(sock, "bye"), "bye")
            self.assertTrue(is_over(sock))
        (found,) = self.router.access(1, **ends)
        self.assertEqual((found["route"], found["target"]), ("echo", "hooks:EchoFactory"))
        self.assertEqual((found["bytes_in"], found["bytes_out"]), (10, 42))
        self.assertEqual((found["ended_by"], found["termination"]), ("target", "done"))

    def test_tls_is_ended_before_it(self) -> None:
        """With the certificate and the ALPN of the route; the facts tell what was spoken."""
        with self.tls("a.example.test", "echo/1") as sock:
            self.assertEqual(sock.selected_alpn_protocol(), "echo/1")
            self.assertEqual(line(sock), "127.0.0.1 a.example.test echo/1 TLSv1.3 None 1")
            self.assertEqual(said(sock, "hello"), "hello")
            ends = both_ends(sock)
        (found,) = self.router.access(1, **ends)
        self.assertEqual(
            (found["sni"], found["alpn"], list(found["phases"])), ("a.example.test", "echo/1", ["tls", "handler"])
        )

    def test_tls_that_is_passed_through_is_bytes_like_others(self) -> None:
        """From the hello on; the name in it is known."""
        data = client_hello("b.example.test")
        with self.router.connect("secure") as sock:
            sock.sendall(data)
            self.assertEqual(line(sock), "127.0.0.1 b.example.test None None None 1")
            echoed = b""
            while len(echoed) < len(data):
                echoed += sock.recv(65536)
            self.assertEqual(echoed, data)

    def test_one_factory_serves_all_connections_and_is_the_operators(self) -> None:
        """Connections are listed, counted, and ended by the operator."""
        with self.router.connect("counter") as one, self.router.connect("counter") as other:
            self.assertEqual([line(one), line(other)], ["1", "2"])
            mine = until(self.counted)
            self.assertEqual(len(mine), 2)
            until(lambda: self.router.counters("edge").get("handed_over") == 2)
            ask(self.router.state / "admin.sock", "DELETE", f"/connections/{mine[0]['session']}")
            self.assertTrue(is_over(one if mine[0]["peer"] == list(one.getsockname()) else other))
            until(lambda: self.router.counters("edge").get("handed_over") == 1)
        self.router.access(1, session=mine[0]["session"], reason="ended by the operator")

    def test_a_defect_ends_its_connection_alone(self) -> None:
        """The log has the traceback, the access log the reason."""
        with self.router.connect("echo") as sock, self.router.connect("echo") as other:
            line(sock), line(other)
            ends = both_ends(sock)
            sock.sendall(b"fail\n")
            self.assertTrue(is_over(sock))
            self.assertEqual(said(other, "still here"), "still here")
        self.router.access(1, **ends, reason="the handler has failed: RuntimeError: a defect")

    def test_a_process_that_dies_comes_back(self) -> None:
        """Its connections are over, and told of; who connects meanwhile waits for the next one."""
        with self.router.connect("echo") as sock:
            line(sock)
            pid = self.router.pids()["handlers"]
            ends = both_ends(sock)
            os.kill(pid, 9)
            self.assertTrue(is_over(sock))
        self.router.access(1, **ends, reason="the handlers process has died", termination="router:handler")
        with self.router.connect("echo") as sock:
            self.assertEqual(line(sock), "127.0.0.1 None None None None 1")
        self.assertNotEqual(self.router.pids()["handlers"], pid)
        until(lambda: self.router.counters("edge").get("routes", {}).get("echo", {}).get("active") == 0)


BUSY = 60.0
"""Seconds: where a machine has other work, 50 ms pass now and then, and a select is left alone for 30 s."""
SELECTS = """
routes:
  - name: named
    match: {ports: $echo, domains: ["*.example.test"]}
    tls: {mode: terminate, certificate: internal}
    action: {type: forward, select: "hooks:later", target: {host: 127.0.0.1, port: $one}}
  - name: only
    match: {ports: $counter, domains: ["*.example.test"]}
    tls: {mode: terminate, certificate: internal}
    action: {type: forward, select: "hooks:by_name"}
  - name: slow
    match: {ports: $slow}
    tls: {mode: terminate, certificate: internal}
    action: {type: forward, select: "hooks:slow", target: {host: 127.0.0.1, port: $one}}
  - name: http
    match: {ports: $secure}
    protocol: http
    action: {type: forward, select: "hooks:by_name", target: {host: 127.0.0.1, port: $one}}
"""


class SelectTests(SynchronousTestCase):
    """Two targets, which say who they are; the first is the routes' own."""

    router: Router
    one: Threaded
    two: Threaded

    @classmethod
    def setUpClass(cls) -> None:
        cls.one, cls.two = teller(b"one"), teller(b"two")
        cls.addClassCleanup(cls.one.close)
        cls.addClassCleanup(cls.two.close)
        expected = ("select hooks:", "handlers .*has died")
        cls.router = started(SELECTS, one=cls.one.port, expected=expected)
        cls.addClassCleanup(cls.router.close)

    def told(self, port: str, name: str) -> str:
        """Who answers a client that asks for `name`; nobody: ""."""
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem"))
        with context.wrap_socket(self.router.connect(port), server_hostname=name) as sock:
            sock.sendall(b"hello\n")
            return sock.recv(100).decode()

    def request(self, *lines: str) -> str:
        with self.router.connect("secure") as sock:
            sock.sendall("\r\n".join(("GET / HTTP/1.1", "Host: a", "Connection: close", *lines, "", "")).encode())
            data = b""
            while some := sock.recv(65536):
                data += some
        return data.decode()

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.router.counters("edge")["select"][name]
        return found

    def test_a_callable_names_the_target(self) -> None:
        """Of connections by what is known of them, of requests by their heads; None means the route's own."""
        until(lambda: self.told("counter", f"p{self.two.port}.example.test") == "two", BUSY)
        until(lambda: self.told("counter", f"p{self.one.port}.example.test") == "one", BUSY)
        until(lambda: self.told("echo", f"p{self.two.port}.example.test") == "two", BUSY)
        self.assertEqual(self.told("echo", "none.example.test"), "one")
        until(lambda: self.request(f"X-Port: {self.two.port}").endswith("two"), BUSY)
        self.assertTrue(self.request().endswith("one"))

    def test_without_targets_of_its_own_a_route_has_none_to_fall_back_to(self) -> None:
        """The connection is closed, and the access log says why."""
        self.assertEqual(self.told("counter", "none.example.test"), "")
        self.router.access(1, route="only", sni="none.example.test", reason="no target: no target is chosen")

    def test_a_defect_is_counted_and_the_targets_are_used(self) -> None:
        """Be it that it raises, or names what is none; the traceback is in the log."""
        for name in ("fail.example.test", "odd.example.test"):
            before = self.record("hooks:later")["errors"]

            def counted(name: str = name, before: int = before) -> bool:
                self.assertEqual(self.told("echo", name), "one")
                return bool(self.record("hooks:later")["errors"] > before)

            until(counted, BUSY)
        until(lambda: self.router.said("select hooks:later has failed"))

    def test_while_the_process_is_away_the_targets_are_used(self) -> None:
        """And it is asked again as soon as it is back."""
        os.kill(self.router.pids()["handlers"], 9)
        until(lambda: self.told("echo", f"p{self.two.port}.example.test") == "two", BUSY)
        self.assertEqual(self.told("echo", "none.example.test"), "one")

    def test_a_slow_one_is_left_alone_after_a_while(self) -> None:
        """It sleeps in the process of all handlers, and no client waits for that."""
        for _ in range(20):
            self.assertEqual(self.told("slow", "localhost"), "one")
            if self.record("hooks:slow").get("off_for"):
                break
        until(lambda: len(self.router.said("select hooks:slow is left alone for 30 s")) == 1)
        before = self.record("hooks:slow")
        self.assertGreaterEqual(before["slow"], 5)
        self.assertEqual(self.told("slow", "localhost"), "one")
        self.assertEqual(self.record("hooks:slow")["skipped"], before["skipped"] + 1)


def teller(name: bytes) -> Threaded:
    """A server that says who it is, be it asked by HTTP or otherwise."""

    def tell(sock: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        sock.sendall((head if sock.recv(65536).startswith(b"GET") else b"") + name)

    return Threaded(tell)


class DocumentTests(SynchronousTestCase):
    def test_the_examples_of_the_page_work(self) -> None:
        """Code and routes as they stand there, but for ports and addresses."""
        page = (Path(__file__).parents[2] / "docs" / "handlers.md").read_text("utf-8")
        one, two = teller(b"one"), teller(b"two")
        self.addCleanup(one.close)
        self.addCleanup(two.close)
        code = "\n".join(blocks(page, "python")).replace("10.0.0.11:8080", f"127.0.0.1:{two.port}")
        routes = "routes:\n" + "\n".join(block.removeprefix("routes:\n") for block in blocks(page, "yaml"))
        for written, put in (
            ("[7443]", "[$echo]"),
            ("[8443]", "[$secure]"),
            ("10.0.0.10, port: 8080", "127.0.0.1, port: $one"),
        ):
            self.assertIn(written, routes)
            routes = routes.replace(written, put)
        router = started(routes, code=code, one=one.port)
        self.addCleanup(router.close)
        trusting = ssl.create_default_context(cafile=str(router.state / "internal-ca" / "ca.pem"))
        with trusting.wrap_socket(router.connect("echo"), server_hostname="echo.example.com") as sock:
            self.assertEqual(line(sock), "hello 127.0.0.1, you asked for echo.example.com")
            self.assertEqual(said(sock, "hello"), "hello")
        for name, who in (("alice.example.com", b"two"), ("carol.example.com", b"one")):

            def told(data: bytes = client_hello(name)) -> bytes:
                with router.connect("secure") as raw:
                    raw.sendall(data)
                    return raw.recv(100)

            until(lambda told=told, who=who: told() == who, BUSY)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


class ReloadTests(SynchronousTestCase):
    def test_the_process_comes_and_goes_with_the_routes(self) -> None:
        """The first handler brings it, code that cannot be loaded is refused, connections outlive all of that, and it
        leaves when the last of them has ended.
        """
        router = started(NONE, expected=("reload: .*",))
        self.addCleanup(router.close)
        self.assertNotIn("handlers", router.pids())
        router.write(TEXT.replace("hooks:counters", "hooks:counter"))
        outcome = router.reload()
        self.assertRegex(
            outcome["problems"][0],
            r"^route counter: action.factory: hooks:counter: hooks \(.*/hooks.py\) has no counter",
        )
        self.assertIn("did you mean 'Counter'", outcome["problems"][0])
        self.assertNotIn("handlers", router.pids())
        router.write(TEXT)
        self.assertEqual(router.reload()["problems"], [])
        pid = router.pids()["handlers"]
        with router.connect("echo") as sock:
            self.assertTrue(line(sock).endswith(" 1"))
            (router.base / "hooks.py").write_text(HOOKS.replace("VERSION = 1", "VERSION = 22"))
            self.assertEqual(router.reload()["problems"], [])
            with router.connect("echo") as other:
                self.assertTrue(line(other).endswith(" 22"))
            self.assertEqual(said(sock, "still here"), "still here")
            (router.base / "hooks.py").write_text("import nothing_of_that_name")
            self.assertIn("hooks.py:1: ModuleNotFoundError", router.reload()["problems"][0])
            with router.connect("echo") as other:
                self.assertTrue(line(other).endswith(" 22"))
            router.write(NONE)
            self.assertEqual(router.reload()["problems"], [])
            self.assertEqual(said(sock, "still here"), "still here")
            self.assertEqual(router.pids()["handlers"], pid)
        until(lambda: "handlers" not in router.pids())
        self.assertEqual(list(router.base.glob("__pycache__")), [])

    def test_one_that_hangs_keeps_no_reload_from_happening(self) -> None:
        """It is replaced; until then it is listed as one that does not answer, and routes of the edge's own work."""
        router = started(TEXT, expected=("did not answer", "handlers .*has died"))
        self.addCleanup(router.close)
        pid = router.pids()["handlers"]
        with router.connect("echo") as sock:
            line(sock)
            sock.sendall(b"hang\n")
            until(lambda: (router.status() or {})["children"]["handlers"]["counters"] is None)
            self.assertEqual(router.reload()["problems"], [])
            self.assertTrue(is_over(sock))
        until(lambda: router.pids().get("handlers", pid) != pid)
        with router.connect("echo") as sock:
            line(sock)

    def test_code_that_cannot_be_loaded_is_told_at_the_start(self) -> None:
        """Once, with its place, and nothing is left running."""
        router = Router(TEXT, ports=("echo", "counter", "secure"), start=False)
        self.addCleanup(router.close)
        status, said = router.try_start()
        self.assertEqual(status, 1)
        self.assertIn("route echo: action.factory: hooks:EchoFactory: cannot import hooks", said)
        self.assertIn("No module named 'hooks'", said)
