"""Targets of the running service: killed and revived under load, found by names that change, and what people see."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
from twisted.trial.unittest import SynchronousTestCase

from tests.support.ports import Reserved
from tests.support.router import Router, until


class Target:
    """A server on `address` that answers each connection with its name; `shut` is a crash, `open` a new start."""

    def __init__(self, test: type[SynchronousTestCase], name: str, address: str, port: int) -> None:
        self.name = name.encode()
        self.place = (address, port)
        self._listener: socket.socket | None = None
        test.addClassCleanup(self.shut)

    def open(self) -> None:
        self._listener = socket.create_server(self.place, backlog=200)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while sock.recv(4096):
                sock.sendall(self.name)


class Nameserver:
    """A DNS server in a thread, for A records; `records`: name -> (addresses, TTL), and None for SERVFAIL."""

    def __init__(self, test: type[SynchronousTestCase]) -> None:
        self.records: dict[str, tuple[list[str], int] | None] = {}
        self.questions: Counter[str] = Counter()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._sock.settimeout(0.5)
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        test.addClassCleanup(self.close)

    def close(self) -> None:
        self._over = True
        self._thread.join(5)
        self._sock.close()

    def _serve(self) -> None:
        while not self._over:
            with contextlib.suppress(TimeoutError):
                wire, client = self._sock.recvfrom(4096)
                self._sock.sendto(self._answer(dns.message.from_wire(wire)), client)

    def _answer(self, query: dns.message.Message) -> bytes:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        response = dns.message.make_response(query)
        known = self.records.get(name, ([], 1))
        if question.rdtype == 1:
            self.questions[name] += 1
            if known is None:
                response.set_rcode(dns.rcode.SERVFAIL)
            elif known[0]:
                response.answer.append(dns.rrset.from_text(question.name, known[1], "IN", "A", *known[0]))
        if not response.answer and known is not None:
            soa = "ns.test. root.test. 1 3600 600 86400 1"
            response.authority.append(dns.rrset.from_text("test.", 1, "IN", "SOA", soa))
        return response.to_wire()


def ask(port: int) -> bytes:
    """One word on a connection of its own; b"" where it is closed without an answer."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(b"who")
        return sock.recv(100)


KILLED = ("one", "two", "three", "one")
KILLS, CLIENTS = len(KILLED), 4

CONFIG = """
resolver: {servers: ["127.0.0.1:$dns"], timeout: 20s}
routes:
  - name: checked
    match: {ports: [$checked]}
    action:
      type: forward
      targets: [{host: 127.0.0.1, port: $one}, {host: 127.0.0.1, port: $two}, {host: 127.0.0.1, port: $three}]
      balance: random-two
      health: {type: tcp, interval: 200ms, timeout: 9s, rise: 1, fall: 1, passive: {failures: 3, within: 5s, eject: 1s}}
  - name: named
    match: {ports: [$named]}
    action: {type: forward, target: {host: app.test, port: $one}}
"""


class UpstreamFlows(SynchronousTestCase):
    router: Router
    targets: dict[str, Target]
    nameserver: Nameserver

    @classmethod
    def setUpClass(cls) -> None:
        cls.nameserver = Nameserver(cls)
        cls.nameserver.records["app.test"] = (["127.0.0.1"], 1)
        reserved = {name: Reserved() for name in ("one", "two", "three")}
        for one in reserved.values():
            cls.addClassCleanup(one.close)
        cls.targets = {name: Target(cls, name, "127.0.0.1", one.port) for name, one in reserved.items()}
        cls.targets["other"] = Target(cls, "other", "127.0.0.2", reserved["one"].port)
        for target in cls.targets.values():
            target.open()
        ports: dict[str, Any] = {name: one.port for name, one in reserved.items()}
        cls.router = Router(
            CONFIG,
            ports=("checked", "named"),
            dns=cls.nameserver.port,
            expected=("cannot connect to", "is down", "is ejected", "does not resolve"),
            **ports,
        )
        cls.addClassCleanup(cls.router.close)

    def health(self) -> dict[str, str]:
        """name of a target -> what its health is."""
        told = self.router.counters("edge").get("targets", {}).get("checked", {})
        ports = {target.place[1]: name for name, target in self.targets.items() if name != "other"}
        return {ports[int(label.rpartition(":")[2])]: state["health"] for label, state in told.items()}

    def test_targets_are_killed_and_revived_under_load(self) -> None:
        """Only connections that a target had taken when it was killed are lost; each that is back gets its share."""
        until(lambda: self.health() == {"one": "up", "two": "up", "three": "up"})
        with self.load() as answers:
            for name in KILLED:
                self.targets[name].shut()
                until(lambda name=name: self.health()[name] == "down")
                self.targets[name].open()
                until(lambda name=name: self.health()[name] == "up")
                before = answers[name.encode()]
                until(lambda name=name, before=before: answers[name.encode()] > before)
        lost = Counter({answer: count for answer, count in answers.items() if answer not in (b"one", b"two", b"three")})
        self.assertLessEqual(lost.total(), KILLS * CLIENTS, answers)
        served = until(lambda: [line for line in self.router.access_lines() if line.get("route") == "checked"])
        broken = [line for line in served if line["ended_by"] == "router"]
        self.assertEqual(broken, [])

    @contextlib.contextmanager
    def load(self) -> Iterator[Counter[bytes]]:
        """Clients that ask all the time, each on a new connection; their answers."""
        answers: Counter[bytes] = Counter()
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                try:
                    answers[ask(self.router.ports["checked"])] += 1
                except OSError as error:
                    answers[str(error).encode()] += 1
                time.sleep(0.002)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            over.set()
            for thread in threads:
                thread.join(60)

    def test_a_name_is_followed(self) -> None:
        """New connections go to where it is now; those that live stay; DNS that fails changes nothing."""
        port = self.router.ports["named"]
        self.assertEqual(until(lambda: ask(port)), b"one")
        with socket.create_connection(("127.0.0.1", port), 30) as old:
            old.sendall(b"who")
            self.assertEqual(old.recv(100), b"one")
            self.nameserver.records["app.test"] = (["127.0.0.2"], 1)
            until(lambda: ask(port) == b"other")
            old.sendall(b"who")
            self.assertEqual(old.recv(100), b"one")
        self.nameserver.records["app.test"] = None
        until(lambda: self.router.said("app.test does not resolve"))
        self.assertEqual(ask(port), b"other")
        self.nameserver.records["app.test"] = (["127.0.0.1"], 1)
        until(lambda: ask(port) == b"one")
        until(lambda: self.router.said("app.test resolves again"))
        self.assertEqual(len(self.router.said("app.test resolves again")), 1)

    def test_status_shows_targets_and_their_health(self) -> None:
        """In words, and why one is down."""
        until(lambda: self.health() == {"one": "up", "two": "up", "three": "up"})
        two = self.targets["two"]
        two.shut()
        try:
            until(lambda: self.health()["two"] == "down")
            command = [sys.executable, "-m", "dcrouter.admin.cli", "status"]
            said: Any = subprocess.run(
                command, cwd=self.router.base, capture_output=True, text=True, timeout=240, check=True
            )
            self.assertIn("  targets of checked:\n", said.stdout)
            self.assertRegex(
                said.stdout, rf"\n    127\.0\.0\.1:{two.place[1]}: down for \d+ s: Connection refused; 0 active"
            )
            self.assertRegex(said.stdout, rf"\n    127\.0\.0\.1:{self.targets['one'].place[1]}: up for ")
        finally:
            two.open()
        until(lambda: self.health()["two"] == "up")
        until(lambda: self.router.said("target .* of route checked is down: Connection refused"))
        until(lambda: self.router.said("target .* of route checked is up again"))
