"""Who the client is: what targets are told, and what is believed of what clients tell."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.match.addresses import Networks
from dcrouter.proxy.http.forwarded import Introducer, client_of
from dcrouter.wire.http1.head import RequestHead, parse_head
from tests.support.web import request


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"a.example") -> RequestHead:
    data = request(*lines, first=first, host=host)
    if not host:
        data = data.replace(b"Host: \r\n", b"")
    found = parse_head(data)
    assert found is not None
    return found


class IntroducerTests(SynchronousTestCase):
    def told(
        self, asked: RequestHead, peer: str = "192.0.2.7", scheme: str = "http", trusted: bool = False
    ) -> dict[str, str]:
        lines = Introducer(peer, scheme, trusted, "192.0.2.1:80").lines(asked)
        self.assertEqual(len({name for name, _ in lines}), len(lines), lines)
        return {name: line.partition(b": ")[2].decode("latin-1") for name, line in lines}

    def test_forms(self) -> None:
        """IPv6 in brackets and quotes, hosts with a port in quotes, nothing where there is no host (RFC 7239)."""
        for peer, host, scheme, forwarded in (
            ("192.0.2.7", b"a.example", "http", "for=192.0.2.7;host=a.example;proto=http"),
            ("2001:db8::1", b"a.example:8443", "https", 'for="[2001:db8::1]";host="a.example:8443";proto=https'),
            ("192.0.2.7", b"[::1]", "http", 'for=192.0.2.7;host="[::1]";proto=http'),
        ):
            told = self.told(head(host=host), peer, scheme)
            self.assertEqual(told["forwarded"], forwarded)
            self.assertEqual(told["x-forwarded-for"], peer)
            self.assertEqual(told["x-forwarded-host"], host.decode())
        old = self.told(head(first=b"GET / HTTP/1.0", host=b""))
        self.assertEqual(old["forwarded"], "for=192.0.2.7;proto=http")
        self.assertNotIn("x-forwarded-host", old)

    def test_requests_without_a_host_get_one(self) -> None:
        """HTTP/1.0 allows it; targets are asked in HTTP/1.1, which does not."""
        self.assertEqual(self.told(head(first=b"GET / HTTP/1.0", host=b""))["host"], "192.0.2.1:80")
        self.assertEqual(self.told(head(first=b"GET / HTTP/1.0"))["host"], "a.example")

    def test_a_trusted_proxy_that_says_nothing(self) -> None:
        """Is introduced like any other client."""
        self.assertEqual(self.told(head(), trusted=True), self.told(head()))

    def test_several_lines_of_a_trusted_proxy(self) -> None:
        """Become one."""
        told = self.told(head(b"X-Forwarded-For: 10.1.1.1", b"X-Forwarded-For: 10.1.1.2"), trusted=True)
        self.assertEqual(told["x-forwarded-for"], "10.1.1.1, 10.1.1.2, 192.0.2.7")


class ClientTests(SynchronousTestCase):
    def test_the_last_who_is_no_proxy_of_ours(self) -> None:
        """Read from the right, as far as proxies of ours have written it."""
        trusted = Networks([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
        for told, expected in (
            (b"192.0.2.1", "192.0.2.1"),
            (b"192.0.2.1, 10.0.0.2", "192.0.2.1"),
            (b"1.1.1.1, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
            (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
            (b"192.0.2.1, unknown", "10.0.0.1"),
            (b"192.0.2.1, , 10.0.0.2", "10.0.0.2"),
            (b"192.0.2.1:4711", "192.0.2.1"),
            (b"[2001:db9::1]:4711, 2001:db8::2", "2001:db9::1"),
            (b"", "10.0.0.1"),
        ):
            asked = head(b"X-Forwarded-For: " + told)
            self.assertEqual(client_of("10.0.0.1", asked, trusted), expected, told)
