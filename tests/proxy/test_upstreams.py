from __future__ import annotations

import contextlib
import gc
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from attrs import evolve

from dcrouter.config.actions import Forward
from dcrouter.config.health import Health, HealthType, Passive
from dcrouter.config.routes import RouteTls, Timeouts
from dcrouter.config.targets import Balance, Target, TargetMatch, UpstreamTls
from dcrouter.net.engine import Task
from dcrouter.net.slices import finished
from dcrouter.targets import checks
from dcrouter.targets.checks import Checks
from dcrouter.targets.target import LiveTarget
from tests.support.certificates import Authority
from tests.support.edge import Backend, EdgeTest, echo, route, says, secured
from tests.support.ends import descriptors
from tests.support.ports import Reserved
from tests.support.threaded import Talk

FAST = Health(type="tcp", interval=0.1, timeout=20.0, rise=2, fall=2)


class Door:
    """A port on loopback that is nobody else's: refuses everybody until `open`, and again after `shut`."""

    def __init__(self, test: EdgeTest, talk: Talk = echo) -> None:
        self._talk = talk
        self._reserved = Reserved()
        self._listener: socket.socket | None = None
        self.target = Target(host="127.0.0.1", port=self._reserved.port)
        test.addCleanup(self._reserved.close)
        test.addCleanup(self.shut)

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._reserved.port))
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
                with sock:
                    self._talk(sock)


class Switch:
    """A talk that can be exchanged while its backend runs."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk

    def __call__(self, sock: socket.socket) -> None:
        self.talk(sock)


def answers(status: bytes) -> Talk:
    return says(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")


class UpstreamTest(EdgeTest):
    def forward(self, *targets: Target, tls: Any = None, timeouts: Timeouts | None = None, **keys: Any) -> int:
        """A route `web` to these on a port of its own, which is given."""
        port = self.port()
        more = {"timeouts": timeouts} if timeouts is not None else {}
        ca_files = keys.pop("ca_files", None)
        self.open(route("web", port, Forward(targets=targets, **keys), tls=tls, **more), ca_files=ca_files)
        return port

    def closed(self) -> Target:
        """Where nobody listens."""
        return Door(self).target

    def targets(self) -> dict[str, dict[str, Any]]:
        """What the status says of the targets of `web`."""
        found: dict[str, dict[str, Any]] = self.edge.status()["targets"].get("web", {})
        return found

    def health(self, target: Target) -> str:
        return str(self.targets()[f"{target.host}:{target.port}"]["health"])

    def reason(self, target: Target) -> str:
        return str(self.targets()[f"{target.host}:{target.port}"].get("reason", ""))

    def wait_for(self, fact: Callable[[], Any]) -> None:
        """Turn the edge, its clock included, until it is so."""

        def turned() -> Any:
            self.loop.reactor.advance(0.05)
            return fact()

        self.loop.until(turned)


class BalanceTests(UpstreamTest):
    def test_weights_and_retries_meet_at_real_backends(self) -> None:
        """Three of five connections go to the heavy one; the turn of a dead one is taken by the next."""
        heavy, light = Backend(self, says(b"heavy")), Backend(self, says(b"light"))
        port = self.forward(evolve(heavy.target, weight=3), self.closed(), light.target, retries=2)
        counts = Counter(self.ask(port, b"x") for _ in range(20))
        self.assertEqual(counts, {b"heavy": 12, b"light": 8})

    def test_least_connections_avoids_the_busy_one(self) -> None:
        """As long as its connections live."""
        slow, other = Backend(self, echo), Backend(self, says(b"other"))
        port = self.forward(slow.target, other.target, balance="least-connections")
        with socket.create_connection(("127.0.0.1", port), 30) as held:
            held.sendall(b"x")
            self.loop.received(held)
            for _ in range(6):
                self.assertEqual(self.ask(port, b"x"), b"other")
                self.event()
            self.assertEqual(self.targets()[f"127.0.0.1:{slow.port}"]["active"], 1)
        self.loop.until(lambda: self.targets()[f"127.0.0.1:{slow.port}"]["active"] == 0)
        self.assertEqual(self.targets()[f"127.0.0.1:{other.port}"]["connections"], 6)

    def test_hash_client_ip_is_sticky(self) -> None:
        """Each client stays, and not all go to the same one."""
        backends = [Backend(self, says(name)) for name in (b"a", b"b", b"c")]
        port = self.forward(*(one.target for one in backends), balance="hash-client-ip")
        seen = {}
        for client in range(2, 22):
            answers = {self.ask(port, b"x", f"127.0.0.{client}") for _ in range(2)}
            self.assertEqual(len(answers), 1)
            seen[client] = answers.pop()
        self.assertGreater(len(set(seen.values())), 1)

    def test_a_backup_stands_in_when_connects_fail(self) -> None:
        """Without any check, as far as retries reach."""
        backup = Backend(self, says(b"backup"))
        port = self.forward(self.closed(), evolve(backup.target, backup=True))
        self.assertEqual(self.ask(port, b"x"), b"backup")
        self.assertEqual(self.event().target, f"127.0.0.1:{backup.port}")

    def test_every_way_of_balancing_serves_one_target_alone(self) -> None:
        """And a second one that is its backup."""
        ways: tuple[Balance, ...] = (
            "round-robin",
            "least-connections",
            "hash-client-ip",
            "random-two",
            "failover",
        )
        backend = Backend(self, says(b"here"))
        ports = {way: self.port() for way in ways}
        self.open(
            *(
                route(way, port, Forward(targets=(backend.target, evolve(self.closed(), backup=True)), balance=way))
                for way, port in ports.items()
            )
        )
        for way, port in ports.items():
            self.assertEqual(self.ask(port, b"x"), b"here", way)


class CheckTests(UpstreamTest):
    def test_a_target_goes_down_and_comes_back(self) -> None:
        """While it is down it gets nothing, and the status says why; a check, not a client, finds it up again."""
        first, second = Door(self, says(b"first")), Backend(self, says(b"second"))
        first.open()
        port = self.forward(first.target, second.target, balance="failover", health=FAST)
        self.wait_for(lambda: self.health(first.target) == "up")
        self.assertEqual(self.ask(port, b"x"), b"first")
        for _ in range(2):
            first.shut()
            self.wait_for(lambda: self.health(first.target) == "down")
            self.assertEqual(self.reason(first.target), "Connection refused")
            failed = dict(self.edge.failed_connects)
            self.assertEqual({self.ask(port, b"x") for _ in range(5)}, {b"second"})
            self.assertEqual(self.edge.failed_connects, failed)
            first.open()
            self.wait_for(lambda: self.health(first.target) == "up")
            self.assertEqual(self.reason(first.target), "")
            self.assertEqual(self.ask(port, b"x"), b"first")

    def test_one_check_that_breaks_is_not_the_last(self) -> None:
        """Whatever it was: it is logged."""
        asks, surprises = Checks._ask, [ValueError("a surprise")]

        async def ask(checks: Checks, task: Task, target: LiveTarget) -> str:
            if surprises:
                raise surprises.pop()
            return await asks(checks, task, target)

        self.patch(Checks, "_ask", ask)
        backend = Backend(self, says(b"here"))
        self.forward(backend.target, health=FAST)
        self.wait_for(lambda: self.health(backend.target) == "up")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_nobody_is_up(self) -> None:
        """The client's connection ends at once, and the event says why."""
        target = self.closed()
        port = self.forward(target, health=FAST)
        self.wait_for(lambda: self.health(target) == "down")
        self.assertEqual(self.ask(port, b"x"), b"")
        event = self.event()
        self.assertEqual(event.target, None)
        self.assertEqual(
            event.reason, f"no target: no target is up (127.0.0.1:{target.port} is down: Connection refused)"
        )

    def test_a_request_gets_503_where_nobody_is_up(self) -> None:
        """At once, and on the connection that goes on; the reason is in the log."""
        door = Door(self, answers(b"200 OK"))
        port = self.port()
        action = Forward(targets=(door.target,), health=FAST)
        self.open(route("web", port, action, domains=("a.test",)))
        self.wait_for(lambda: self.health(door.target) == "down")
        request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            sock.settimeout(5)

            def answer() -> bytes:
                sock.sendall(request)
                return sock.recv(65536)[:12]

            self.assertEqual(self.client(answer), b"HTTP/1.1 503")
            door.open()
            self.wait_for(lambda: self.health(door.target) == "up")
            self.assertEqual(self.client(answer), b"HTTP/1.1 200")

    def test_http_asks_and_listens(self) -> None:
        """The status decides; what it was is the reason."""
        talk = Switch(answers(b"200 OK"))
        asked: list[bytes] = []

        def recorded(sock: socket.socket) -> None:
            asked.append(sock.recv(4096, socket.MSG_PEEK))
            talk(sock)

        backend = Backend(self, recorded)
        self.forward(backend.target, health=evolve(FAST, type="http", path="/health", expect=(200, 204)))
        self.wait_for(lambda: self.health(backend.target) == "up")
        host = f"127.0.0.1:{backend.port}".encode()
        self.assertTrue(asked[0].startswith(b"GET /health HTTP/1.1\r\nHost: " + host + b"\r\n"), asked[0])
        talk.talk = answers(b"503 Service Unavailable")
        self.wait_for(lambda: self.health(backend.target) == "down")
        self.assertEqual(self.reason(backend.target), "answered 503 Service Unavailable")
        talk.talk = answers(b"204 No Content")
        self.wait_for(lambda: self.health(backend.target) == "up")
        talk.talk = lambda sock: None
        self.wait_for(lambda: self.health(backend.target) == "down")

    def test_a_target_that_accepts_and_says_nothing_is_down(self) -> None:
        """For every type that expects an answer; a connect alone is good enough for `tcp`."""
        release = threading.Event()
        self.addCleanup(release.set)
        kinds: tuple[HealthType, ...] = ("tcp", "tls", "http", "smtp")
        backends = {kind: Backend(self, lambda sock: release.wait(20) and None) for kind in kinds}
        self.open(
            *(
                route(kind, self.port(), Forward(targets=(one.target,), health=evolve(FAST, type=kind, timeout=0.5)))
                for kind, one in backends.items()
            )
        )

        def known() -> Any:
            told = self.edge.status()["targets"]
            found = {kind: told[kind][f"127.0.0.1:{one.port}"] for kind, one in backends.items()}
            return "unknown" not in {one["health"] for one in found.values()} and found

        self.wait_for(known)
        said = known()
        self.assertEqual(said["tcp"]["health"], "up")
        for kind in kinds[1:]:
            self.assertEqual((said[kind]["health"], said[kind]["reason"]), ("down", "check timeout"), kind)

    def test_smtp_greets(self) -> None:
        """As a server that is closed for maintenance does not."""

        def closed(sock: socket.socket) -> None:
            sock.sendall(b"554 5.3.2 not today\r\n")
            sock.recv(100)

        heard: list[bytes] = []

        def well(sock: socket.socket) -> None:
            sock.sendall(b"220 mail.test\r\n")
            heard.append(sock.recv(100))
            sock.sendall(b"250-mail.test\r\n250 PIPELINING\r\n")
            heard.append(sock.recv(100))

        good, bad = Backend(self, well), Backend(self, closed)
        self.forward(good.target, bad.target, health=evolve(FAST, type="smtp"))
        self.wait_for(lambda: (self.health(good.target), self.health(bad.target)) == ("up", "down"))
        self.assertEqual(self.reason(bad.target), "greeting: 554 5.3.2 not today")
        self.wait_for(lambda: b"QUIT\r\n" in heard)
        self.assertTrue(heard[0].startswith(b"EHLO "))

    def test_tls_on_a_route_that_re_encrypts_verifies_as_its_connections_do(self) -> None:
        """A target with a certificate of another name is down, for that reason."""
        authority = Authority()
        right = Backend(self, secured(echo, authority.credential(["app.test"]), self.directory))
        wrong = Backend(self, secured(echo, authority.credential(["other.test"]), self.directory))
        ca = self.directory / "ca.pem"
        ca.write_bytes(authority.root_pem)
        tls = RouteTls(mode="terminate-and-reencrypt", upstream=UpstreamTls(ca=ca, server_name="app.test"))
        self.forward(
            right.target, wrong.target, tls=tls, health=evolve(FAST, type="tls"), ca_files={str(ca): authority.root_pem}
        )
        self.wait_for(lambda: (self.health(right.target), self.health(wrong.target)) == ("up", "down"))
        self.assertIn("not for app.test but for other.test", self.reason(wrong.target))

    def test_checks_of_a_passthrough_route_speak_tls_and_believe_everybody(self) -> None:
        """By the route's name: as its clients would, who verify by themselves."""
        names: list[str | None] = []

        def remember(sock: Any) -> None:
            names.append(sock.asked)
            answers(b"200 OK")(sock)

        backend = Backend(self, self.naming(remember))
        port = self.port()
        self.open(
            route(
                "web",
                port,
                Forward(targets=(backend.target,), health=evolve(FAST, type="http")),
                tls="passthrough",
                domains=("*.shop.test", "shop.test"),
            )
        )
        self.wait_for(lambda: self.health(backend.target) == "up")
        self.assertEqual(set(names), {"shop.test"})

    def naming(self, talk: Talk) -> Talk:
        """`talk` behind TLS, with the name that was asked for as the socket's `asked`."""
        import ssl

        credential = Authority().credential(["anybody.test"])
        (self.directory / "naming.pem").write_bytes(credential.chain + credential.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "naming.pem")

        class Named(ssl.SSLSocket):
            asked: str | None = None

        context.sslsocket_class = Named

        def remember(sock: Any, name: str | None, _: Any) -> None:
            sock.asked = name

        context.sni_callback = remember

        def wrapped(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as session:
                talk(session)

        return wrapped

    def test_a_name_without_an_address_is_no_verdict(self) -> None:
        """At a start DNS may be late: the target is not down for it, and is asked as soon as it is known."""
        backend = Backend(self, echo)
        named = Target(host="late.test", port=backend.port)
        port = self.forward(named, health=evolve(FAST, interval=60.0))
        self.wait_for(lambda: self.reason(named) == "its name has no known address")
        self.assertEqual(self.health(named), "unknown")
        self.edge.addresses.update({"late.test": ["127.0.0.1"]})
        self.wait_for(lambda: self.health(named) == "up")
        self.assertEqual(self.reason(named), "")
        del port

    def test_targets_are_not_blamed_for_our_want_of_descriptors(self) -> None:
        """Neither by checks nor by connections that cannot be made."""
        backend = Backend(self, echo)
        port = self.forward(
            backend.target, health=Health(type="tcp", interval=0.1, fall=1, passive=Passive(failures=1))
        )
        self.wait_for(lambda: self.health(backend.target) == "up")
        client = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(client.close)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        self.wait_for(lambda: self.reason(backend.target) == "Too many open files")
        self.assertEqual(self.health(backend.target), "up")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.wait_for(lambda: self.reason(backend.target) == "" and self.health(backend.target) == "up")
        self.assertEqual(self.targets()[f"127.0.0.1:{backend.port}"].get("ejections"), None)

    def test_many_targets_are_asked_in_their_turn(self) -> None:
        """So many at once and no more, and all of them."""
        self.patch(checks, "_gate", checks.Gate(4))
        open_now: set[socket.socket] = set()
        counts: list[int] = []
        lock = threading.Lock()

        def count(sock: socket.socket) -> None:
            with lock:
                open_now.add(sock)
                counts.append(len(open_now))
            sock.recv(4096)
            time.sleep(0.01)
            with lock:
                open_now.discard(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        backend = Backend(self, count, address="0.0.0.0")
        targets = [Target(host=f"127.0.1.{last}", port=backend.port) for last in range(1, 41)]
        self.forward(*targets, health=Health(type="http", interval=60.0, timeout=10.0))
        self.wait_for(lambda: {self.health(target) for target in targets} == {"up"})
        self.assertEqual(len(counts), 40)
        self.assertLessEqual(max(counts), 4)

    def test_checks_leave_no_descriptor_behind(self) -> None:
        """Good or bad, and none after the end."""
        backend, target = Backend(self, lambda sock: None), self.closed()
        self.forward(backend.target, target, health=evolve(FAST, type="http", interval=0.1))
        self.wait_for(lambda: self.health(target) == "down" and self.health(backend.target) == "down")
        before = descriptors()
        asked = backend.connections
        self.wait_for(lambda: backend.connections > asked + 10)
        self.wait_for(lambda: len(descriptors() - before) <= 2)
        for service in self.edge.plan.services:
            service.end()
        self.assertEqual(len(self.edge.engine.tasks), 0)


class PassiveTests(UpstreamTest):
    def test_a_target_that_fails_too_often_is_left_out_for_a_while(self) -> None:
        """Its failures cost no client anything; then it is tried again."""
        dead, other = self.closed(), Backend(self, says(b"other"))
        port = self.forward(
            dead,
            other.target,
            balance="failover",
            health=Health(passive=Passive(failures=3, within=30.0, eject=0.6)),
        )
        self.assertEqual({self.ask(port, b"x") for _ in range(3)}, {b"other"})
        label = f"127.0.0.1:{dead.port}"
        self.assertEqual(self.health(dead), "ejected")
        self.assertEqual(self.ask(port, b"x"), b"other")
        self.assertEqual(self.edge.failed_connects[label], 3)
        self.wait_for(lambda: self.health(dead) == "unchecked")
        self.assertEqual(self.ask(port, b"x"), b"other")
        self.assertEqual(self.edge.failed_connects[label], 4)


class MatchTests(UpstreamTest):
    def test_each_request_of_a_connection_goes_where_it_is_meant(self) -> None:
        """Kept alive or not: the header decides, request by request."""

        def serving(name: bytes) -> Talk:
            def serve(sock: socket.socket) -> None:
                while sock.recv(65536):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + name)

            return serve

        one, two = Backend(self, serving(b"v1")), Backend(self, serving(b"v2"))
        port = self.forward(one.target, evolve(two.target, match=TargetMatch(headers={"x-api-version": "v2"})))

        def run() -> list[bytes]:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                found = []
                for version in (b"v2", b"v1", b"v2", b"v3"):
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Api-Version: " + version + b"\r\n\r\n")
                    found.append(sock.recv(65536)[-2:])
                return found

        self.assertEqual(self.client(run), [b"v2", b"v1", b"v2", b"v1"])

    def test_clients_have_targets_of_their_own(self) -> None:
        """On tcp routes too."""
        everybody, office = Backend(self, says(b"everybody")), Backend(self, says(b"office"))
        port = self.forward(
            everybody.target, evolve(office.target, match=TargetMatch(client_ips=(ip_network("127.0.0.8/29"),)))
        )
        self.assertEqual(self.ask(port, b"x"), b"everybody")
        self.assertEqual(self.ask(port, b"x", "127.0.0.9"), b"office")


class ReloadTests(UpstreamTest):
    def reload(self, *routes: Any) -> None:
        """Another table for the edge that runs."""
        config = evolve(self.edge.plan.config, routes=routes)
        self.edge.reload(finished(self.edge.prepare(config, {})), self.edge.chooser, self._observed)

    def test_what_was_learnt_of_targets_outlives_a_reload(self) -> None:
        """Health, load and turn are those of before; checks go on, once for each target; unwatched, all are up."""
        up, down = Backend(self, echo), Door(self)
        port = self.forward(up.target, down.target, health=FAST)
        self.wait_for(lambda: (self.health(up.target), self.health(down.target)) == ("up", "down"))
        (before,) = (one.route for one in self.edge.plan.routes)
        with socket.create_connection(("127.0.0.1", port), 30) as held:
            held.sendall(b"x")
            self.loop.received(held)
            tasks = len(self.edge.engine.tasks)
            assert isinstance(before.action, Forward)
            self.reload(evolve(before, action=evolve(before.action, balance="least-connections")))
            told = self.targets()
            self.assertEqual(len(self.edge.engine.tasks), tasks)
            self.assertEqual((self.health(up.target), self.health(down.target)), ("up", "down"))
            self.assertEqual(told[f"127.0.0.1:{up.port}"]["active"], 1)
            down.open()
            self.wait_for(lambda: self.health(down.target) == "up")
            down.shut()
            self.wait_for(lambda: self.health(down.target) == "down")
            self.reload(evolve(before, action=evolve(before.action, health=None)))
            self.assertEqual(self.health(down.target), "unchecked")
            self.assertEqual(len(self.edge.engine.tasks), tasks - 2)
        self.loop.until(lambda: self.targets()[f"127.0.0.1:{up.port}"]["active"] == 0)

    def test_a_target_that_leaves_is_forgotten(self) -> None:
        """And when it comes back it is one that nobody knows."""
        one, gone = Backend(self, says(b"one")), self.closed()
        self.forward(one.target, gone, health=FAST)
        self.wait_for(lambda: self.health(gone) == "down")
        (before,) = (bound.route for bound in self.edge.plan.routes)
        assert isinstance(before.action, Forward)
        self.reload(evolve(before, action=evolve(before.action, targets=(one.target,))))
        self.assertEqual(list(self.targets()), [f"127.0.0.1:{one.port}"])
        self.wait_for(lambda: len(self.edge.engine.tasks) == 1)
        gc.collect()
        self.reload(before)
        self.assertEqual(self.health(gone), "unknown")
        self.wait_for(lambda: self.health(gone) == "down")


class NameTests(UpstreamTest):
    def test_kept_connections_do_not_hold_a_name_to_its_old_address(self) -> None:
        """Once it has another one, each request goes there, although a connection to the old one waits."""

        def serving(name: bytes) -> Talk:
            def serve(sock: socket.socket) -> None:
                while sock.recv(65536):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + name)

            return serve

        old = Backend(self, serving(b"old"))
        new = Backend(self, serving(b"new"), address="127.0.0.2", port=old.port)
        port = self.port()
        action = Forward(targets=(Target(host="app.test", port=old.port),))
        self.open(route("web", port, action, domains=("a.test",)))
        names = {"app.test": ["127.0.0.1"], "other.test": ["192.0.2.1"]}
        self.edge.addresses.update(names)
        request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            sock.settimeout(5)

            def answer() -> bytes:
                sock.sendall(request)
                return sock.recv(65536)[-3:]

            self.assertEqual([self.client(answer) for _ in range(2)], [b"old", b"old"])
            self.edge.addresses.update({**names, "other.test": ["192.0.2.2"]})
            self.assertEqual([self.client(answer) for _ in range(2)], [b"old", b"old"])
            self.assertEqual(old.connections, 1)
            self.edge.addresses.update({**names, "app.test": ["127.0.0.2"]})
            self.assertEqual([self.client(answer) for _ in range(2)], [b"new", b"new"])
            self.assertEqual((old.connections, new.connections), (1, 1))
