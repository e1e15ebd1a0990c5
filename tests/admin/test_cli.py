from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from dcrouter import __version__
from dcrouter.admin.cli import main
from tests.support.certificates import Authority

ROUTES = """
version: 1
routes:
  - name: web
    match: {ports: [8443], domains: [www.example.com]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: 443}}
"""


class TestCommands(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.base)
        self.file = self.base / "routes.yaml"
        self.file.write_text(ROUTES)

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            try:
                status = main(arguments)
            except SystemExit as exit:
                status = int(exit.code or 0)
        return status, output.getvalue(), errors.getvalue()

    def test_a_good_file_is_ok(self) -> None:
        """One line that says what is in it, and 0."""
        self.assertEqual(self.run_main("check"), (0, "routes.yaml: ok, 1 route\n", ""))
        self.assertEqual(self.run_main("check", str(self.file))[1], f"{self.file}: ok, 1 route\n")

    def test_a_file_is_named_as_in_other_commands_too(self) -> None:
        """With --config, in the place of a word of its own; not both."""
        other = self.base / "other.yaml"
        self.file.rename(other)
        for option in ("--config", "-c"):
            self.assertEqual(self.run_main("check", option, str(other)), (0, f"{other}: ok, 1 route\n", ""))
            self.assertEqual(self.run_main("routes", option, str(other)), self.run_main("routes", str(other)))
        self.assertEqual(self.run_main("check", "a.yaml", "--config", "b.yaml")[0], 2)

    def test_every_problem_is_printed_with_its_place_first(self) -> None:
        """So that an editor can jump there; exit status 1."""
        self.file.write_text(ROUTES.replace("passthrough", "passthru").replace("domains", "domain"))
        status, output, errors = self.run_main("check")
        self.assertEqual((status, output), (1, ""))
        lines = errors.splitlines()
        self.assertEqual(len(lines), 2, errors)
        self.assertTrue(all(line.startswith("routes.yaml:") for line in lines), errors)
        self.assertIn("(did you mean 'passthrough'?)", errors)

    def test_who_says_no_command_is_shown_which_there_are(self) -> None:
        """As a complaint, of `dcrouter queue` too."""
        for words, command in ((), "check"), (("queue",), "retry"):
            status, output, errors = self.run_main(*words)
            self.assertEqual((status, output), (2, ""))
            self.assertRegex(errors, rf"(?m)^ +{command} ")

    def test_a_missing_file_says_what_to_do(self) -> None:
        """Named or not."""
        self.file.unlink()
        self.assertEqual(self.run_main("check", "x.yaml"), (1, "", "dcrouter: x.yaml: there is no such file\n"))
        self.assertIn("name one with --config FILE", self.run_main("run")[2])
        self.assertEqual(self.run_main("routes", str(self.base))[2], f"dcrouter: {self.base}: is a directory\n")

    def test_a_python_that_may_not_be_run_is_one_line(self) -> None:
        """As in a virtual environment whose Python lies in somebody's home; the message says what to do."""
        self.patch(sys, "executable", str(self.file))
        status, output, errors = self.run_main("run", "--config", "routes.yaml")
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(
            errors,
            f"dcrouter: {self.file} cannot be run: permission denied: install dcrouter with a Python that this user "
            "may run\n",
        )

    def test_what_the_user_cannot_read_is_told(self) -> None:
        """`check --as-user` fails with a line for each, and passes where all is well."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        self.base.chmod(0o755)
        self.patch(sys, "executable", "/bin/sh")
        ca = self.base / "ca.pem"
        ca.write_bytes(Authority().root_pem)
        ca.chmod(0o600)
        self.file.write_text(
            f"user: nobody\n{ROUTES}".replace(
                "mode: passthrough", "mode: terminate-and-reencrypt, upstream: {ca: ca.pem}"
            )
        )
        status, output, errors = self.run_main("check", "--as-user")
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(
            errors, f"dcrouter: as user nobody: routes[0].tls.upstream.ca: cannot read {ca}: permission denied\n"
        )
        ca.chmod(0o644)
        self.assertEqual(self.run_main("check", "--as-user")[0], 0)

    def test_the_effective_table_is_printed(self) -> None:
        """For people and for programs."""
        status, output, _ = self.run_main("routes")
        self.assertEqual(status, 0)
        self.assertEqual(output.splitlines()[1].split()[:4], ["1", "web", "tcp", "8443"])
        self.assertEqual(json.loads(self.run_main("routes", "--json")[1])[0]["action"], "forward to 127.0.0.1:443")

    def test_without_a_service_there_is_no_status(self) -> None:
        """One line with the socket that nobody answers on."""
        status, _, errors = self.run_main("status")
        self.assertEqual(status, 1)
        socket = self.base / "state" / "admin.sock"
        self.assertEqual(errors, f"dcrouter: no dcrouter is running here: nobody listens on {socket}\n")
        self.assertIn("nobody listens on /x.sock", self.run_main("queue", "list", "--socket", "/x.sock")[2])

    def test_a_mistyped_command_is_told_which_was_meant(self) -> None:
        """Below another one, and as the value of an option, too; a word like none is told which there are."""
        for words, suggested in (
            (("staus",), ["status"]),
            (("queue", "lst"), ["list"]),
            (("certs", "renwe"), ["renew"]),
            (("queue", "list", "--state", "differed"), ["deferred"]),
            (("frobnicate",), []),
        ):
            status, output, errors = self.run_main(*words)
            self.assertEqual((status, output), (2, ""))
            self.assertIn(f"invalid choice: '{words[-1]}' (choose from ", errors)
            self.assertEqual(re.findall(r"\(did you mean '(.+)'\?\)\n", errors), suggested)

    def test_a_mistyped_option_is_told_which_was_meant(self) -> None:
        """With the usage of the command that it stands behind, below another one too."""
        for words, command, suggested in (
            (("routes", "--jsn"), "routes", " (did you mean '--json'?)"),
            (("certs", "renew", "x", "--wiat", "1s"), "certs renew", " (did you mean '--wait'?)"),
            (("queue", "list", "--frobnicate"), "queue list", ""),
            (("run", "more"), "run", ""),
            (("run", "routes.yaml"), "run", " (did you mean --config routes.yaml?)"),
        ):
            status, output, errors = self.run_main(*words)
            self.assertEqual((status, output), (2, ""))
            self.assertIn(f"usage: dcrouter {command} [-h]", errors)
            self.assertRegex(errors, rf"dcrouter {command}: error: unrecognized arguments: .*{re.escape(suggested)}\n$")

    def test_where_things_are_may_be_said_before_a_verb_or_behind_it(self) -> None:
        """`certs --json renew NAME` is `certs renew NAME --json`; so with every verb."""
        for command, *verb in (
            ("certs", "renew", "x"),
            ("certs", "account-keys"),
            ("connections", "kill", "1"),
            ("bans", "clear"),
            ("suppression", "add", "a@example.com"),
        ):
            for options in (("--socket", "/x.sock", "--json"), ("--config", "/x.yaml", "--only", "mail")):
                before = self.run_main(command, *options, *verb)
                self.assertEqual(before, self.run_main(command, *verb, *options))
                self.assertIn(options[1], before[1] + before[2])

    def run_apart(self, *arguments: str, **keys: Any) -> subprocess.CompletedProcess[bytes]:
        """In a process of its own."""
        command = [
            sys.executable,
            "-c",
            "import sys; from dcrouter.admin.cli import main; sys.exit(main())",
            *arguments,
        ]
        return subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60, **keys)

    def test_a_full_disk_is_one_line(self) -> None:
        """Whether the answer is longer than what is gathered, or not."""
        for command in ("check", "schema"):
            with open("/dev/full", "wb") as full:
                done = self.run_apart(command, stdout=full)
            words = b"dcrouter: cannot write what there is to say: no space left on device\n"
            self.assertEqual((done.returncode, done.stderr), (1, words), command)

    def test_a_terminal_of_another_encoding_shows_what_it_can(self) -> None:
        """Letters that it does not have are escaped."""
        other = self.base / "grüße.yaml"
        self.file.rename(other)
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = self.run_apart("check", str(other), stdout=subprocess.PIPE, env=environment)
        self.assertEqual(done.stdout, f"{self.base}/gr\\xfc\\xdfe.yaml: ok, 1 route\n".encode())

    def test_the_schema_is_json(self) -> None:
        """What an editor reads."""
        status, output, _ = self.run_main("schema")
        self.assertEqual(status, 0)
        self.assertIn("routes", json.loads(output)["properties"])

    def test_wrong_arguments_are_2(self) -> None:
        """With the usage, as argparse prints it."""
        status, _, errors = self.run_main("no-such-command")
        self.assertEqual(status, 2)
        self.assertIn("usage: dcrouter", errors)

    def test_the_version_is_printed(self) -> None:
        """The package's; by the command, and by the option that every program has."""
        self.assertEqual(self.run_main("version"), (0, f"dcrouter {__version__}\n", ""))
        self.assertEqual(self.run_main("--version"), (0, f"dcrouter {__version__}\n", ""))

    def test_a_broken_configuration_leaves_a_way_to_the_running_service(self) -> None:
        """Wrong elsewhere, it tells the socket all the same; of one that is no text, the option does without."""
        for content, end in (
            (ROUTES.replace("passthrough", "passthru").encode(), "nobody listens on"),
            (b"\xff", "name it with --socket"),
        ):
            self.file.write_bytes(content)
            for command in (("status",), ("queue", "list")):
                status, _, errors = self.run_main(*command)
                self.assertEqual(status, 1)
                self.assertIn(end, errors.splitlines()[-1])
