from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.names import host_port
from dcrouter.wire.hostport import bracketed, hostport


class HostPortTests(SynchronousTestCase):
    def test_only_ipv6_stands_in_brackets(self) -> None:
        """So that its last part is not taken for a port; what is written so is read so."""
        for host, shown in (("192.0.2.1", "192.0.2.1"), ("a.test", "a.test"), ("2001:db8::1", "[2001:db8::1]")):
            self.assertEqual(bracketed(host), shown)
            self.assertEqual(hostport(host, "preserve"), f"{shown}:preserve")
            self.assertEqual(host_port(hostport(host, 443)), (host, 443))
