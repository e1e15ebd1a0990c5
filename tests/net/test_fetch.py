"""GET of a service's URL."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.errors import Unreachable
from dcrouter.net.fetch import Fetcher
from tests.support.edge import Backend, says
from tests.support.web import ok

CLOSE = b"Connection: close"


class FetcherTests(TestCase):
    def server(self, response: bytes) -> str:
        backend = Backend(self, says(response))
        return f"http://127.0.0.1:{backend.port}/x?y"

    async def test_what_comes(self) -> None:
        """Status and body; a body that nobody wants is not waited for, however long it is."""
        fetcher = Fetcher(reactor, 5.0)
        self.assertEqual(await fetcher.get(self.server(ok(b"abc", CLOSE)), largest=3), (200, b"abc"))
        endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nabc"
        self.assertEqual(await fetcher.get(self.server(endless)), (200, b""))
        self.assertEqual(await fetcher.get(self.server(endless.replace(b"200", b"404")), largest=3), (404, b""))

    async def test_what_cannot_be_used(self) -> None:
        """One that is too large or broken off, a URL that is none."""
        fetcher = Fetcher(reactor, 5.0)
        for response, problem in (
            (ok(b"abcd", CLOSE), "larger than 3 octets"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nx", "broken off"),
        ):
            with self.assertRaisesRegex(Unreachable, problem):
                await fetcher.get(self.server(response), largest=3)
        with self.assertRaises(UnicodeError):
            await fetcher.get("http://\xe4/")
