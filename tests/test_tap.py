"""The service as an operator starts it: twistd in the foreground, twistd as a daemon, and `dcrouter run`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

import dcrouter
import twisted
from dcrouter.admin.client import ApiError, ask
from tests.support.ports import refuses, reserved
from tests.support.router import STARTING, is_alive, until

TWISTD = str(Path(sys.executable).with_name("twistd"))
WAYS = {
    "run": [sys.executable, "-m", "dcrouter.admin.cli", "run"],
    "twistd -n": [TWISTD, "-n", "--pidfile=twistd.pid", "dcrouter"],
    "twistd": [TWISTD, "--pidfile=twistd.pid", "dcrouter"],
}
PACKAGES = os.pathsep.join(str(Path(str(package.__file__)).parents[1]) for package in (dcrouter, twisted))
ROUTES = """
version: 1
listen: ["127.0.0.1"]
log: {{format: {format}}}
access_log: {{file: access.log}}
defaults: {{timeouts: {{drain: 60s}}}}
routes:
  - name: echo
    match: {{ports: [{echo}]}}
    action: {{type: forward, target: {{host: 127.0.0.1, port: {backend}}}}}
  - name: page
    match: {{ports: [{port}]}}
    action: {{type: respond, body: "a page"}}
email:
  hostname: mail.example.test
  postmaster: postmaster@example.test
  ports: [{{port: {mail}, kind: smtp}}]
  rules:
    - name: local
      match: {{recipients: ["*@example.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
"""


class ServiceCase(SynchronousTestCase):
    ways = WAYS
    environment: dict[str, str] | None = None

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.port, self.mail, self.echo, self.backend = (reserved(self) for _ in range(4))
        self.write()

    def write(self, format: str = "json") -> None:
        (self.base / "routes.yaml").write_text(
            ROUTES.format(port=self.port, mail=self.mail, echo=self.echo, backend=self.backend, format=format)
        )

    def refused(self, way: str) -> list[str]:
        """What a start that is refused prints to standard error; it must exit with 1 and leave nothing."""
        done = subprocess.run(WAYS[way], cwd=self.base, capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 1, done)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertFalse((self.base / "twistd.pid").exists())
        lines = done.stderr.splitlines()
        if way == "twistd":
            # Its own two lines, which no service can keep it from.
            self.assertIn("dcrouter has not started", lines[-2])
            del lines[-2:]
        return lines

    def start(self, way: str) -> subprocess.Popen[bytes]:
        """A start that succeeds, awaited until it is ready; ended with the test."""
        log = (self.base / "out.log").open("wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            self.ways[way], cwd=self.base, env=self.environment, stdout=log, stderr=subprocess.STDOUT
        )
        self.addCleanup(process.wait, 60)
        self.addCleanup(self.end)
        until(lambda: (self.status() or {}).get("state") == "ready" or process.poll() == 1, STARTING)
        self.assertNotEqual(process.poll(), 1, (self.base / "out.log").read_text())
        return process

    def end(self) -> None:
        status = self.status()
        if status is not None:
            os.kill(status["pid"], signal.SIGTERM)
            until(lambda: not is_alive(status["pid"]))

    def status(self) -> dict[str, Any] | None:
        try:
            return ask(self.base / "state" / "admin.sock", "GET", "/status")
        except ApiError:
            return None

    def pids(self) -> list[int]:
        status = self.status()
        assert status is not None
        return [status["pid"], *(child["pid"] for child in status["children"].values())]

    def page(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=240) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := client.recv(4096):
                answer += data
            return answer


class TestRefusals(ServiceCase):
    def test_a_taken_port_is_one_line_however_it_is_started(self) -> None:
        """The port, its route, what to do; exit 1; no pid file, no process, no other port."""
        for way in WAYS:
            with socket.create_server(("127.0.0.1", self.port)):
                lines = self.refused(way)
            self.assertEqual(
                lines,
                [
                    f"dcrouter: 127.0.0.1:{self.port} (route page): the port is taken: another program listens there: "
                    f"ss -ltnp 'sport = :{self.port}'"
                ],
            )
            with socket.create_server(("127.0.0.1", self.mail)):
                pass

    def test_every_problem_of_the_configuration_is_printed(self) -> None:
        """Before anything is opened, and before a daemon is made."""
        path = self.base / "routes.yaml"
        path.write_text(path.read_text().replace("respond", "respont").replace("hostname", "hostnam"))
        for way in WAYS:
            lines = subprocess.run(WAYS[way], cwd=self.base, capture_output=True, text=True, timeout=240).stderr
            self.assertIn("(did you mean 'respond'?)", lines)
            self.assertIn("(did you mean 'hostname'?)", lines)
            self.assertTrue(all(line.startswith("routes.yaml:") for line in lines.splitlines()), lines)
        self.assertFalse((self.base / "state").exists())

    def test_no_configuration_says_where_it_was_looked_for(self) -> None:
        """A new user's first try."""
        (self.base / "routes.yaml").unlink()
        for way in WAYS:
            done = subprocess.run(WAYS[way], cwd=self.base, capture_output=True, text=True, timeout=240)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(
                done.stderr,
                "dcrouter: no configuration: there is neither routes.yaml here nor /etc/dcrouter/routes.yaml; "
                "name one with --config FILE\n",
            )

    def test_a_newer_state_directory_is_refused(self) -> None:
        """One line, and the directory is left as it is."""
        (self.base / "state").mkdir()
        (self.base / "state" / "version").write_text("99\n")
        for way in WAYS:
            (line,) = self.refused(way)
            self.assertIn("written by a newer dcrouter", line)

    def test_a_mail_queue_that_cannot_be_opened_is_named(self) -> None:
        """In one line for each attempt, without a traceback; nothing has been announced."""
        queue = self.base / "state" / "mail" / "queue.sqlite"
        queue.parent.mkdir(parents=True)
        queue.write_bytes(b"no database" * 1000)
        self.write(format="text")
        done = subprocess.run(self.ways["run"], cwd=self.base, capture_output=True, text=True, timeout=240)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(f"cannot start: the mail queue {queue} cannot be opened: ", done.stdout)
        self.assertIn("dcrouter: the mail process does not start", done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertNotIn("listening on", done.stdout)

    def test_a_second_instance_is_refused(self) -> None:
        """With the pid of the first, which goes on."""
        self.start("run")
        (line,) = self.refused("run")
        self.assertIn(f"is in use by another dcrouter, pid {self.pids()[0]};", line)
        self.assertIn(b"a page", self.page())


class TestRuns(ServiceCase):
    def test_it_serves_and_ends_in_order(self) -> None:
        """Answers; SIGTERM ends it with 0, and no process, socket or port is left."""
        process = self.start("run")
        self.assertIn(b"a page", self.page())
        pids = self.pids()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(240), 0)
        self.assertEqual([pid for pid in pids if is_alive(pid)], [])
        self.assertFalse((self.base / "state" / "admin.sock").exists())
        with socket.create_server(("127.0.0.1", self.port)):
            pass
        texts = [json.loads(line)["text"] for line in (self.base / "out.log").read_text().splitlines()]
        self.assertTrue(any(text.startswith("ready: ") for text in texts), texts)
        self.assertEqual(texts[-1] if texts[-1] != "Main loop terminated." else texts[-2], "stopped")
        access = [json.loads(line) for line in (self.base / "state" / "access.log").read_text().splitlines()]
        told = [(line["event"], line["route"]) for line in access]
        self.assertEqual(told, [("request", "page"), ("session", "page")])

    def test_closed_standard_streams_are_nobody_elses_place(self) -> None:
        """A start with `>&-`: what would be written there goes nowhere, and not into the first file that was opened."""
        self.ways["closed"] = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *self.ways["run"]]
        process = self.start("closed")
        self.assertIn(b"a page", self.page())
        places = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        self.assertEqual(places, {"/dev/null"})

    def test_what_has_begun_may_end_while_nothing_new_is_taken(self) -> None:
        """SIGTERM: new connections are refused, an open one goes on; when it has ended, so has the service."""
        with socket.create_server(("127.0.0.1", self.backend)) as backend:
            process = self.start("run")
            with socket.create_connection(("127.0.0.1", self.echo), timeout=240) as client:
                served, _ = backend.accept()
                with served:
                    process.send_signal(signal.SIGTERM)
                    until(lambda: refuses(self.port) and refuses(self.echo) and refuses(self.mail))
                    client.sendall(b"still there?")
                    self.assertEqual(served.recv(100), b"still there?")
                    served.sendall(b"yes")
                    self.assertEqual(client.recv(100), b"yes")
                    self.assertIsNone(process.poll())
            self.assertEqual(process.wait(240), 0)

    def test_what_does_not_end_in_time_is_closed(self) -> None:
        """After timeouts.drain the service ends whoever is still connected."""
        path = self.base / "routes.yaml"
        path.write_text(path.read_text().replace("drain: 60s", "drain: 500ms"))
        with socket.create_server(("127.0.0.1", self.backend)) as backend:
            process = self.start("run")
            with socket.create_connection(("127.0.0.1", self.echo), timeout=240) as client:
                served, _ = backend.accept()
                with served:
                    process.send_signal(signal.SIGTERM)
                    self.assertEqual(process.wait(240), 0)
                    client.settimeout(30)
                    with contextlib.suppress(ConnectionResetError):
                        self.assertEqual(client.recv(100), b"")

    def test_the_summary_for_people_says_what_listens(self) -> None:
        """In text format: a line per listener, then ready."""
        self.write(format="text")
        self.start("run")
        text = (self.base / "out.log").read_text()
        self.assertIn(f"listening on http://127.0.0.1:{self.port}/ (page)", text)
        self.assertIn(f"listening on smtp://127.0.0.1:{self.mail} (smtp-{self.mail})", text)
        self.assertIn("ready: 3 routes from ", text)

    def test_twistd_runs_it_in_the_foreground(self) -> None:
        """The same service, in our log format."""
        process = self.start("twistd -n")
        self.assertIn(b"a page", self.page())
        process.send_signal(signal.SIGTERM)
        process.wait(240)
        self.assertFalse((self.base / "twistd.pid").exists())
        for line in (self.base / "out.log").read_text().splitlines():
            json.loads(line)

    def test_twistd_runs_it_as_a_daemon(self) -> None:
        """The command returns with 0, the log is in twistd.log, and the pid file is gone with it."""
        process = self.start("twistd")
        self.assertEqual(process.wait(240), 0)
        self.assertEqual((self.base / "twistd.pid").read_text(), str(self.pids()[0]))
        self.assertIn(b"a page", self.page())
        self.end()
        until(lambda: not (self.base / "twistd.pid").exists())
        texts = [json.loads(line)["text"] for line in (self.base / "twistd.log").read_text().splitlines()]
        self.assertIn("stopped", texts)
        self.assertEqual((self.base / "out.log").read_text(), "")

    def test_a_killed_child_comes_back(self) -> None:
        """The edge and then the mail process die; after a moment both serve again, and the log is loud about it."""
        self.start("run")
        for place in (1, 2):
            before = self.pids()
            os.kill(before[place], signal.SIGKILL)
            until(lambda place=place, before=before: self.pids()[place] not in (None, before[place]))
        until(lambda: b"a page" in self.page())
        with socket.create_connection(("127.0.0.1", self.mail), timeout=240) as client:
            self.assertTrue(client.recv(100).startswith(b"220 mail.example.test"))
        self.assertEqual((self.base / "out.log").read_text().count("has died: killed by SIGKILL"), 2)

    def test_a_killed_parent_takes_its_children_along(self) -> None:
        """No orphan keeps a port or the state directory: the next start succeeds at once."""
        process = self.start("run")
        pids = self.pids()
        process.kill()
        until(lambda: not any(is_alive(pid) for pid in pids))
        self.start("run")
        self.assertIn(b"a page", self.page())

    def test_privileges_are_dropped_and_the_log_can_still_be_opened(self) -> None:
        """Root binds a low port; then all three processes are the user's, with the state directory and the log file."""
        python = _python_for_nobody()
        self.base.chmod(0o755)
        path = self.base / "routes.yaml"
        self.port = _free_low_port()
        self.write()
        path.write_text("user: nobody\n" + path.read_text().replace("{format: json}", "{format: json, file: d.log}"))
        self.patch(self, "environment", {**os.environ, "PYTHONPATH": PACKAGES})
        self.patch(self, "ways", {"run": [python, "-m", "dcrouter.admin.cli", "run"]})
        self.start("run")
        for pid in self.pids():
            status = Path(f"/proc/{pid}/status").read_text()
            self.assertIn("\nUid:\t65534\t65534\t65534\t65534\n", status)
        self.assertIn(b"a page", self.page())
        log = self.base / "state" / "d.log"
        log.rename(log.with_suffix(".1"))
        os.kill(self.pids()[0], signal.SIGUSR1)
        until(lambda: log.exists() and "log files are open anew" in log.read_text())

    def test_a_refusal_after_the_step_down_is_one_line_too(self) -> None:
        """As a daemon whose user may not remove the pid file: exit status 1, and no traceback anywhere."""
        python = _python_for_nobody()
        self.base.chmod(0o755)
        state = self.base / "state"
        (state / "internal-ca").mkdir(parents=True)
        (state / "internal-ca" / "ca.pem").write_text("no certificate")
        path = self.base / "routes.yaml"
        path.write_text("user: nobody\n" + path.read_text().replace("{format: json}", "{format: json, file: d.log}"))
        command = [python, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile=twistd.pid", "dcrouter"]
        environment = {**os.environ, "PYTHONPATH": PACKAGES}

        done = subprocess.run(command, cwd=self.base, env=environment, capture_output=True, text=True, timeout=240)

        self.assertEqual(done.returncode, 1, done)
        self.assertIn("internal-ca/ca.key does not exist", done.stderr.splitlines()[0])
        self.assertNotIn("Traceback", done.stderr + (state / "d.log").read_text())

    def test_sigusr1_opens_log_files_anew(self) -> None:
        """As logrotate does it, with the log and the access log. Where that fails, the old file stays."""
        path = self.base / "routes.yaml"
        path.write_text(path.read_text().replace("log: {format: json}", "log: {format: json, file: d.log}"))
        self.start("run")
        log = self.base / "state" / "d.log"
        log.rename(log.with_suffix(".1"))
        os.kill(self.pids()[0], signal.SIGUSR1)
        until(lambda: log.exists() and "log files are open anew" in log.read_text())
        moved = log.rename(log.with_suffix(".2"))
        log.mkdir()
        os.kill(self.pids()[0], signal.SIGUSR1)
        until(lambda: "d.log cannot be opened again: Is a directory" in moved.read_text())
        self.assertEqual(moved.read_text().count("log files are open anew"), 1)


def _python_for_nobody() -> str:
    """A Python of this version that user nobody can run with all that dcrouter needs; SkipTest where there is none."""
    if os.geteuid() != 0:
        raise SkipTest("needs root")
    environment = {**os.environ, "PYTHONPATH": PACKAGES}
    code = f"import sys, dcrouter.service; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", code], env=environment, cwd="/", user=65534, capture_output=True, timeout=60
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    raise SkipTest("needs a Python with dcrouter's dependencies that user nobody can read")


def _free_low_port() -> int:
    for port in range(1023, 600, -1):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise SkipTest("needs a free port below 1024")


class ImportTests(SynchronousTestCase):
    def test_what_systemd_says_is_left_for_us(self) -> None:
        """Twisted's endpoints take LISTEN_FDS out of the environment as soon as anybody imports them."""
        script = "import sys, dcrouter.tap; print('twisted.internet.endpoints' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=True)
        self.assertEqual(done.stdout, "False\n")
