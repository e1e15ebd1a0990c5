"""security.request_rate."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from dcrouter.config.routes import Http
from dcrouter.net.limits import MAX_KEYS
from dcrouter.proxy.http.rates import RateGate
from tests.support.features import FeatureTest


class RateTests(FeatureTest):
    def rated(self, rate: str, **keys: Any) -> int:
        port = self.port()
        config = self.config(f"""
            - {{name: web, match: {{ports: {port}}}, security: {{request_rate: {rate}}}, action: {{type: respond}}}}
        """)
        self.open(*config.routes, **keys)
        return port

    def status(self, port: int, *options: str) -> int:
        return self.curl(f"http://127.0.0.1:{port}/", *options).status

    def test_more_than_the_rate_is_told_when_to_come_again(self) -> None:
        """429 with Retry-After, on a connection that stays; the log says why."""
        port = self.rated("2/hour")
        url = f"http://127.0.0.1:{port}/"
        answer = self.curl(url, url, url, "-o", "/dev/null", "-o", "/dev/null")
        self.assertEqual((answer.status, answer.get("retry-after")), (429, "1800"))
        done = [self.request() for _ in range(3)]
        self.assertEqual([(one.request, one.status) for one in done], [(1, 200), (2, 200), (3, 429)])
        self.assertEqual((done[2].reason, done[2].termination), ("request_rate", "router:gate"))

    def test_clients_are_counted_apart(self) -> None:
        """Each has its own tokens."""
        port = self.rated("{rate: 60/min, burst: 1}")
        for source in ("127.0.0.1", "127.0.0.2"):
            statuses = [self.status(port, "--interface", source) for _ in range(2)]
            self.assertEqual(statuses, [200, 429])

    def test_a_header_tells_who_asks(self) -> None:
        """The same value is one client from wherever it comes, no value counts by address; all limits hold."""
        port = self.rated("[{rate: 2/hour, key: 'header:X-Api-Key'}, {rate: 5/hour, key: client_ip}]")
        for source in ("127.0.0.1", "127.0.0.2"):
            self.assertEqual(self.status(port, "-H", "x-api-key: a", "--interface", source), 200)
        self.assertEqual(self.status(port, "-H", "x-api-key: a", "--interface", "127.0.0.3"), 429)
        self.assertEqual([self.status(port, "-H", f"x-api-key: {n}") for n in range(5)], [200, 200, 200, 200, 429])
        self.assertEqual([self.status(port, "--interface", "127.0.0.4") for _ in range(3)], [200, 200, 429])

    def test_behind_a_trusted_proxy_the_client_is_meant(self) -> None:
        """Whom nobody trusts cannot say that it is somebody else."""
        trusted = Http(trusted_proxies=(ip_network("127.0.0.1/32"),))
        port = self.rated("1/hour", http=trusted)
        for client in ("192.0.2.1", "192.0.2.2"):
            self.assertEqual(self.status(port, "-H", f"X-Forwarded-For: {client}"), 200)
        self.assertEqual(self.status(port, "-H", "X-Forwarded-For: 192.0.2.1"), 429)
        self.assertEqual(self.status(port, "--interface", "127.0.0.2"), 200)
        self.assertEqual(self.status(port, "--interface", "127.0.0.2", "-H", "X-Forwarded-For: 192.0.2.9"), 429)

    def test_what_is_counted_outlives_a_reload(self) -> None:
        """Also where the rate is another one."""
        port = self.rated("1/hour")
        self.assertEqual(self.status(port), 200)
        for rate, status in (("1/hour", 429), ("{rate: 1000/s, burst: 1}", 429), ("{rate: 1/hour, burst: 3}", 200)):
            text = f"""
                - {{name: web, match: {{ports: {port}}}, security: {{request_rate: {rate}}}, action: {{type: respond}}}}
            """
            config = self.config(text)
            plan = self.planned(config)
            self.edge.reload(plan, self.edge.chooser, self._observed)
            self.assertEqual(self.status(port), status, rate)

    def test_memory_is_bounded(self) -> None:
        """Values that nobody has seen before take no more than those there is room for."""
        self.rated("{rate: 1/hour, key: 'header:x-api-key'}")
        (gate,) = self.edge.plan.routes[0].features.gates
        assert isinstance(gate, RateGate)
        ((_, buckets),) = gate._limits
        for number in range(MAX_KEYS + 1000):
            buckets.take(number)
        self.assertEqual(len(buckets), MAX_KEYS)
