"""Limits through the whole service: the edge, and the mail process behind it."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.support.knock import dribble
from tests.support.router import Router, until

TEXT = """
defaults: {security: {block: [127.0.0.3/32]}}
routes:
  - {name: web, match: {ports: $web}, action: {type: respond, body: hello}}
email:
  hostname: mx.example.test
  postmaster: root@example.test
  ports: [{port: $smtp, kind: smtp}]
  security: {block: [127.0.0.3/32], min_rate: {bytes: 2000, over: 1s}}
  rules: [{name: in, match: {recipients: ["*@example.test"]}, action: {type: deliver, maildir: "mail/{recipient}"}}]
"""


class LimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router(TEXT, ports=("web", "smtp"))
        self.addCleanup(self.router.close)

    def test_who_is_blocked_is_reset_and_counted(self) -> None:
        """On a mail port it is told why not; the status counts both."""

        def blocked(name: str) -> bytes:
            with socket.create_connection(("127.0.0.1", self.router.ports[name]), 30, ("127.0.0.3", 0)) as sock:
                said = b""
                while some := sock.recv(1000):
                    said += some
                return said

        self.assertRaises(ConnectionResetError, blocked, "web")
        self.assertTrue(blocked("smtp").startswith(b"421 4.7.0 mx.example.test "))
        until(lambda: self.router.counters("edge").get("refused") == {"blocked": 2})
        for line in self.router.access(2, reason="blocked"):
            self.assertEqual((line["ended_by"], line["termination"]), ("router", "router:accept"))

    def test_a_slow_mail_client_is_sent_away(self) -> None:
        """The mail process knows the floor of the port that its connection came by."""
        with self.router.connect("smtp") as sock:
            self.assertTrue(sock.recv(1000).startswith(b"220 "))
            self.assertTrue(dribble(sock).startswith(b"421 4.4.2 "))
        line = self.router.access(1, reason="min_rate")[0]
        self.assertEqual((line["kind"], line["ended_by"]), ("smtp", "router"))
