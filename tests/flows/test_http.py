"""HTTP through the whole service: curl and WebSocket clients in front, nginx and Python behind."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from tests.support.knock import dribble
from tests.support.peers import require
from tests.support.programs import Nginx
from tests.support.router import Router, resident, sockets, until
from tests.support.web import Wire, request
from tests.support.webapp import WebApp

ROUTES = """
http: {request_timeout: 5s, keep_alive: 10s}
routes:
  - name: files
    match: {ports: $web, domains: [files.example.test]}
    action: {type: forward, target: {host: 127.0.0.1, port: $nginx}}
  - name: files-tls
    match: {ports: $tls, domains: [files.example.test]}
    protocol: http
    tls: {mode: terminate, certificate: internal}
    action: {type: forward, target: {host: 127.0.0.1, port: $nginx}}
  - name: again
    match: {ports: $tls, domains: [again.example.test]}
    protocol: http
    tls: {mode: terminate-and-reencrypt, certificate: internal, upstream: {server_name: files.example.test, ca: $ca}}
    action: {type: forward, target: {host: 127.0.0.1, port: $nginx_tls}}
  - name: app
    match: {ports: $web, domains: [app.example.test]}
    action: {type: forward, target: {host: 127.0.0.1, port: $python}}
  - name: talk
    match: {ports: $web, domains: [talk.example.test]}
    action: {type: forward, target: {host: 127.0.0.1, port: $talk}}
  - name: talk-tls
    match: {ports: $tls, domains: [talk.example.test]}
    protocol: http
    tls: {mode: terminate, certificate: internal}
    action: {type: forward, target: {host: 127.0.0.1, port: $talk}}
  - name: gone
    match: {ports: $web, domains: [gone.example.test]}
    action: {type: forward, target: {host: 127.0.0.1, port: 1}}
  - name: welcome
    match: {ports: $web, domains: [welcome.example.test]}
    action: {type: respond, body: "welcome\\n"}
"""
BIG = 40_000_000


def echo(connection: ServerConnection) -> None:
    """Says everything back, until the client has had enough."""
    for message in connection:
        connection.send(message)


class HttpCase(SynchronousTestCase):
    nginx: Nginx
    python: WebApp
    talk: Server
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.nginx = Nginx("files.example.test")
        cls.addClassCleanup(cls.nginx.close)
        (cls.nginx.data / "big").write_bytes(hashlib.sha512(b"x").digest() * (BIG // 64))
        (cls.nginx.data / "small").write_bytes(b"small\n")
        cls.python = WebApp()
        cls.addClassCleanup(cls.python.close)
        cls.talk = serve(echo, "127.0.0.1", 0, max_size=None, open_timeout=60)
        threading.Thread(target=cls.talk.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.talk.shutdown)
        cls.router = Router(
            ROUTES,
            ports=("web", "tls"),
            expected=["cannot connect to 127.0.0.1:1:"],
            nginx=cls.nginx.port,
            nginx_tls=cls.nginx.tls,
            ca=cls.nginx.ca,
            python=cls.python.port,
            talk=cls.talk.socket.getsockname()[1],
        )
        cls.addClassCleanup(cls.router.close)

    def curl(self, *words: str, status: tuple[int, ...] = (0,)) -> bytes:
        """What curl prints; `name:port/` in a URL may use the name of a port."""
        for name, port in self.router.ports.items():
            words = tuple(word.replace(f":{name}/", f":{port}/") for word in words)
        ca = self.router.state / "internal-ca" / "ca.pem"
        options = ["--silent", "--show-error", "--max-time", "100", "--cacert", str(ca)]
        argv = [require("curl"), *options, "--connect-to", "::127.0.0.1:", *words]
        done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
        self.assertIn(done.returncode, status, done.stderr)
        return done.stdout


class CurlTests(HttpCase):
    def test_many_urls_share_a_connection(self) -> None:
        """curl makes one connection for a hundred files, and we few to nginx."""
        urls = [f"http://files.example.test:web/small?{number}" for number in range(100)]
        said = self.curl("--write-out", "%{num_connects} %{http_code}\n", *urls)
        lines = said.replace(b"small\n", b"").split(b"\n")[:-1]
        self.assertEqual((lines[0], set(lines[1:])), (b"1 200", {b"0 200"}))

    def test_downloads_and_uploads_are_whole(self) -> None:
        """Forty megabytes each way: plain, from TLS, from TLS to TLS, and by ranges."""
        whole = (self.nginx.data / "big").read_bytes()
        for number, base in enumerate(
            ("http://files.example.test:web", "https://files.example.test:tls", "https://again.example.test:tls")
        ):
            self.assertTrue(self.curl("--http1.1", f"{base}/big") == whole, base)
            self.assertTrue(
                self.curl("--http1.1", "--range", "1000000-2999999", f"{base}/big") == whole[1000000:3000000]
            )
            for name, how in (
                (f"length-{number}", ("-T", str(self.nginx.data / "big"))),
                (f"chunked-{number}", ("-H", "Transfer-Encoding: chunked", "-T", str(self.nginx.data / "big"))),
            ):
                code = self.curl("--http1.1", *how, "--write-out", "%{http_code}", f"{base}/up/{name}")
                self.assertEqual(code, b"201", (base, how))
                self.assertTrue((self.nginx.data / "up" / name).read_bytes() == whole, name)

    def test_expect_continue(self) -> None:
        """curl asks before it sends much, and does not have to wait in vain."""
        said = self.curl(
            "--http1.1",
            "--expect100-timeout",
            "200",
            "-H",
            "Expect: 100-continue",
            "-T",
            str(self.nginx.data / "big"),
            "--include",
            "http://files.example.test:web/up/expected",
        )
        self.assertTrue(said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n"), said)

    def test_old_clients_and_heads(self) -> None:
        """HTTP/1.0, with and without keep-alive; HEAD."""
        self.assertEqual(self.curl("--http1.0", "http://files.example.test:web/small"), b"small\n")
        said = self.curl(
            "--http1.0", "-H", "Connection: keep-alive", "--include", "http://files.example.test:web/small"
        )
        self.assertIn(b"\r\nConnection: keep-alive\r\n", said)
        said = self.curl("--head", "http://files.example.test:web/big", "http://files.example.test:web/small")
        self.assertEqual(said.count(b"HTTP/1.1 200 OK\r\n"), 2)
        self.assertIn(b"Content-Length: %d\r\n" % BIG, said)

    def test_conditional_requests(self) -> None:
        """A 304 has no body, and the connection goes on behind it."""
        etag = next(
            line
            for line in self.curl("--head", "http://files.example.test:web/small").split(b"\r\n")
            if line.startswith(b"ETag: ")
        )
        tag = etag.partition(b": ")[2].decode()
        url = "http://files.example.test:web/small"
        said = self.curl("--include", "-H", f"If-None-Match: {tag}", url, url)
        self.assertEqual(said.count(b"HTTP/1.1 304 Not Modified\r\n"), 2)

    def test_a_python_application(self) -> None:
        """The standard library's server, with bodies of either framing, on a kept connection."""
        url = "http://app.example.test:web/a"
        said = self.curl("-d", "x" * 5000, url, url)
        self.assertEqual(said, b"POST /a 5000\n" * 2)
        said = self.curl("-H", "Transfer-Encoding: chunked", "-d", "x" * 5000, url, url)
        self.assertEqual(said, b"POST /a 5000\n" * 2)

    def test_pages_of_our_own(self) -> None:
        """502 for a target that is not there, 404 for a host that nobody has; both are well-formed and kept."""
        said = self.curl(
            "--include",
            "--write-out",
            "%{num_connects}\n",
            "http://gone.example.test:web/",
            "http://none.example.test:web/",
            "http://welcome.example.test:web/",
        )
        self.assertEqual(said.count(b"HTTP/1.1 "), 3)
        for text in (b"HTTP/1.1 502 Bad Gateway\r\n", b"502 Bad Gateway\n", b"HTTP/1.1 404 ", b"welcome\n"):
            self.assertIn(text, said)

    def test_a_tls_client_on_a_plain_port_and_the_other_way_round(self) -> None:
        """Neither hangs."""
        self.curl("https://files.example.test:web/small", status=(35,))
        self.curl("http://files.example.test:tls/small", status=(52, 56))


class LogTests(HttpCase):
    def test_each_request_has_a_line_without_secrets(self) -> None:
        """Who asked whom for what, how it ended; and nothing of query, cookies, passwords or bodies."""
        url = "http://app.example.test:web/log-me?token=SECRET1"
        self.curl("-u", "me:SECRET2", "-H", "Cookie: id=SECRET3", "-H", "X-Api-Key: SECRET4", "-d", "SECRET5", url, url)
        first, second = self.router.access(2, event="request", path="/log-me")
        self.assertEqual((first["request"], second["request"]), (1, 2))
        self.assertEqual(first["session"], second["session"])
        self.assertEqual(
            {key: first[key] for key in ("route", "method", "host", "version", "status", "target", "termination")},
            {
                "route": "app",
                "method": "POST",
                "host": "app.example.test",
                "version": "1.1",
                "status": 200,
                "target": f"127.0.0.1:{self.python.port}",
                "termination": "done",
            },
        )
        self.assertEqual(first["peer"][0], "127.0.0.1")
        session = self.router.access(1, event="session", session=first["session"])[0]
        self.assertEqual(session["bytes_in"], first["bytes_in"] + second["bytes_in"])
        self.assertNotIn("SECRET", (self.router.state / "access.log").read_text())
        self.assertNotIn("SECRET", json.dumps(self.router.log()))

    def test_why_is_in_the_log(self) -> None:
        """The client gets a short page, the operator the reason."""
        self.curl("http://gone.example.test:web/why")
        (line,) = self.router.access(1, event="request", path="/why")
        self.assertEqual((line["status"], line["termination"]), (502, "target:connect"))
        self.assertEqual(line["reason"], "127.0.0.1:1: Connection refused")


class WebSocketTests(HttpCase):
    def meet(self, tls: bool) -> ClientConnection:
        port = self.router.ports["tls" if tls else "web"]
        sock = socket.create_connection(("127.0.0.1", port), 30)
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem")) if tls else None
        scheme = "wss" if tls else "ws"
        return connect(
            f"{scheme}://talk.example.test:{port}/x",
            sock=sock,
            ssl=context,
            max_size=None,
            compression=None,
            open_timeout=60,
        )

    def test_messages_of_all_sizes(self) -> None:
        """Plain and by TLS, text and octets, from none to megabytes."""
        for tls in (False, True):
            with self.meet(tls) as talk:
                for size in (0, 1, 125, 126, 65535, 65536, 3_000_000):
                    talk.send(bytes(size))
                    self.assertEqual(len(talk.recv(60)), size)
                talk.send("grüße")
                self.assertEqual(talk.recv(60), "grüße")

    def test_many_at_once(self) -> None:
        """Fifty talk in turns; none hears another."""
        stack = self.enterContext(ExitStack())
        talks = [stack.enter_context(self.meet(False)) for _ in range(50)]
        peers = [list(talk.local_address) for talk in talks]
        for turn in range(3):
            for number, talk in enumerate(talks):
                talk.send(f"{number} {turn}")
            self.assertEqual([talk.recv(60) for talk in talks], [f"{number} {turn}" for number in range(50)])
        stack.close()

        def ended() -> list[str]:
            lines = [line for line in self.router.access_lines() if line.get("status") == 101]
            return [line["termination"] for line in lines if line["peer"] in peers]

        until(lambda: len(ended()) >= 50)
        self.assertEqual(set(ended()), {"done"})

    def test_a_target_that_does_not_upgrade(self) -> None:
        """Its refusal is the answer."""
        port = self.router.ports["web"]
        sock = socket.create_connection(("127.0.0.1", port), 30)
        error = self.assertRaises(InvalidStatus, connect, f"ws://files.example.test:{port}/small", sock=sock)
        self.assertEqual(error.response.status_code, 200)

    def test_a_client_that_vanishes(self) -> None:
        """Its target hears of it."""
        with self.meet(False) as talk:
            talk.send("x")
            talk.recv(60)
            local = talk.local_address
            talk.socket.shutdown(socket.SHUT_RDWR)
            self.assertRaises(ConnectionClosed, talk.recv)
        until(
            lambda: [
                line for line in self.router.access_lines() if line.get("status") == 101 and line["peer"] == list(local)
            ]
        )


class EndsTests(HttpCase):
    def test_a_server_that_restarts_is_not_noticed(self) -> None:
        """Connections that wait are dead then: requests that may be repeated find a new one, none fails."""
        nginx = Nginx("restarted")
        self.addCleanup(nginx.close)
        (nginx.data / "small").write_bytes(b"again\n")
        router = Router(
            "routes:\n  - {name: web, match: {ports: $front, domains: [a.example]}, "
            "action: {type: forward, target: {host: 127.0.0.1, port: $back}}}\n",
            ports=("front",),
            back=nginx.port,
        )
        self.addCleanup(router.close)
        clients = [Wire(router.connect("front")) for _ in range(10)]
        for _ in range(5):
            for wire in clients:
                wire.send(request(first=b"GET /small HTTP/1.1"))
            for wire in clients:
                self.assertEqual(wire.message().body, b"again\n")
            nginx.process.send_signal(signal.SIGTERM)
            nginx.process.wait(240)
            nginx.process = subprocess.Popen(
                nginx.process.args,
                cwd=nginx.base,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            until(lambda: self.accepts(nginx.port))
        for wire in clients:
            wire.sock.close()

    def accepts(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def test_slow_readers_cost_little_memory(self) -> None:
        """A hundred clients that ask for forty megabytes and read nothing; when they go, nothing stays open."""
        edge = self.router.pids()["edge"]
        self.curl("http://files.example.test:web/big", "-o", "/dev/null")
        before, open_before = resident(edge), sockets(edge)
        idle = []
        for _ in range(100):
            sock = self.router.connect("web")
            sock.sendall(request(first=b"GET /big HTTP/1.1", host=b"files.example.test"))
            idle.append(sock)
        for sock in idle:
            self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 200"))
        self.assertLess(resident(edge) - before, 30_000_000)
        for sock in idle:
            sock.close()
        until(lambda: sockets(edge) <= open_before + 2)

    def test_slow_senders_are_given_up(self) -> None:
        """A head that comes byte by byte has its time, and no more."""
        with self.router.connect("web") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: files.example.test\r\nX: ")
            data = dribble(sock, 0.3)
        self.assertTrue(data.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), data)
