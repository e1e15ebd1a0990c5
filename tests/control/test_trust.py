"""Authorities and revocation lists, as the parent watches them."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Respond
from dcrouter.config.admin import Config
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.tls import ClientAuth
from dcrouter.control.certificates import INTERVAL
from dcrouter.control.trust import TrustWatch, read_ca_files
from tests.support.certificates import Authority


class TrustWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.ca, self.crl = self.directory / "ca.pem", self.directory / "crl.pem"
        self.authority = Authority()
        self.ca.write_bytes(self.authority.root_pem)
        self.put(self.crl, self.lists())
        tls = RouteTls(mode="terminate", client_auth=ClientAuth(ca=self.ca, crl=self.crl))
        match = Match(ports=(PortRange(start=443, end=443),))
        self.config = Config(
            state_dir=self.directory, routes=(Route(name="a", match=match, tls=tls, action=Respond()),)
        )
        self.clock = Clock()
        self.pushed: list[dict[str, str]] = []
        self.now = time.time()
        self.watch = TrustWatch(lambda files: self.pushed.append(dict(files)), self.clock, lambda: self.now)
        self.watch.use(self.config, read_ca_files(self.config))
        self.watch.start()
        self.addCleanup(self.watch.stop)

    def lists(self, days: float = 30) -> bytes:
        return b"".join(self.authority.revocations(days=days))

    def put(self, path: Path, data: bytes) -> None:
        """As an operator should: at once."""
        new = path.with_suffix(".new")
        new.write_bytes(data)
        os.replace(new, path)

    def look(self) -> list[tuple[Any, str]]:
        """One look: (level, line) of what is said."""
        with capturedLogs() as logs:
            self.clock.advance(INTERVAL)
        return [(event["log_level"], event["log_format"].format(**event)) for event in logs]

    def test_what_has_changed_is_pushed_whole(self) -> None:
        """Once, and with what has not changed."""
        self.assertEqual((self.look(), self.pushed), ([], []))
        new = self.lists(days=40)
        self.put(self.crl, new)
        self.assertEqual([level for level, _ in self.look()], [LogLevel.info])
        self.assertEqual(self.pushed, [{str(self.ca): self.ca.read_text(), str(self.crl): new.decode()}])
        self.assertEqual(self.look(), [])

    def test_what_cannot_be_used_changes_nothing(self) -> None:
        """It is told once, and what comes after it is taken."""
        for path, bad in ((self.crl, b"nothing"), (self.ca, b"nothing"), (self.crl, None)):
            if bad is None:
                path.unlink()
            else:
                self.put(path, bad)
            said = self.look()
            self.assertEqual([level for level, _ in said], [LogLevel.error], said)
            self.assertIn("what was read before stays in use", said[0][1])
            self.assertEqual(self.look(), [])
        self.assertEqual(self.pushed, [])
        self.put(self.crl, self.lists(days=40))
        self.put(self.ca, self.authority.intermediate_pem)
        self.look()
        self.assertEqual(len(self.pushed), 1)

    def test_a_list_that_runs_out_is_told(self) -> None:
        """Once, when it does; nobody is let in from then on."""
        self.now += 29 * 86400
        self.assertEqual(self.look(), [])
        self.now += 2 * 86400
        said = self.look()
        self.assertEqual(len(said), 1)
        self.assertIn("a revocation list has run out", said[0][1])
        self.assertEqual(self.look(), [])
