"""Key sets of issuers, fetched and kept fresh."""

from __future__ import annotations

import json

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.control.keysets import LARGEST, REFRESH, SOONEST, KeySetWatch, fetching
from dcrouter.errors import Unreachable
from tests.support.edge import Backend, says
from tests.support.web import ok

URL = "https://id.example/keys"


def key_set(kid: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return json.dumps({"keys": [{**json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key)), "kid": kid}]})


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[dict[str, str]] = []
        self.asked: list[tuple[str, Deferred[bytes]]] = []
        self.watch = KeySetWatch(self.clock, self.told.append, self.fetch)

    def fetch(self, url: str) -> Deferred[bytes]:
        self.asked.append((url, Deferred()))
        return self.asked[-1][1]

    def answer(self, text: str) -> None:
        self.asked.pop(0)[1].callback(text.encode())

    def test_a_set_is_fetched_again_and_told_when_it_is_new(self) -> None:
        """Once at the start, then now and then."""
        one, two = key_set("one"), key_set("two")
        self.watch.use([URL])
        self.answer(one)
        self.assertEqual(self.told, [{URL: one}])
        for text in (one, two):
            self.clock.advance(REFRESH * 1.1)
            self.answer(text)
        self.assertEqual(self.told, [{URL: one}, {URL: two}])
        self.watch.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.asked), ([], []))

    def test_the_last_good_answer_stays(self) -> None:
        """Whatever comes: no answer, nonsense, a set without keys; it is tried again soon."""
        one = key_set("one")
        self.watch.use([URL])
        self.answer(one)
        for bad in ("nonsense", '{"keys": []}', "[]"):
            self.clock.advance(REFRESH * 1.1)
            self.answer(bad)
        self.clock.advance(REFRESH)
        self.asked.pop(0)[1].errback(Unreachable("gone"))
        self.clock.advance(100)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(20)
        self.asked.pop(0)
        self.assertEqual((self.watch.known, self.told), ({URL: one}, [{URL: one}]))
        self.watch.stop()

    def test_a_missed_key_is_asked_for_but_not_too_often(self) -> None:
        """Whoever sends strange tokens does not make us ask all the time."""
        self.watch.use([URL])
        self.answer(key_set("one"))
        self.watch.missed(URL)
        self.watch.missed("https://other.example/")
        self.assertEqual(self.asked, [])
        self.clock.advance(SOONEST)
        self.watch.missed(URL)
        self.watch.missed(URL)
        self.assertEqual(len(self.asked), 1)
        self.watch.stop()

    def test_other_urls_after_a_reload(self) -> None:
        """Those that are wanted no more are not asked again."""
        self.watch.use([URL])
        self.answer(key_set("one"))
        self.watch.also(["https://two.example/"])
        self.assertEqual([url for url, _ in self.asked], ["https://two.example/"])
        self.answer(key_set("two"))
        self.watch.use(["https://two.example/"])
        self.assertEqual(list(self.watch.known), ["https://two.example/"])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.watch.stop()


class FetchTests(TestCase):
    """With Twisted's own client against a server that says every byte."""

    def server(self, response: bytes) -> str:
        backend = Backend(self, says(response))
        return f"http://127.0.0.1:{backend.port}/keys?x"

    async def test_what_comes(self) -> None:
        """A good answer; no other status is one."""
        from twisted.internet import reactor

        fetch = fetching(reactor)
        self.assertEqual(await fetch(self.server(ok(b"{}", b"Connection: close"))), b"{}")
        for response in (
            ok(b"x", b"Connection: close", status=b"404 Not Found"),
            ok(b"x" * (LARGEST + 1), b"Connection: close"),
        ):
            with self.assertRaises(Unreachable):
                await fetch(self.server(response))
