from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.control.child import environment

# A full handshake in memory; printed are the records that the server sends after it, which are tickets.
TICKETS = """
import pathlib, sys, time
from OpenSSL import SSL
from dcrouter.config.tls import TlsProfile
from dcrouter.tls.internal import InternalCa
from dcrouter.tls.profile import server_context

credential = InternalCa(pathlib.Path(sys.argv[1]), time.time).issue(["localhost"])
server = SSL.Connection(server_context([credential], TlsProfile()), None)
client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
server.set_accept_state()
client.set_connect_state()

def step(side, other):
    try:
        side.do_handshake()
    except SSL.WantReadError:
        pass
    try:
        data = side.bio_read(65536)
    except SSL.WantReadError:
        return b""
    other.bio_write(data)
    return data

step(client, server), step(server, client), step(client, server)
sent, count = step(server, client), 0
while sent:
    count, sent = count + 1, sent[5 + int.from_bytes(sent[3:5], "big") :]
print(count)
"""


class EnvironmentTests(SynchronousTestCase):
    def tickets(self) -> str:
        directory = Path(self.mktemp())
        directory.mkdir()
        argv = [sys.executable, "-P", "-c", TICKETS, str(directory)]
        return subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True).stdout.strip()

    def test_a_full_handshake_has_one_ticket(self) -> None:
        """The OpenSSL inside cryptography reads openssl.cnf in every version that we allow."""
        self.assertEqual(self.tickets(), "1")

    def test_the_operators_own_settings_stand(self) -> None:
        own = Path(self.mktemp())
        own.write_text("")
        with mock.patch.dict("os.environ", {"OPENSSL_CONF": str(own)}):
            self.assertEqual(self.tickets(), "2")

    def test_the_edge_has_an_allocator_of_its_own(self) -> None:
        """glibc takes the settings without a word; the operator's come first, and the mail process has others."""
        argv = [sys.executable, "-P", "-c", "import os; print(os.environ['GLIBC_TUNABLES'])"]
        started = subprocess.run(argv, env=environment("edge"), capture_output=True, text=True, check=True)
        self.assertRegex(started.stdout, r"^glibc\.malloc\.tcache_count=\d+:")
        self.assertEqual(started.stderr, "")
        with mock.patch.dict("os.environ", {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}):
            self.assertEqual(environment("edge")["GLIBC_TUNABLES"], "glibc.malloc.tcache_count=7")
        self.assertNotIn("GLIBC_TUNABLES", environment("mail"))
