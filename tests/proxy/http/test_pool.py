"""Connections that wait for the next request: their bounds, their end, and who may have them."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.engine import IN, OUT, Task
from dcrouter.net.stream import Plain
from dcrouter.proxy.http.pool import IDLE, IDLE_EACH, Kept, Pool
from tests.support.edge import Backend, route
from tests.support.loop import Loop, tcp_pair
from tests.support.relay import RelayTest
from tests.support.web import Wire, always, ok, request


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.loop.start()
        self.addCleanup(self.loop.engine.stop)
        self.pool = Pool()
        self.task = Task(self.loop.engine)
        self.others: list[socket.socket] = []

    def keep(self, key: str = "a") -> Plain:
        """A connection that waits."""
        ours, other = tcp_pair()
        self.others.append(other)
        self.addCleanup(other.close)
        plain = Plain(self.task, ours, OUT)
        plain.watch()
        self.pool.give(self.pool.new(key, plain, self.task, key))
        return plain

    def test_the_youngest_is_taken(self) -> None:
        """So that those which are not needed get old."""
        first, second = self.keep(), self.keep()
        for expected in (second, first):
            kept = self.pool.take("a", self.task)
            assert kept is not None
            self.assertIs(kept.stream, expected)
            self.assertTrue(kept.used)
            self.assertIs(kept.plain.task, self.task)
        self.assertIsNone(self.pool.take("a", self.task))

    def test_keys_are_apart(self) -> None:
        """What differs in them never shares."""
        self.keep("a")
        self.assertIsNone(self.pool.take("b", self.task))

    def test_an_end_is_heard_while_it_waits(self) -> None:
        """And so is a word that nobody asked for."""
        ends: tuple[Callable[[socket.socket], None], ...] = (socket.socket.close, lambda sock: sock.sendall(b"408"))
        for act in ends:
            plain = self.keep()
            act(self.others.pop())
            self.loop.until(lambda: not self.pool.waiting)
            self.assertEqual(plain.fd, -1)

    def test_an_end_that_nobody_has_heard_of_yet(self) -> None:
        """Is found where the request must not be sent twice; else by the request."""
        self.keep()
        self.others.pop().close()
        self.assertIsNone(self.pool.take("a", self.task, sure=True))
        self.keep()
        self.others.pop().close()
        self.assertIsNotNone(self.pool.take("a", self.task))

    def test_they_get_old(self) -> None:
        plain = self.keep()
        self.loop.pass_time(IDLE - 1)
        self.assertEqual(self.pool.waiting, 1)
        self.loop.pass_time(2)
        self.assertEqual((self.pool.waiting, plain.fd), (0, -1))

    def test_a_wait_begins_anew_each_time(self) -> None:
        self.keep()
        for _ in range(3):
            self.loop.pass_time(IDLE * 0.6)
            kept = self.pool.take("a", self.task)
            assert kept is not None
            self.pool.give(kept)
        self.loop.pass_time(IDLE * 0.6)
        self.assertEqual(self.pool.waiting, 1)

    def test_bounds(self) -> None:
        """For each target, and for all."""
        self.pool.most = 3
        waiting = [self.keep(key) for key in ("a", "b", "c", "d")]
        self.assertEqual((self.pool.waiting, waiting[3].fd), (3, -1))
        self.pool.clear()
        self.assertEqual([plain.fd for plain in waiting], [-1] * 4)
        self.pool.most = 2 * IDLE_EACH
        for _ in range(IDLE_EACH + 1):
            self.keep()
        self.assertEqual(self.pool.waiting, IDLE_EACH)
        self.pool.clear()

    def test_a_key_of_which_none_waits_is_forgotten(self) -> None:
        """There is one for each client that a PROXY header introduces, and for each set of addresses of a target."""
        self.keep("taken")
        self.assertIsNotNone(self.pool.take("taken", self.task))
        self.keep("ended")
        self.others.pop().close()
        self.assertIsNone(self.pool.take("ended", self.task, sure=True))
        self.keep("forgotten")
        self.pool.forget("forgotten")
        self.pool.most = 0
        self.keep("one too many")
        self.assertEqual(self.pool._waiting, {})

    def test_what_ends_is_forgotten_at_once(self) -> None:
        """However it ends; nothing is left for the garbage collector, which comes late."""
        ends: tuple[Callable[[], object], ...] = (
            lambda: self.others.pop().close(),
            lambda: self.loop.pass_time(IDLE + 1),
            lambda: self.pool.forget("a"),
            self.pool.clear,
        )
        self.addCleanup(gc.enable)
        for number, end in enumerate(ends):
            with self.subTest(number=number):
                gc.collect()
                gc.disable()
                before = _connections()
                plain = self.keep()
                end()
                self.loop.until(lambda plain=plain: plain.fd == -1)
                del plain
                self.loop.turn()
                self.assertEqual(_connections() - before, set())

    def test_what_has_something_to_say_does_not_wait(self) -> None:
        """Octets behind a response that nobody has read."""
        ours, other = tcp_pair()
        self.addCleanup(other.close)
        other.sendall(b"x")
        plain = Plain(self.task, ours, OUT | IN)
        plain.watch()
        self.pool.give(self.pool.new("a", plain, self.task, "a"))
        self.loop.until(lambda: not self.pool.waiting)
        self.assertEqual(plain.fd, -1)


def _connections() -> set[int]:
    """Which there are in memory, of other tests too."""
    return {id(one) for one in gc.get_objects() if isinstance(one, Kept | Plain)}


class ExhaustionTests(RelayTest):
    def test_those_that_wait_give_way_where_descriptors_run_out(self) -> None:
        """A request that needs a new connection gets one, and the client does not notice."""
        one, other = (Backend(self, always(ok(name))) for name in (b"one", b"other"))
        port = self.port()
        self.open(
            route("one", port, one.target, domains=("one.example",)),
            route("other", port, other.target, domains=("other.example",)),
        )
        self.assertEqual(self.ask_one(port, request(host=b"one.example")).body, b"one")
        pool = self.edge.plan.pool
        self.assertEqual(pool.waiting, 1)
        forward = next(bound.http for bound in self.edge.plan.routes if bound.route.name == "other")
        open_ = forward.reach.open  # type: ignore[union-attr]

        async def scarce(*words: object, **names: object) -> object:
            if pool.waiting:
                raise OSError(errno.EMFILE, "Too many open files")
            return await open_(*words, **names)

        forward.reach.open = scarce  # type: ignore[union-attr]

        def run(wire: Wire) -> bytes:
            wire.send(request(host=b"other.example"))
            return wire.message().body

        self.assertEqual(self.talk(port, run), b"other")
