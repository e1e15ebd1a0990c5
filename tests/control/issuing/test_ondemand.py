"""Names that clients ask for: the asker decides, and nobody can ask too much."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from dcrouter.config.acme import OnDemand
from dcrouter.config.rates import Rate
from dcrouter.control.issuing import ondemand
from dcrouter.control.issuing.ondemand import Asker
from dcrouter.proxy import wishes
from dcrouter.proxy.wishes import Wishes
from tests.support.facts import until
from tests.support.logged import logged
from tests.support.serving import listen

ON_DEMAND = OnDemand(ask="http://127.0.0.1:1/may?x=y", rate=Rate(rate=(3, 60.0)))


class Asked(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.urls: list[str] = []
        self.waiting: list[Deferred[int]] = []
        self.agreed: list[str] = []
        self.events = logged(self)
        self.asker = Asker(self.clock, self.agreed.append, self.clock.seconds, self.fetch)
        self.asker.use(ON_DEMAND)

    def fetch(self, url: str) -> Deferred[int]:
        self.urls.append(url)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, status: int) -> None:
        self.waiting.pop(0).callback(status)

    def test_yes_and_no(self) -> None:
        """2xx is yes; no is remembered for a while."""
        for name, status in (("a.test", 204), ("b.test", 404), ("c.test", 302), ("d.test", 500)):
            self.asker.wish(name)
            self.asker.wish(name)
            self.answer(status)
        self.assertEqual(self.urls[0], "http://127.0.0.1:1/may?x=y&domain=a.test")
        self.assertEqual((self.agreed, len(self.urls)), (["a.test"], 4))
        self.asker.wish("b.test")
        self.assertEqual(len(self.urls), 4)
        self.clock.advance(ondemand.DENIED)
        self.asker.wish("b.test")
        self.assertEqual(len(self.urls), 5)
        self.asker.stop()

    def test_orders_are_bounded(self) -> None:
        """By the rate; what is too much may come again."""
        for number in range(4):
            self.asker.wish(f"n{number}.test")
            self.answer(200)
        self.assertEqual(len(self.agreed), 3)
        self.clock.advance(20)
        self.asker.wish("n3.test")
        self.answer(200)
        self.assertEqual(self.agreed[-1], "n3.test")

    def test_questions_are_bounded(self) -> None:
        """Some at once, some wait, the rest is let go of."""
        for number in range(1000):
            self.asker.wish(f"n{number}.test")
        self.assertEqual(len(self.urls), ondemand.AT_ONCE)
        while self.waiting:
            self.answer(404)
        self.assertEqual(len(self.urls), ondemand.AT_ONCE + ondemand.WAITING)

    def test_an_asker_that_cannot_be_asked(self) -> None:
        """Is told once, and when it can be asked again; the names may come again soon."""
        for _ in range(2):
            self.asker.wish("a.test")
            self.clock.advance(ondemand.WITHIN)
            self.waiting.pop()
            self.clock.advance(ondemand.UNREACHED)
        self.assertEqual(len(self.events), 1, self.events)
        self.assertNotIn("x=y", formatEvent(self.events[0]), "the asker's token, perhaps")
        self.asker.wish("a.test")
        self.answer(200)
        self.assertEqual((self.agreed, len(self.events)), (["a.test"], 2))

    def test_nobody_to_ask(self) -> None:
        """Nothing is agreed to, and nothing is asked any more."""
        self.asker.wish("a.test")
        self.asker.use(None)
        self.asker.wish("b.test")
        self.assertEqual(len(self.urls), 1)
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(self.asker.may("a.test"))))

    def test_names_that_have_one(self) -> None:
        """Are asked for again; nobody loses one because nobody answers."""
        found = Deferred.fromCoroutine(self.asker.may("a.test"))
        self.answer(404)
        self.assertFalse(self.successResultOf(found))
        found = Deferred.fromCoroutine(self.asker.may("a.test"))
        self.clock.advance(ondemand.WITHIN)
        self.assertTrue(self.successResultOf(found))


class FetchTests(TestCase):
    async def test_a_real_one(self) -> None:
        """Whatever body it brings is left alone."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                request.setResponseCode(201 if b"a.test" in request.uri else 403)
                return b"x" * 1_000_000

        site = Site(Page())
        site.noisy = False
        port = listen(site)
        self.addCleanup(port.stopListening)
        agreed: list[str] = []
        asker = Asker(reactor, agreed.append, reactor.seconds)
        asker.use(OnDemand(ask=f"http://127.0.0.1:{port.getHost().port}/"))
        self.assertTrue(await asker.may("a.test"))
        self.assertFalse(await asker.may("b.test"))
        asker.wish("a.test")
        await until(lambda: agreed)


class WishesTests(SynchronousTestCase):
    def test_a_name_is_told_once_in_a_while(self) -> None:
        """And not more names than anybody could want, nor remembered for ever."""
        clock = Clock()
        told: list[str] = []
        made = Wishes(clock.seconds)
        made.tell = told.append
        for _ in range(3):
            made.wish("a.test")
        self.assertEqual(told, ["a.test"])
        clock.advance(wishes.AGAIN.rate[1])
        made.wish("a.test")
        self.assertEqual(len(told), 2)
        for number in range(500):
            made.wish(f"n{number}.test")
        self.assertLess(len(told), 110)
        for number in range(2000):
            clock.advance(1)
            made.wish(f"m{number}.test")
        self.assertEqual(len(told), len(set(told)) + 1)
        self.assertLess(len(made._names), 110)
