"""Which servers are asked, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.forms import HostPort
from dcrouter.config.resolver import Resolver as ResolverConfig
from dcrouter.net.dns.servers import DEAD, DEAD_AT_MOST, MAX_SERVERS, Servers


class ServersTests(SynchronousTestCase):
    def servers(self, *hosts: str, **config: Any) -> Servers:
        self.clock = 1000.0
        places = tuple(HostPort(host) for host in hosts) or None
        self.conf = Path(self.mktemp())
        return Servers(ResolverConfig(servers=places, **config), lambda: self.clock, self.conf)

    def order(self, servers: Servers) -> list[str]:
        return [str(server) for server in servers.order()]

    def test_the_dead_come_last_for_a_while_that_grows(self) -> None:
        """Then one question tries it first; the ones beside it do not."""
        servers = self.servers("192.0.2.1", "192.0.2.2")
        first = servers.order()[0]
        for wait in (DEAD, 2 * DEAD, 4 * DEAD):
            first.failed(self.clock)
            self.assertEqual(self.order(servers), ["192.0.2.2", "192.0.2.1"])
            self.clock += wait - 0.1
            self.assertEqual(self.order(servers), ["192.0.2.2", "192.0.2.1"])
            self.clock += 0.2
            self.assertEqual(self.order(servers), ["192.0.2.1", "192.0.2.2"])
            self.assertEqual(self.order(servers), ["192.0.2.2", "192.0.2.1"])
        first.answered()
        self.assertEqual(self.order(servers), ["192.0.2.1", "192.0.2.2"])
        for _ in range(50):
            first.failed(self.clock)
        self.assertEqual(first.dead_until - self.clock, DEAD_AT_MOST)

    def test_all_dead_are_all_asked(self) -> None:
        """There is nobody better."""
        servers = self.servers("192.0.2.1", "192.0.2.2")
        for server in servers.order():
            server.failed(self.clock)
        self.assertEqual(len(servers.order()), 2)

    def test_a_living_server_replaces_a_dead_one_among_the_three(self) -> None:
        """Of four servers, three are asked; a dead one is the fourth."""
        servers = self.servers("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
        servers.order()[0].failed(self.clock)
        self.assertEqual(self.order(servers), ["192.0.2.2", "192.0.2.3", "192.0.2.4"])
        self.assertEqual(len(servers.order()), MAX_SERVERS)

    def test_whom_to_trust(self) -> None:
        """auto: loopback; true: everyone; false: nobody."""
        for trust, expected in (("auto", [True, True, False]), ("true", [True] * 3), ("false", [False] * 3)):
            servers = self.servers("127.0.0.53", "::1", "192.0.2.1", trust_ad=trust)
            self.assertEqual([server.trusted for server in servers.order()], expected)

    def test_search_domains_are_those_of_the_file(self) -> None:
        """Servers of the configuration come without any."""
        servers = self.servers()
        self.conf.write_text("nameserver 192.0.2.1\nsearch a.test b.test\n")
        self.clock += 10
        self.assertEqual(servers.names_of("x"), ["x.a.test", "x.b.test", "x"])
        self.assertEqual(servers.names_of("x.y"), ["x.y", "x.y.a.test", "x.y.b.test"])
        self.assertEqual(self.servers("192.0.2.1").names_of("x"), ["x"])
