from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.config.actions import Forward, Respond
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route
from dcrouter.config.targets import Target
from dcrouter.control import names as module
from dcrouter.control.names import Names, target_names
from dcrouter.net import resolver as resolver_module
from dcrouter.net.dns import cache as cache_module
from dcrouter.net.resolver import Resolver
from tests.support.facts import until
from tests.support.logged import logged
from tests.support.nameserver import SILENT, Nameserver


def route(name: str, *hosts: str, enabled: bool = True) -> Route:
    targets = tuple(Target(host=host, port=80) for host in hosts)
    return Route(
        name=name, enabled=enabled, match=Match(ports=(PortRange(start=1, end=1),)), action=Forward(targets=targets)
    )


class TestTargetNames(SynchronousTestCase):
    def test_only_names_are_looked_up_each_once(self) -> None:
        """Addresses, disabled routes and routes without targets need nothing."""
        respond = Route(name="r", match=Match(ports=(PortRange(start=1, end=1),)), action=Respond())
        routes = [route("a", "App.internal", "127.0.0.1", "::1"), route("b", "app.internal"), respond]
        routes.append(route("c", "unused.internal", enabled=False))
        self.assertEqual(target_names(routes, "default.internal", None), ("app.internal", "default.internal"))


class TestNames(TestCase):
    """With a resolver of the product, and a name server that does as it is told."""

    def setUp(self) -> None:
        self.server = Nameserver(self)
        self.hosts = Path(self.mktemp())
        self.hosts.write_text("192.0.2.99 from.hosts\n")
        self.told: list[dict[str, list[str]]] = []
        self.events = logged(self)
        self.patch(module, "AGAIN", 0.05)
        self.patch(module, "AGAIN_AT_MOST", 0.1)
        self.patch(module, "GATHER", 0.01)
        for one in (resolver_module, cache_module):
            self.patch(one, "SHORTEST", 0.05)
            self.patch(one, "FAILURE", 0.05)

    def hear(self, known: dict[str, list[str]]) -> None:
        self.told.append(known)

    def started(self, *names: str, timeout: float = 20.0) -> Names:
        resolver = Resolver(self.server.config(timeout=timeout), reactor, hosts=self.hosts, denial=0.05)
        watched = Names(reactor, names, self.hear, resolver)
        watched.start()
        self.addCleanup(resolver.close)
        self.addCleanup(watched.stop)
        return watched

    async def test_first_answers_are_told_before_anyone_goes_on(self) -> None:
        """When the first round is done, what is known has been told: both families, and the hosts file."""
        self.server.add("a.test", "A", "192.0.2.1")
        self.server.add("b.test", "A", "192.0.2.2")
        self.server.add("b.test", "AAAA", "2001:db8::2")
        await self.started("a.test", "b.test", "from.hosts").first_answers(10)
        self.assertEqual(
            self.told[-1],
            {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2", "2001:db8::2"], "from.hosts": ["192.0.2.99"]},
        )

    async def test_answers_that_came_early_are_told_too(self) -> None:
        """Whoever asks late finds everything told, not about to be told."""
        self.patch(module, "GATHER", 60)
        self.server.add("a.test", "A", "192.0.2.1")
        watched = self.started("a.test")
        await until(lambda: watched.known)
        await watched.first_answers(10)
        self.assertEqual(self.told, [{"a.test": ["192.0.2.1"]}])

    async def test_a_server_that_is_silent_does_not_hold_up_the_start(self) -> None:
        """The first wait is bounded."""
        self.server.behave(SILENT)
        watched = self.started("a.test", timeout=0.5)
        await watched.first_answers(0.05)
        self.assertEqual(self.told, [])

    async def test_nothing_to_look_up_is_known_at_once(self) -> None:
        """Without names there is no wait."""
        await self.started().first_answers(10)

    async def test_a_name_is_asked_for_again_when_its_ttl_is_over(self) -> None:
        """And not before: the other one, which may be believed for long, is asked for once."""
        self.server.add("short.test", "A", "192.0.2.1", ttl=0)
        self.server.add("long.test", "A", "192.0.2.2", ttl=3600)
        self.server.add("long.test", "AAAA", "2001:db8::2", ttl=3600)
        watched = self.started("short.test", "long.test")
        await watched.first_answers(10)
        self.server.add("short.test", "A", "192.0.2.7", ttl=0)
        self.server.add("long.test", "A", "192.0.2.8", ttl=3600)
        await until(lambda: watched.known["short.test"] == ["192.0.2.7"])
        await until(lambda: self.server.asked("short.test", "A") > 5)
        self.assertEqual(watched.known["long.test"], ["192.0.2.2", "2001:db8::2"])
        self.assertEqual(self.server.asked("long.test", "A"), 1)

    async def test_the_shortest_ttl_on_the_way_counts(self) -> None:
        """An alias of a long-lived name is itself short-lived."""
        self.server.chases = False
        self.server.add("alias.test", "CNAME", "one.test.", ttl=0)
        self.server.add("one.test", "A", "192.0.2.1", ttl=3600)
        self.server.add("two.test", "A", "192.0.2.2", ttl=3600)
        watched = self.started("alias.test")
        await watched.first_answers(10)
        self.server.add("alias.test", "CNAME", "two.test.", ttl=0)
        await until(lambda: watched.known["alias.test"] == ["192.0.2.2"])

    async def test_the_last_good_answer_stays_whatever_goes_wrong(self) -> None:
        """No answer, SERVFAIL, a name that is gone: it is said once, and so is the recovery."""
        self.server.add("a.test", "A", "192.0.2.1", ttl=0)
        watched = self.started("a.test", timeout=2.0)
        await watched.first_answers(10)
        for number, temper in enumerate((SILENT, "SERVFAIL", "NXDOMAIN"), 1):
            await self.fail_and_recover(watched, temper, number)

    async def fail_and_recover(self, watched: Names, temper: str, number: int) -> None:
        self.server.behave(temper)
        await until(lambda: self.said("does not resolve") == number)
        asked = len(self.server.questions)
        await until(lambda: len(self.server.questions) > asked + 6)
        self.assertEqual(watched.known, {"a.test": ["192.0.2.1"]})
        self.server.behave(None)
        await until(lambda: self.said("resolves again") == number)
        self.assertEqual(self.said("does not resolve"), number)

    async def test_a_family_without_an_answer_keeps_its_addresses(self) -> None:
        """As long as nobody says that there are none."""
        self.server.add("a.test", "A", "192.0.2.1", ttl=0)
        self.server.add("a.test", "AAAA", "2001:db8::1", ttl=0)
        watched = self.started("a.test")
        await watched.first_answers(10)
        self.server.behave("SERVFAIL", "a.test", "AAAA")
        self.server.add("a.test", "A", "192.0.2.2", ttl=0)
        await until(lambda: "192.0.2.2" in watched.known["a.test"])
        self.assertEqual(watched.known, {"a.test": ["192.0.2.2", "2001:db8::1"]})
        self.server.behave(None, "a.test", "AAAA")
        self.server.remove("a.test", "AAAA")
        await until(lambda: watched.known == {"a.test": ["192.0.2.2"]})

    async def test_a_name_that_comes_into_being_is_found_soon(self) -> None:
        """Although the zone lets it be missing for an hour."""
        self.server.soa = (3600, 3600)
        watched = self.started("new.test")
        await watched.first_answers(10)
        self.assertEqual(watched.known, {})
        self.server.add("new.test", "A", "192.0.2.1")
        await until(lambda: watched.known == {"new.test": ["192.0.2.1"]})

    async def test_other_names_take_the_place_of_those_before(self) -> None:
        """New ones are asked for and told; those that nobody wants any more are forgotten."""
        self.server.add("a.test", "A", "192.0.2.1", ttl=0)
        self.server.add("b.test", "A", "192.0.2.2", ttl=0)
        watched = self.started("a.test")
        await watched.first_answers(10)
        await watched.also(("a.test", "b.test"), 10)
        self.assertEqual(self.told[-1], {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2"]})
        watched.only(("b.test",))
        asked = self.server.asked("a.test", "A"), self.server.asked("b.test", "A")
        await until(lambda: self.server.asked("b.test", "A") > asked[1] + 3)
        self.assertLessEqual(self.server.asked("a.test", "A"), asked[0] + 1)
        self.assertEqual(watched.known, {"b.test": ["192.0.2.2"]})

    async def test_the_end(self) -> None:
        """Nothing is asked any more, and who waits goes on."""
        self.server.behave(SILENT)
        watched = self.started("a.test", timeout=0.5)
        waiting = watched.first_answers(60)
        watched.stop()
        await waiting

    def said(self, words: str) -> int:
        """How many lines of the log have these words."""
        return sum(words in str(event.get("log_format")) for event in self.events)
