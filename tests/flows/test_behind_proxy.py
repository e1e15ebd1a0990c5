"""Mail servers of others behind us: Postfix and Dovecot take our PROXY header for what it says."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.proxyheader import build_v1, build_v2
from tests.support.dovecot import Dovecot
from tests.support.mailers import Mailer, Next, Postfix
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.router import Router, until

TEXT = """
proxy_protocol: [{from: [127.0.0.2/32], ports: [$smtp, $imap]}]
routes:
  - name: smtp
    match: {ports: $smtp}
    action:
      type: forward
      target: {host: 127.0.0.1, port: $postfix}
      proxy_protocol: v2
      health: {type: smtp, interval: 1s}
  - name: imap
    match: {ports: $imap}
    action:
      type: forward
      target: {host: 127.0.0.1, port: $dovecot}
      proxy_protocol: v2
      health: {type: tcp, interval: 1s}
"""
CLIENTS = ("203.0.113.9", 4711), ("2001:db8::9", 4711)
SERVER = {"203.0.113.9": ("198.51.100.1", 25), "2001:db8::9": ("2001:db8::1", 25)}

MAIN = """smtpd_upstream_proxy_protocol = haproxy
inet_protocols = all
"""
DOVECOT = """
protocols = imap
disable_plaintext_auth = no
haproxy_trusted_networks = 127.0.0.0/8
haproxy_timeout = 5 secs
auth_verbose = yes
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
    haproxy = yes
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
"""It takes nobody without a PROXY header."""


class BehindTests(SynchronousTestCase):
    router: Router

    def talk(self, name: str, header: bytes, lines: tuple[bytes, ...]) -> list[bytes]:
        """The greeting, and the answer to each of the lines, as a proxy in front of us brings the client."""
        port = self.router.ports[name]
        with socket.create_connection(("127.0.0.1", port), 30, ("127.0.0.2", 0)) as sock:
            sock.sendall(header)
            stream = sock.makefile("rb")
            answers = [stream.readline()]
            for line in lines:
                sock.sendall(line + b"\r\n")
                answer = stream.readline()
                while answer[3:4] == b"-":
                    answer = stream.readline()
                answers.append(answer)
            return answers

    def test_postfix_and_dovecot_know_the_client(self) -> None:
        """IPv4 and IPv6, told in v1 or v2; checks, which speak for us, find both of them up."""
        identity = Path(tempfile.mkdtemp())
        Mailer.certify(identity)
        nowhere, at = Reserved(), Reserved()
        self.addCleanup(nowhere.close)
        self.addCleanup(at.close)
        postfix = Postfix(Next(port=nowhere.port), at.port, identity, MAIN)
        self.addCleanup(postfix.close)
        require("imap")
        dovecot = Dovecot(DOVECOT, ours=bool(os.geteuid()))  # as root it logs nobody in
        self.addCleanup(dovecot.close)
        self.router = Router(TEXT, ports=("smtp", "imap"), postfix=postfix.port, dovecot=dovecot.port)
        self.addCleanup(self.router.close)
        for client in CLIENTS:
            for build in (build_v1, build_v2):
                header = build(client, SERVER[client[0]])
                greeting, hello, quit_ = self.talk("smtp", header, (b"EHLO c.test", b"QUIT"))
                self.assertEqual((greeting[:4], hello[:4], quit_[:4]), (b"220 ", b"250 ", b"221 "))
                greeting, refused = self.talk("imap", header, (b"a LOGIN nobody secret",))
                self.assertTrue(greeting.startswith(b"* OK "), greeting)
                self.assertTrue(refused.startswith(b"a NO "), refused)
            until(lambda client=client: f"[{client[0]}]" in postfix.words(), pause=0.1)
            until(lambda client=client: f"rip={client[0]}, lip={SERVER[client[0]][0]}" in dovecot.words(), pause=0.1)
        # LOCAL: the check is ours, and nobody else's.
        until(lambda: "connect from localhost[127.0.0.1]" in postfix.words(), pause=0.1)
        self.assertFalse(self.router.said("is down"))
