"""Reloads of the whole service, with connections that must not notice."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.client import ApiError, ask
from tests.support.knock import knock
from tests.support.ports import reserved
from tests.support.router import Router, both_ends, until
from tests.support.threaded import Threaded

RELOADS = 200
LONGEST = 60.0
"""Seconds after which fewer reloads are enough, on a machine that has other work."""
LIVE = 30
STREAMS = 10


def echo(sock: socket.socket) -> None:
    """Gives back what comes, for as long as it comes; a request for /ws is upgraded first."""
    while data := sock.recv(65536):
        if data.startswith(b"GET /ws "):
            data = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        sock.sendall(data)


def echoes(sock: socket.socket, text: bytes) -> bool:
    """Whether `text` goes to the backend and comes back."""
    sock.sendall(text)
    left = text
    while left:
        data = sock.recv(len(left))
        if not data or not left.startswith(data):
            return False
        left = left[len(data) :]
    return True


ECHO = """
routes:
  - name: echo
    match: {ports: $echo}
    action: {type: forward, target: {host: 127.0.0.1, port: $backend}}
"""
WEB = """
  - name: web
    match: {ports: $page, path: [/ws]}
    action: {type: forward, target: {host: 127.0.0.1, port: $backend}}
"""
OTHER = """
  - name: other
    match: {ports: $other}
    action: {type: forward, target: {host: localhost, port: $backend}}
"""
PAGE = """
  - name: page
    match: {ports: $page}
    action: {type: respond, body: first}
"""
MAIL = """
email:
  hostname: mail.example.test
  postmaster: admin@in.example
  ports: [{port: $mail, kind: smtp}]
  rules:
    - {name: in, match: {recipients: ["*@in.example"]}, action: {type: deliver, maildir: "mail/{recipient}"}}
"""


class ReloadTest(SynchronousTestCase):
    """A service with a backend that echoes."""

    text = ECHO
    names: tuple[str, ...] = ("echo", "other", "page", "mail")

    def setUp(self) -> None:
        self.backend = Threaded(echo)
        self.addCleanup(self.backend.close)
        self.router = Router(self.text, ports=self.names, backend=self.backend.port)
        self.addCleanup(self.router.close)

    def good(self) -> dict[str, Any]:
        """A reload that succeeds."""
        outcome = self.router.reload()
        self.assertEqual(outcome["problems"], [])
        return outcome

    def refused(self, *problems: str) -> None:
        """A reload that is refused, with these words in its problems, one each."""
        outcome = self.router.reload()
        self.assertFalse(outcome["ok"])
        self.assertEqual(len(outcome["problems"]), len(problems), outcome["problems"])
        for said, expected in zip(outcome["problems"], problems, strict=True):
            self.assertIn(expected, said)
        self.router.expected += [r"reload: "]

    def client(self, name: str) -> socket.socket:
        client = self.router.connect(name)
        self.addCleanup(client.close)
        return client


class UnderLoadTests(ReloadTest):
    def test_hundreds_of_reloads_break_nothing(self) -> None:
        """Connections that live through all of them, and those that come and go meanwhile, are all served whole; ports,
        targets and limits change with each.
        """
        broken: list[str] = []
        served = [0, 0]
        over = threading.Event()

        def live(client: socket.socket, number: int) -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                try:
                    if not echoes(client, b"%d-%d." % (number, turn) * 50):
                        broken.append(f"live {number} ended in turn {turn}")
                        return
                except OSError as error:
                    broken.append(f"live {number} in turn {turn}: {error}")
                    return
                served[0] += 1
                time.sleep(0.005)

        def come_and_go(number: int) -> None:
            while not over.is_set():
                try:
                    with self.router.connect("echo") as client:
                        if not echoes(client, b"short"):
                            broken.append(f"short {number} ended")
                except OSError as error:
                    broken.append(f"short {number}: {error}")
                served[1] += 1

        self.router.write(ECHO + WEB)
        self.good()
        clients = [self.client("echo") for _ in range(LIVE)] + [self.upgraded() for _ in range(STREAMS)]
        threads = [threading.Thread(target=live, args=(client, number)) for number, client in enumerate(clients)]
        threads += [threading.Thread(target=come_and_go, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        variants = (
            ECHO + OTHER + WEB,
            ECHO + WEB.replace("name: web", "name: web-sockets"),
            ECHO.replace("host: 127.0.0.1", "host: localhost"),
            ECHO + "    security: {max_connections_per_ip: 1000}\n" + OTHER + PAGE,
        )
        began, count = time.monotonic(), 0
        try:
            while count < RELOADS and (count < RELOADS // 4 or time.monotonic() - began < LONGEST):
                self.router.write(variants[count % len(variants)])
                self.good()
                count += 1
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
        self.assertEqual(broken, [])
        self.assertGreater(served[0], count)
        self.assertGreater(served[1], 0)
        route = self.router.counters("edge")["routes"]["echo"]
        self.assertEqual(route["connections"], LIVE + served[1])
        status = self.router.status()
        assert status is not None
        self.assertEqual(status["reloads"]["count"], count + 1)
        self.assertEqual([child["restarts"] for child in status["children"].values()], [0])

    def upgraded(self) -> socket.socket:
        """A WebSocket stream through the HTTP route."""
        client = self.client("page")
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.assertIn(b" 101 ", head)
        return client

    def test_signals_that_come_at_once_are_one_reload_or_two(self) -> None:
        """Those that come while one runs share the next, which reads the file as it is then."""
        assert self.router.process is not None
        client = self.client("echo")
        self.router.write(ECHO + OTHER)
        for _ in range(20):
            self.router.process.send_signal(signal.SIGHUP)
        until(lambda: self.router.said("reloaded from"))
        with until(lambda: _connected(self.router, "other")) as other:
            self.assertTrue(echoes(other, b"there"))
        self.assertTrue(echoes(client, b"still here"))


class ChangeTests(ReloadTest):
    def test_an_admin_socket_that_was_removed(self) -> None:
        """The command line says how it comes back: by SIGHUP; a reload through it cannot be asked for."""
        process = self.router.process
        assert process is not None
        (self.router.state / "admin.sock").unlink()
        self.assertIn(f"`kill -HUP {process.pid}` brings it back", self.router.command_line("status").stderr)
        process.send_signal(signal.SIGHUP)
        until(self.router.status)
        self.good()
        self.router.expected += ["was removed, and is there again"]
        (self.router.state / "admin.sock").unlink()
        self.assertEqual(self.router.stop(), 0)

    def test_a_port_is_added_and_removed(self) -> None:
        """Its connections live on when it is gone; others are refused, and the port is free again."""
        self.router.write(ECHO + OTHER)
        outcome = self.good()
        self.assertEqual(outcome["changes"], "routes: 1 added")
        client = self.client("other")
        self.assertTrue(echoes(client, b"there"))
        self.router.write(ECHO)
        self.assertEqual(self.good()["changes"], "routes: 1 removed")
        self.assertTrue(echoes(client, b"still there"))
        self.assertRaises(ConnectionRefusedError, self.router.connect, "other")
        status = self.router.status()
        assert status is not None
        self.assertEqual([listener["port"] for listener in status["listeners"]], [self.router.ports["echo"]])

    def test_counters_and_limits_go_on(self) -> None:
        """Who is connected counts for the route of the same name, and for a limit that is new."""
        one, two = self.client("echo"), self.client("echo")
        for client in (one, two):
            self.assertTrue(echoes(client, b"in"))
        limited = ECHO + "    security: {max_connections: 2}\n"
        self.router.write(limited)
        self.assertEqual(self.good()["changes"], "routes: 1 changed")
        self.assertEqual(knock(self.router.ports["echo"]).data, b"")
        one.close()
        until(lambda: self.router.counters("edge")["routes"]["echo"]["active"] == 1)
        self.assertTrue(echoes(self.client("echo"), b"in"))
        self.assertEqual(self.router.counters("edge")["routes"]["echo"]["ends"]["done"], 1)

    def test_a_wildcard_takes_the_place_of_an_address_and_back(self) -> None:
        """The port is open without a gap, for connections there are and those that come."""
        common = 'version: 1\nlisten: ["%s"]\naccess_log: {file: access.log}\n'
        for address in ("0.0.0.0", "127.0.0.1", "0.0.0.0"):
            client = self.client("echo")
            self.router.write(ECHO, common=common % address)
            self.assertEqual(self.good()["changes"], "listen changed")
            self.assertTrue(echoes(client, b"before"))
            self.assertTrue(echoes(self.client("echo"), b"after"))
            status = self.router.status()
            assert status is not None
            self.assertEqual([listener["address"] for listener in status["listeners"]], [address])

    def test_the_next_request_of_a_kept_connection_meets_the_new_routes(self) -> None:
        """And the connection is the same."""
        self.router.write(ECHO + PAGE)
        self.good()
        client = self.client("page")
        request = b"GET / HTTP/1.1\r\nHost: x.example\r\n\r\n"
        self.assertIn(b"first", _answer(client, request))
        self.router.write(ECHO + PAGE.replace("first", "second"))
        self.good()
        self.assertIn(b"second", _answer(client, request))
        page = until(lambda: self.router.counters("edge")["routes"]["page"])
        self.assertEqual((page["connections"], page["requests"], page["responses"]), (1, 2, {"2xx": 2}))

    def test_the_access_log_moves(self) -> None:
        """Lines of connections that end from then on are in the new file; without the key nothing is written."""
        client = self.client("echo")
        ends = both_ends(client)
        self.router.write(ECHO, common='version: 1\nlisten: ["127.0.0.1"]\naccess_log: {file: other.log}\n')
        self.assertEqual(self.good()["changes"], "access_log changed")
        client.close()
        other = self.router.state / "other.log"
        until(lambda: other.exists() and f"{ends['peer'][1]}" in other.read_text())
        self.assertEqual(self.router.access_lines(), [])
        self.router.write(ECHO, common='version: 1\nlisten: ["127.0.0.1"]\n')
        self.good()
        size = other.stat().st_size
        with self.router.connect("echo") as late:
            self.assertTrue(echoes(late, b"x"))
        until(lambda: self.router.counters("edge")["active"] == 0)
        self.good()  # what was on its way to the file has come by then
        self.assertEqual(other.stat().st_size, size)

    def test_descriptors_and_connections_are_what_they_were(self) -> None:
        """Fifty reloads leave nothing open."""
        self.router.write(ECHO + OTHER)
        self.good()
        before = {role: len(os.listdir(f"/proc/{pid}/fd")) for role, pid in self.router.pids().items()}
        for text in (ECHO, ECHO + OTHER) * 25:
            self.router.write(text)
            self.good()
        pids = self.router.pids()
        for role in before:  # who has asked is let go a moment later
            until(lambda role=role: len(os.listdir(f"/proc/{pids[role]}/fd")) <= before[role] + 2)


class RefusalTests(ReloadTest):
    def test_a_bad_file_changes_nothing_and_says_why(self) -> None:
        """The command exits with 1 and prints every problem with its place; status and log show the same; what was in
        use stays. A good file later works.
        """
        client = self.client("echo")
        (self.router.base / "routes.yaml").write_text("routes:\n  - {name: x}\nbogus: 1\n")
        done = subprocess.run(
            [sys.executable, "-m", "dcrouter.admin.cli", "reload"],
            cwd=self.router.base,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        lines = done.stderr.splitlines()
        self.assertIn("routes.yaml:3:1: bogus", done.stderr)
        self.assertEqual(lines[-1], "dcrouter: nothing has changed")
        status = self.router.status()
        assert status is not None
        self.assertEqual((status["reloads"]["count"], status["reloads"]["failed"]), (1, 1))
        self.assertEqual(status["reloads"]["last"]["problems"], lines[:-1])
        self.assertTrue(self.router.said("nothing has changed"))
        self.router.expected += ["reload: "]
        self.assertTrue(echoes(client, b"here"))
        self.assertTrue(echoes(self.client("echo"), b"here"))
        (self.router.base / "routes.yaml").unlink()
        self.refused("routes.yaml")
        os.mkfifo(self.router.base / "routes.yaml")  # nobody writes into it: reading it would stop everything
        self.refused("routes.yaml: is not a file, and cannot be read again")
        (self.router.base / "routes.yaml").unlink()
        self.router.write(ECHO + OTHER)
        self.good()
        self.assertTrue(echoes(self.client("other"), b"here"))

    def test_keys_that_need_a_restart_are_named(self) -> None:
        """All of them at once; what else has changed in the file is not taken either."""
        common = 'version: 1\nlisten: ["127.0.0.1"]\nstate_dir: elsewhere\nlog: {format: text}\n'
        self.router.write(ECHO + OTHER + MAIL, common=common)
        self.refused("state_dir: ", "admin.socket: ", "log.format: ", "email: ")
        self.assertRaises(ConnectionRefusedError, self.router.connect, "other")
        self.assertRaises(ConnectionRefusedError, self.router.connect, "mail")
        self.router.write(ECHO)
        self.good()

    def test_a_certificate_that_is_not_there_refuses_all(self) -> None:
        """As does one whose key is another's, and an authority that cannot be read."""
        tls = "\n    tls: {mode: terminate, certificate: {cert: $base/no.pem, key: $base/no.key}}\n"
        self.router.write(ECHO + OTHER.rstrip() + tls)
        self.refused("no.pem", "no.key")
        files = "{cert: $base/a.pem, key: $base/a.key}"
        for name in ("a.pem", "a.key"):
            (self.router.base / name).write_text("no certificate")
        self.router.write(ECHO + OTHER.rstrip() + f"\n    tls: {{mode: terminate, certificate: {files}}}\n")
        self.refused("a.pem", "a.key")
        upstream = "\n    tls: {mode: terminate-and-reencrypt, upstream: {ca: $base/no.pem}}\n"
        self.router.write(ECHO + OTHER.rstrip() + upstream)
        self.refused("no.pem")
        self.assertRaises(ConnectionRefusedError, self.router.connect, "other")
        self.assertTrue(echoes(self.client("echo"), b"here"))

    def test_a_port_that_somebody_else_has_refuses_all(self) -> None:
        """Nothing of the file is taken, not even its other ports; when the port is free it is."""
        port = reserved(self)
        with socket.create_server(("127.0.0.1", port)):
            text = ECHO + OTHER + f"  - {{name: taken, match: {{ports: {port}}}, action: {{type: block}}}}\n"
            self.router.write(text)
            self.refused(f"127.0.0.1:{port} (route taken): the port is taken")
            self.assertRaises(ConnectionRefusedError, self.router.connect, "other")
        self.good()
        self.assertTrue(echoes(self.client("other"), b"here"))


class ProcessTests(ReloadTest):
    text = ECHO + MAIL

    def test_while_the_mail_process_starts_again(self) -> None:
        """It begins with the one configuration or the other, and ends up with the new one."""
        live = self.client("echo")
        for domain in ("one.example", "two.example", "three.example"):
            os.kill(self.router.pids()["mail"], signal.SIGKILL)
            self.router.write(ECHO + MAIL.replace("in.example", domain))
            outcome = self.router.reload()
            if not outcome["ok"]:
                # It died while it made ready: that is a refusal like any other, and the operator tries again.
                self.assertIn("mail", outcome["problems"][0])
                self.good()
            self.assertEqual(until(partial(_recipient, self.router, f"a@{domain}"))[:3], "250")
        self.assertTrue(echoes(live, b"not touched"))
        self.router.expected += ["has died", "reload: ", "another process takes its place"]

    def test_an_edge_that_died_comes_back_with_the_new_routes(self) -> None:
        """The ports stay open meanwhile."""
        self.router.write(ECHO + OTHER + MAIL)
        self.good()
        os.kill(self.router.pids()["edge"], signal.SIGKILL)
        self.assertTrue(echoes(self.client("other"), b"here"))
        self.router.expected += ["has died"]

    def test_not_while_it_drains(self) -> None:
        """A service that ends is not changed any more; its connections have the time they were promised."""
        client = self.client("echo")
        self.assertTrue(echoes(client, b"here"))
        assert self.router.process is not None
        ask(self.router.state / "admin.sock", "POST", "/drain")
        until(lambda: (self.router.status() or {}).get("state") == "draining")
        self.refused("the service is stopping")
        self.assertRaises(ConnectionRefusedError, self.router.connect, "echo")
        self.assertTrue(echoes(client, b"still here"))
        client.close()
        self.assertEqual(self.router.process.wait(240), 0)

    def test_sessions_of_mail_meet_the_new_rules(self) -> None:
        """The connection and what was said on it stay; the next RCPT is decided by what is in force then."""
        with self.router.connect("mail") as client, client.makefile("rwb") as talk:
            self.assertEqual(talk.readline()[:3], b"220")
            self.assertEqual(_says(talk, "HELO x.example")[:3], "250")
            self.assertEqual(_says(talk, "MAIL FROM:<s@x.example>")[:3], "250")
            self.assertEqual(_says(talk, "RCPT TO:<a@new.example>")[:3], "550")
            self.router.write(ECHO + MAIL.replace("in.example", "new.example"))
            self.assertEqual(self.good()["changes"], "email changed")
            self.assertEqual(_says(talk, "RCPT TO:<a@in.example>")[:3], "550")
            self.assertEqual(_says(talk, "RCPT TO:<a@new.example>")[:3], "250")
            self.assertEqual(_says(talk, "DATA")[:3], "354")
            self.assertEqual(_says(talk, "Subject: x\r\n\r\nx\r\n.")[:3], "250")
        until(lambda: self.router.counters("mail").get("delivered") == 1)
        self.assertTrue((self.router.state / "mail" / "a@new.example").is_dir())

    def test_a_rule_that_was_gone_takes_its_mail_up_again(self) -> None:
        """Held mail whose rule is back is due at once."""
        out = (
            '    - {name: far, match: {recipients: ["*@far.example"]}, action: {type: forward, targets: '
            f"[{{host: 127.0.0.1, port: {reserved(self)}}}]}}}}\n"
        )
        self.router.write(ECHO + MAIL + out)
        self.good()
        self.assertEqual(_mail(self.router, "a@far.example")[:3], "250")
        until(lambda: [one["state"] for one in self.router.queue()] == ["deferred"])
        self.router.write(ECHO + MAIL)
        self.good()
        ask(self.router.state / "admin.sock", "POST", "/queue/retry", {"all": True})
        until(lambda: [one["state"] for one in self.router.queue()] == ["held"])
        here = '    - {name: far, match: {recipients: ["*@far.example"]}, action: {type: deliver, maildir: "far"}}\n'
        self.router.write(ECHO + MAIL + here)
        self.good()
        until(lambda: self.router.queue() == [])


class ActivationTests(SynchronousTestCase):
    def test_sockets_that_are_passed_to_us_are_used(self) -> None:
        """systemd binds; the service listens on what it was given, binds the rest, and a reload does not close them."""
        program = shutil.which("systemd-socket-activate")
        if program is None:
            self.skipTest("systemd-socket-activate is not installed")
        backend = Threaded(echo)
        self.addCleanup(backend.close)
        router = Router(ECHO + OTHER, ports=("echo", "other", "spare"), backend=backend.port, start=False)
        self.addCleanup(router.close)
        given = [f"--listen=127.0.0.1:{router.ports[name]}" for name in ("echo", "spare")]
        router.command = (program, *given, *router.command)
        router.free("echo", "spare")
        threading.Thread(target=self.knock, args=(router, "echo"), daemon=True).start()
        router.start()
        router.expected += ["was passed to us", "Listening on", "Communication attempt", "Execing"]
        for name in ("echo", "other"):
            with router.connect(name) as client:
                self.assertTrue(echoes(client, b"here"), name)
        self.assertTrue(router.said(f":{router.ports['spare']} was passed to us"))
        with router.connect("spare") as waiting:
            router.write(ECHO.replace("$echo", "$spare"))
            self.assertEqual(router.reload()["problems"], [])
            self.assertTrue(echoes(waiting, b"served at last"))
        router.write(ECHO)
        self.assertEqual(router.reload()["problems"], [])
        with router.connect("echo") as client:
            self.assertTrue(echoes(client, b"never closed"))

    def knock(self, router: Router, name: str) -> None:
        """systemd-socket-activate starts the program when somebody connects."""
        until(lambda: _connected(router, name)).close()


def _connected(router: Router, name: str) -> socket.socket | None:
    try:
        return router.connect(name)
    except (ConnectionRefusedError, ConnectionResetError):
        return None


def _answer(client: socket.socket, request: bytes) -> bytes:
    """A response with its length."""
    client.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(4096)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0])

    while len(body) < length:
        body += client.recv(4096)
    return head + body


def _says(talk: Any, line: str) -> str:
    talk.write(line.encode() + b"\r\n")
    talk.flush()
    reply: bytes = talk.readline()
    while reply[3:4] == b"-":
        reply = talk.readline()
    return reply.decode()


def _recipient(router: Router, address: str) -> str | None:
    """The reply to RCPT; None while there is nobody to ask."""
    try:
        with router.connect("mail") as client, client.makefile("rwb") as talk:
            if talk.readline()[:3] != b"220":
                return None
            _says(talk, "HELO x.example")
            _says(talk, "MAIL FROM:<s@x.example>")
            return _says(talk, f"RCPT TO:<{address}>") or None
    except (OSError, ApiError):
        return None


def _mail(router: Router, address: str) -> str:
    """A message to `address`: the last reply."""
    with router.connect("mail") as client, client.makefile("rwb") as talk:
        talk.readline()
        for line in ("HELO x.example", "MAIL FROM:<s@x.example>", f"RCPT TO:<{address}>", "DATA"):
            _says(talk, line)
        return _says(talk, "Subject: x\r\n\r\nx\r\n.")
