"""What is written of each connection, and clients that keep silent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.edge import Backend, echo, read_all, read_anyhow
from tests.support.hello import client_hello
from tests.support.knock import knock
from tests.support.router import Router, both_ends, until

TEXT = """
defaults:
  timeouts: {hello: $hello, idle: $silence}
  security: {block: [127.0.0.3/32]}
http: {request_timeout: $silence}
proxy_protocol: [{from: [127.0.0.1/32], ports: [$proxied], timeout: $silence}]
routes:
  - name: echo
    match: {ports: $echo}
    action: {type: forward, target: {host: 127.0.0.1, port: $backend}}
  - name: through
    match: {ports: $tls, domains: [www.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $backend}}
  - name: ended
    match: {ports: $tls, domains: ["*.ended.example.test"]}
    tls: {mode: terminate}
    action: {type: respond, body: "a page"}
  - name: page
    match: {ports: [$http, $proxied]}
    action: {type: respond, body: "a page"}
  - name: down
    match: {ports: $down}
    action: {type: forward, target: {host: 127.0.0.1, port: $nobody}}
  - name: few
    match: {ports: $few}
    security: {max_connections_per_ip: 2}
    action: {type: forward, target: {host: 127.0.0.1, port: $backend}}
  - name: closed
    match: {ports: $closed}
    security: {block: [127.0.0.4/32]}
    action: {type: respond, body: "a page"}
"""
PORTS = ("echo", "tls", "http", "proxied", "down", "few", "closed", "nobody")


class LogCase(SynchronousTestCase):
    router: Router
    backend: Backend
    times: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        cls.backend = Backend(_Class(cls), echo)
        cls.router = Router(TEXT, ports=PORTS, expected=["cannot connect to"], backend=cls.backend.port, **cls.times)
        cls.addClassCleanup(cls.router.close)


class _Class:
    def __init__(self, case: type[SynchronousTestCase]) -> None:
        self.addCleanup = case.addClassCleanup


class TestAccessLog(LogCase):
    times = {"hello": "60s", "silence": "60s"}

    def test_a_connection_is_one_line_with_all_that_is_known(self) -> None:
        """Forwarded, plain: who, where to, how much each way, how long in each phase, who ended it."""
        began = time.time()
        with self.router.connect("echo") as client:
            ends = both_ends(client)
            client.sendall(b"hello")
            client.recv(5)
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        (line,) = self.router.access(**ends)
        self.assertEqual(line["event"], "session")
        self.assertEqual(line["route"], "echo")
        self.assertEqual(line["local"], ["127.0.0.1", self.router.ports["echo"]])
        self.assertEqual(line["target"], f"127.0.0.1:{self.backend.port}")
        self.assertEqual((line["bytes_in"], line["bytes_out"]), (5, 5))
        self.assertEqual((line["ended_by"], line["reason"]), ("client", "closed"))
        self.assertEqual(list(line["phases"]), ["connect", "relay"])
        self.assertTrue(began - 0.1 <= line["accepted"] <= time.time())
        self.assertNotIn("sni", line)

    def test_what_tls_has_told_is_there(self) -> None:
        """Terminated: name, version, ALPN; the bytes inside of TLS."""
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem"))
        context.set_alpn_protocols(["http/1.1"])
        name = "a.ended.example.test"
        with self.router.connect("tls") as sock, context.wrap_socket(sock, server_hostname=name) as client:
            request = b"GET / HTTP/1.1\r\nHost: a.ended.example.test\r\nConnection: close\r\n\r\n"
            client.sendall(request)
            answer = read_all(client)
        (line,) = self.router.access(sni=name)
        self.assertEqual((line["route"], line["tls_version"], line["alpn"]), ("ended", "TLSv1.3", "http/1.1"))
        self.assertEqual((line["bytes_in"], line["bytes_out"]), (len(request), len(answer)))
        self.assertEqual(list(line["phases"]), ["hello", "tls", "http"])

    def test_each_refusal_has_its_reason(self) -> None:
        """Nobody at the target, too many of one address, a blocked address."""
        self.assertEqual(knock(self.router.ports["down"]).data, b"")
        (line,) = self.router.access(route="down")
        self.assertEqual(line["ended_by"], "router")
        self.assertIn("Connection refused", line["reason"])
        with self.router.connect("few") as one, self.router.connect("few") as two:
            for client in (one, two):
                client.sendall(b"x")
                client.recv(1)
            three = knock(self.router.ports["few"])
        self.assertEqual(three.data, b"")
        (line,) = self.router.access(**three.ends)
        self.assertEqual(line["reason"], "max_connections_per_ip")
        for source in ("127.0.0.4", "127.0.0.3"):
            blocked = knock(self.router.ports["closed"], source=source)
            self.assertEqual(blocked.data, b"")  # it is not even asked what it wants
            (line,) = self.router.access(**blocked.ends)
            self.assertEqual(line["reason"], "blocked")

    def test_each_of_many_connections_has_its_line(self) -> None:
        """A thousand, each once, each with a session of its own."""
        for _ in range(20):
            clients = [self.router.connect("http") for _ in range(50)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            for client in clients:
                self.assertIn(b"a page", read_all(client))
                client.close()
        lines = self.router.access(1000, route="page", ended_by="client", reason="closed")
        self.assertEqual(len({line["session"] for line in lines}), 1000)

    def test_a_rotated_log_goes_on_in_a_new_file(self) -> None:
        """As logrotate does it: renamed, then SIGUSR1; no line is lost and none is in both."""

        def connect() -> None:
            with self.router.connect("closed") as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                read_all(client)

        path = self.router.state / "access.log"
        connect()
        until(lambda: self.router.access_lines())
        before = path.with_suffix(".1")
        path.rename(before)
        connect()
        os.kill(self.router.pids()["parent"], signal.SIGUSR1)
        until(path.exists)
        connect()
        until(lambda: len(self.router.access_lines()) >= 1)
        until(lambda: (before.read_text() + path.read_text()).count('"status": 200') >= 3)


class TestSilence(LogCase):
    times = {"hello": "5s", "silence": "700ms"}
    """A handshake that is to succeed must have the time on a busy machine."""

    def test_whoever_waits_too_long_is_closed(self) -> None:
        """In every phase in which the client is to speak: who says this and nothing more, and the timeout that its
        line tells of.
        """
        silent = (
            ("tls", b"", "hello"),
            ("tls", client_hello("www.example.test")[:50], "hello"),
            ("tls", client_hello("a.ended.example.test"), "hello"),
            ("http", b"", "request_timeout"),
            ("http", b"GET / HTTP/1.1\r\nHost: x\r\n", "request_timeout"),
            ("echo", b"", "idle"),
        )
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.router.connect(port)) for port, _, _ in silent]
            told = [both_ends(client) for client in clients]
            for client, (_, say, _) in zip(clients, silent, strict=True):
                _say(client, say)
            for client in clients:
                read_anyhow(client)
        for ends, (_, _, reason) in zip(told, silent, strict=True):
            (line,) = self.router.access(**ends)
            self.assertEqual(line["ended_by"], "router", line)
            self.assertIn(reason, line["reason"])

    def test_a_request_must_follow_the_handshake(self) -> None:
        """Inside of TLS: nothing, or half of one."""
        context = ssl.create_default_context(cafile=str(self.router.state / "internal-ca" / "ca.pem"))
        for number, say in enumerate((b"", b"GET / HTTP/1.1\r\n")):
            name = f"silent{number}.ended.example.test"
            with self.router.connect("tls") as sock, context.wrap_socket(sock, server_hostname=name) as client:
                _say(client, say)
                with contextlib.suppress(OSError):
                    client.recv(1)
            self.router.access(sni=name, ended_by="router", reason="request_timeout timeout")

    def test_a_header_that_does_not_come_is_not_waited_for(self) -> None:
        """PROXY: none, or half of one."""
        for say in (b"", b"PROXY TCP4 192.0"):
            with self.router.connect("proxied") as client:
                ends = both_ends(client)
                _say(client, say)
                read_anyhow(client)
            (line,) = self.router.access(**ends)
            self.assertIn("proxy_header", line["reason"])

    def test_one_byte_at_a_time_gains_no_time(self) -> None:
        """The deadline is that of the whole head, and not of each byte."""
        began = time.monotonic()
        with self.router.connect("http") as client:
            client.settimeout(0.05)
            try:
                while True:
                    client.sendall(b"G")
                    try:
                        if not client.recv(100):
                            break
                    except TimeoutError:
                        self.assertLess(time.monotonic() - began, 60)
            except (BrokenPipeError, ConnectionResetError):
                pass


def _say(client: socket.socket, text: bytes) -> None:
    """To somebody who may have closed by now."""
    with contextlib.suppress(OSError):
        client.sendall(text)
