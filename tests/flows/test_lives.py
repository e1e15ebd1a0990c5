"""Processes that are killed, stopped and refused while clients are there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.service.__main__ import NICE
from tests.support.edge import Backend, echo, read_all
from tests.support.mailboxes import messages
from tests.support.ports import refuses
from tests.support.router import RUN, Router, both_ends, is_alive, until
from tests.support.threaded import Talk

TEXT = """
defaults: {timeouts: {drain: $drain}}
routes:
  - name: page
    match: {ports: $http}
    action: {type: respond, body: "a page"}
  - name: plain
    match: {ports: $plain}
    action: {type: forward, target: {host: 127.0.0.1, port: $backend}}
email:
  hostname: mail.example.test
  postmaster: postmaster@example.test
  ports: [{port: $mail, kind: smtp}]
  rules:
    - {name: local, match: {recipients: ["*@example.test"]}, action: {type: deliver, maildir: "maildir/all"}}
"""
PORTS = ("http", "plain", "mail")
DIED = ("has died: killed by SIGKILL",)
TWISTD = str(Path(sys.executable).with_name("twistd"))


class LivesCase(SynchronousTestCase):
    def open(self, drain: str = "5s", expected: tuple[str, ...] = (), talk: Talk = echo) -> Router:
        backend = Backend(self, talk)
        router = Router(TEXT, ports=PORTS, expected=expected, backend=backend.port, drain=drain)
        self.addCleanup(router.close)
        return router

    def page(self, router: Router) -> bytes:
        with router.connect("http") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return read_all(client)


class TestPriorities(LivesCase):
    def test_mail_gives_way(self) -> None:
        """All threads of the mail process, and nobody else."""
        router = self.open()
        with router.connect("mail") as mail:
            self.assertTrue(mail.recv(100).startswith(b"220 "))

        def turns(role: str) -> set[tuple[int, int]]:
            threads = [int(one.name) for one in Path(f"/proc/{router.pids()[role]}/task").iterdir()]
            return {(os.sched_getscheduler(one), os.getpriority(os.PRIO_PROCESS, one)) for one in threads}

        ours = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual(turns("edge"), {(os.SCHED_OTHER, ours)})
        self.assertEqual(turns("mail"), {(os.SCHED_BATCH, min(ours + NICE, 19))})

    def test_a_policy_of_the_operators_stays(self) -> None:
        code = (
            "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
            "from dcrouter.service.__main__ import give_way; give_way()\n"
            "print(os.sched_getscheduler(0) == os.SCHED_IDLE)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
        self.assertEqual(done.stdout, "True\n")


class TestKills(LivesCase):
    def test_mail_sessions_that_outlive_the_edge_still_count(self) -> None:
        """A new edge hears of them: nobody gets more than his share by its fall."""
        limited = TEXT.replace("  rules:\n", "  security: {max_connections_per_ip: 2}\n  rules:\n")
        router = Router(limited, ports=PORTS, expected=DIED, backend=9, drain="5s")
        self.addCleanup(router.close)
        with router.connect("mail") as first, router.connect("mail") as second:
            for client in (first, second):
                self.assertTrue(client.recv(100).startswith(b"220 "))
            pid = router.pids()["edge"]
            os.kill(pid, signal.SIGKILL)
            until(lambda: router.pids().get("edge", pid) != pid)
            with router.connect("mail") as third:
                self.assertTrue(third.recv(100).startswith(b"421 "))
            first.sendall(b"QUIT\r\n")
            self.assertTrue(first.recv(100).startswith(b"221 "))

            def served() -> bool:
                with router.connect("mail") as client:
                    return client.recv(100).startswith(b"220 ")

            until(served)

    def test_connections_wait_while_the_edge_starts_again(self) -> None:
        """Killed three times under load: whoever connects meanwhile waits in the queue of the kernel and is served."""
        router = self.open(expected=DIED)
        stop = threading.Event()
        outcomes: list[str] = []

        def load() -> None:
            while not stop.is_set():
                try:
                    with router.connect("http") as client:
                        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        outcomes.append("served" if b"a page" in read_all(client) else "cut")
                except ConnectionResetError:
                    outcomes.append("cut")
                except OSError as error:
                    outcomes.append(repr(error))

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for _ in range(3):
                pid = router.pids()["edge"]
                served = outcomes.count("served")
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid: router.pids().get("edge", pid) != pid)
                until(lambda served=served: outcomes.count("served") > served + 50)
        finally:
            stop.set()
            for client in clients:
                client.join()
        self.assertEqual(set(outcomes) - {"served", "cut"}, set())
        # Each kill cuts at most those that were accepted by then.
        self.assertLessEqual(outcomes.count("cut"), 3 * len(clients))
        with router.connect("mail") as mail:
            self.assertTrue(mail.recv(100).startswith(b"220 "))

    def test_acknowledged_mail_outlives_a_killed_mail_process(self) -> None:
        """Killed again and again while messages come: each that got its 250 is delivered at least once."""
        router = self.open(expected=DIED)
        acknowledged: set[str] = set()
        stop = threading.Event()

        def load(name: str) -> None:
            number = 0
            while not stop.is_set():
                with (
                    contextlib.suppress(OSError, smtplib.SMTPException),
                    smtplib.SMTP("127.0.0.1", router.ports["mail"], timeout=240) as client,
                ):
                    while not stop.is_set():
                        number += 1
                        subject = f"{name}-{number}"
                        text = f"Subject: {subject}\r\n\r\n{subject}\r\n"
                        client.sendmail("a@sender.test", ["someone@example.test"], text)
                        acknowledged.add(subject)

        clients = [threading.Thread(target=load, args=(name,)) for name in "abcd"]
        for client in clients:
            client.start()
        try:
            for _ in range(3):
                before = len(acknowledged)
                until(lambda before=before: len(acknowledged) > before + 40)
                pid = router.pids()["mail"]
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid: router.pids().get("mail", pid) != pid)
        finally:
            stop.set()
            for client in clients:
                client.join()
        wanted = set(acknowledged)
        until(lambda: wanted <= {message.subject for message in messages(router.state / "maildir" / "all")}, pause=0.2)
        until(lambda: not router.queue())
        self.assertIn(b"a page", self.page(router))

    def test_a_killed_parent_takes_everybody_along(self) -> None:
        """Under load, within seconds: no process, no listener, and the next start succeeds at once."""
        router = self.open()
        pids = router.pids()
        with router.connect("plain") as client:
            client.sendall(b"x")
            client.recv(1)
            os.kill(pids["parent"], signal.SIGKILL)
            until(lambda: not any(is_alive(pid) for pid in pids.values()))
            assert router.process is not None
            router.process.wait()
            for port in router.ports.values():
                self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)
        router.start()
        self.assertIn(b"a page", self.page(router))


class TestStops(LivesCase):
    def test_a_download_ends_before_the_service_does(self) -> None:
        """SIGTERM: nobody new is let in, what runs comes to its end, the exit status is 0."""
        middle = threading.Event()
        self.addCleanup(middle.set)

        def downloads(sock: socket.socket) -> None:
            """A talk: a megabyte, whose digest comes last; the second half of it when it is told."""
            sock.recv(1)
            digest = hashlib.sha256()
            for number in range(20):
                if number == 10:
                    middle.wait(120)
                some = os.urandom(50000)
                digest.update(some)
                sock.sendall(some)
            sock.sendall(digest.digest())

        router = self.open(drain="60s", talk=downloads)
        with router.connect("plain") as client:
            client.sendall(b"x")
            data = bytearray(client.recv(1000))
            assert router.process is not None
            router.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(router.ports["plain"]))
            self.assertTrue(refuses(router.ports["mail"]))
            self.assertIsNone(router.process.poll())
            middle.set()
            while some := client.recv(1 << 16):
                data += some
        self.assertEqual(hashlib.sha256(data[:-32]).digest(), bytes(data[-32:]))
        self.assertEqual(router.process.wait(240), 0)

    def test_what_does_not_end_in_time_is_closed(self) -> None:
        """After `drain`, and its line says why."""
        router = self.open(drain="500ms")
        with router.connect("plain") as client, router.connect("mail") as mail:
            client.sendall(b"x")
            client.recv(1)
            mail.recv(100)
            mail.sendall(b"EHLO client.test\r\n")
            mail.recv(1000)
            mail.sendall(b"MAIL FROM:<a@b.test>\r\n")
            ends = both_ends(client)
            self.assertEqual(router.stop(), 0)
        (line,) = router.access(**ends)
        self.assertEqual((line["ended_by"], line["reason"]), ("router", "drained"))

    def test_a_second_signal_ends_it_at_once(self) -> None:
        """For an operator who cannot wait."""
        router = self.open(drain="60s", expected=("a second signal",))
        with router.connect("plain") as client:
            client.sendall(b"x")
            client.recv(1)
            assert router.process is not None
            router.process.send_signal(signal.SIGTERM)
            until(lambda: router.said("^stopping"))
            self.assertEqual(router.stop(), 0)

    def test_a_transaction_ends_and_an_idle_session_is_told(self) -> None:
        """SMTP: who is in the middle of a message gets its 250, then 421; who waits gets 421 at once."""
        router = self.open(drain="60s")
        with router.connect("mail") as busy, router.connect("mail") as idle:
            for client in (busy, idle):
                self.assertTrue(client.recv(1000).startswith(b"220 "))
                client.sendall(b"EHLO client.test\r\n")
                self.assertTrue(client.recv(1000).startswith(b"250-"))
            busy.sendall(b"MAIL FROM:<a@sender.test>\r\n")
            busy.recv(1000)
            busy.sendall(b"RCPT TO:<b@example.test>\r\n")
            busy.recv(1000)
            busy.sendall(b"DATA\r\n")
            self.assertTrue(busy.recv(1000).startswith(b"354 "))
            assert router.process is not None
            router.process.send_signal(signal.SIGTERM)
            self.assertTrue(read_all(idle).startswith(b"421 4.3.2 "))
            busy.sendall(b"Subject: last\r\n\r\nwords\r\n.\r\n")
            said = read_all(busy)
            self.assertTrue(said.startswith(b"250 "), said)
            self.assertIn(b"\r\n421 4.3.2 ", said)
        self.assertEqual(router.process.wait(240), 0)
        router.start()
        until(lambda: [one.subject for one in messages(router.state / "maildir" / "all")] == ["last"])


class TestStarts(LivesCase):
    def test_a_taken_port_leaves_nothing_half_started(self) -> None:
        """One line, exit 1; no other port of ours answers, no process holds the lock, and the next start succeeds."""
        router = Router(TEXT, ports=PORTS, backend=1, drain="1s", start=False, expected=("cannot connect",))
        self.addCleanup(router.close)
        pid_file, log = router.base / "r.pid", router.base / "r.log"
        daemon = (TWISTD, f"--pidfile={pid_file}", f"--logfile={log}", "dcrouter", "--config", "routes.yaml")
        ways = {
            "run": RUN,
            "twistd -n": (TWISTD, "-n", f"--pidfile={pid_file}", "dcrouter", "--config", "routes.yaml"),
            "twistd": daemon,
        }
        with socket.create_server(("127.0.0.1", router.ports["mail"])):
            for way, command in ways.items():
                status, said = router.try_start(command)
                self.assertEqual(status, 1, way)
                self.assertEqual(said.count("the port is taken"), 1, said)
                self.assertNotIn("Traceback", said)
                self.assertFalse(pid_file.exists(), way)
                for port in ("http", "plain"):
                    self.assertRaises(OSError, router.connect, port)
        router.start()
        self.assertIn(b"a page", self.page(router))

    def test_a_daemon_ends_by_its_pid_file(self) -> None:
        """twistd with --pidfile and --logfile: serves in the background, and SIGTERM ends all of it."""
        router = Router(TEXT, ports=PORTS, backend=1, drain="1s", start=False)
        self.addCleanup(router.close)
        pid_file, log = router.base / "r.pid", router.base / "r.log"
        command = (TWISTD, f"--pidfile={pid_file}", f"--logfile={log}", "dcrouter", "--config", "routes.yaml")
        status, said = router.try_start(command)
        self.assertEqual((status, said), (0, ""))
        pid = int(pid_file.read_text())
        self.addCleanup(lambda: os.kill(pid, signal.SIGKILL) if is_alive(pid) else None)
        until(lambda: (router.status() or {}).get("state") == "ready")
        pids = router.pids()
        self.assertEqual(pids["parent"], pid)
        self.assertIn(b"a page", self.page(router))
        with smtplib.SMTP("127.0.0.1", router.ports["mail"]) as client:
            client.sendmail("a@sender.test", ["b@example.test"], "Subject: x\r\n\r\nx\r\n")
        os.kill(pid, signal.SIGTERM)
        until(lambda: not any(is_alive(one) for one in pids.values()))
        until(lambda: not pid_file.exists())
        self.assertNotIn("Traceback", log.read_text())
        self.assertIn("stopped", log.read_text())

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to become somebody else")
    def test_root_becomes_the_user_of_the_configuration(self) -> None:
        """Every process runs as that user and nobody else, a low port is bound, and its files belong to it."""
        nobody = pwd.getpwnam("nobody")
        if not os.access(sys.executable, os.X_OK) or _is_private(Path(sys.executable)):
            raise unittest.SkipTest("this Python cannot be run by another user")
        router = Router("user: nobody\n" + TEXT, ports=PORTS, backend=1, drain="1s", start=False)
        self.addCleanup(router.close)
        router.base.chmod(0o755)
        router.start()
        for role, pid in router.pids().items():
            status = Path(f"/proc/{pid}/status").read_text()
            (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
            self.assertEqual(set(uids), {str(nobody.pw_uid)}, role)
        with smtplib.SMTP("127.0.0.1", router.ports["mail"]) as client:
            client.sendmail("a@sender.test", ["b@example.test"], "Subject: x\r\n\r\nx\r\n")
        until(lambda: messages(router.state / "maildir" / "all"))
        self.assertEqual(set(_owners(router.state.rglob("*"))), {nobody.pw_uid})


def _owners(paths: Iterable[Path]) -> Iterator[int]:
    """Whose they are; what is renamed or removed meanwhile is nobody's."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path.stat().st_uid


def _is_private(path: Path) -> bool:
    """Whether somebody else cannot get there."""
    real = path.resolve()
    return any(not folder.stat().st_mode & 0o001 for folder in (*real.parents, *path.parents))
