"""Bodies between two streams: exactly what belongs to them moves, by splice(2) or through Python."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.net.engine import IN, OUT, WAIT, Task
from dcrouter.net.measured import SPLICE_FROM, Framed, Measured, Nowhere
from dcrouter.net.pipes import Pipes
from dcrouter.net.stream import Plain
from dcrouter.wire.http1.chunked import ChunkReader
from tests.support.loop import Loop, tcp_pair

Make = Callable[[Plain, Plain], Measured | Framed]
PATTERN = bytes(range(256)) * 40_000


class MeasuredCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.loop.start()
        self.addCleanup(self.loop.engine.stop)
        self.pipes = Pipes()
        self.addCleanup(self.pipes.close)
        self.source, source = tcp_pair()
        self.sink, sink = tcp_pair()
        self.addCleanup(self.source.close)
        self.addCleanup(self.sink.close)
        self.problem: BaseException | None = None
        self.bodies: list[Measured | Framed] = []
        self.streams: list[Plain] = []
        self._ends = (source, sink)

    def move(self, *makes: Make) -> None:
        """Move one body after another in a task, each made by make(source, sink)."""

        async def run(task: Task) -> None:
            source, sink = (Plain(task, end, IN | OUT) for end in self._ends)
            self.streams = [source, sink]
            source.watch()
            sink.watch()
            try:
                for make in makes:
                    body = make(source, sink)
                    self.bodies.append(body)
                    while not body.done:
                        if body.pump():
                            task.engine.again(task)
                        if not body.done:
                            await WAIT
                    body.release()
            except Exception as error:
                self.problem = error

        self.loop.engine.spawn(run)

    def measured(self, size: int, first: bytes = b"") -> Make:
        return lambda source, sink: Measured(source, sink, size, self.pipes, first)

    def send(self, data: bytes) -> None:
        """As much as goes, in turns with the loop."""
        self.source.setblocking(False)
        view = memoryview(data)
        received = bytearray()
        self.sink.setblocking(False)

        def moved() -> bool:
            nonlocal view
            if view:
                with contextlib.suppress(BlockingIOError):
                    view = view[self.source.send(view) :]
            with contextlib.suppress(BlockingIOError):
                received.extend(self.sink.recv(1 << 20))
            return all(body.done for body in self.bodies) and not view

        self.loop.until(moved)
        self.loop.turn()
        self.sink.settimeout(10.0)
        expected = sum(body.count for body in self.bodies if not isinstance(body._sink, Nowhere))
        while len(received) < expected and (some := self.sink.recv(1 << 20)):
            received.extend(some)
        self.received = bytes(received)


class MeasuredTests(MeasuredCase):
    def test_small_and_large(self) -> None:
        """To the octet: what comes behind the body stays in the socket."""
        for size in (1, SPLICE_FROM - 1, SPLICE_FROM, 1_000_000, len(PATTERN)):
            self.tearDown()
            self.setUp()
            self.move(self.measured(size, b"first"))
            self.send(PATTERN[:size] + b"behind")
            self.assertTrue(self.received == b"first" + PATTERN[:size], size)
            self.assertEqual(self.bodies[0].count, size + 5)
            self.streams[0].ready |= IN
            self.assertEqual(self.streams[0].recv(), b"behind")

    def test_one_after_another(self) -> None:
        """After a spliced body the source wakes for every octet again."""
        sizes = (1_000_000, 3, 500_000, 70_000, 1)
        self.move(*(self.measured(size) for size in sizes))
        self.send(PATTERN[: sum(sizes)])
        self.loop.until(lambda: len(self.bodies) == len(sizes) and self.bodies[-1].done)
        self.assertEqual([body.count for body in self.bodies], list(sizes))

    def test_nothing_is_left_to_move(self) -> None:
        """A body that came whole with its head is sent and done."""
        self.move(self.measured(0, b"all of it"))
        self.assertTrue(self.bodies[0].done)
        self.assertEqual(self.sink.recv(100), b"all of it")

    def test_a_source_that_ends_too_early(self) -> None:
        """Is the one that failed, however the rest would have been moved."""
        for size in (100, 1_000_000):
            self.tearDown()
            self.setUp()
            self.move(self.measured(size))
            self.source.sendall(b"half")
            self.source.shutdown(socket.SHUT_WR)
            self.loop.until(lambda: self.problem)
            self.assertIsInstance(self.problem, ConnectionResetError)
            self.assertTrue(self.bodies[0].source_failed)

    def test_without_pipes(self) -> None:
        """Where descriptors have run out, octets are copied."""
        self.pipes.take = lambda: None  # type: ignore[method-assign]
        self.move(self.measured(1_000_000))
        self.send(PATTERN[:1_000_000])
        self.assertTrue(self.received == PATTERN[:1_000_000])

    def test_pipes_come_back(self) -> None:
        """Empty ones to the pool, others are closed."""
        self.move(self.measured(1_000_000))
        self.send(PATTERN[:1_000_000])
        self.assertEqual(len(self.pipes._free), 1)


class FramedTests(MeasuredCase):
    def test_a_reader_tells_the_end(self) -> None:
        """And what was read behind it."""
        self.move(lambda source, sink: Framed(source, sink, ChunkReader(), b"head "))
        self.send(b"3\r\nabc\r\n0\r\n\r\nnext")
        self.assertEqual(self.received, b"head 3\r\nabc\r\n0\r\n\r\n")
        self.assertEqual(self.bodies[0].rest, b"next")

    def test_what_it_refuses_is_the_sources_fault(self) -> None:
        self.move(lambda source, sink: Framed(source, sink, ChunkReader()))
        self.source.sendall(b"x")
        self.loop.until(lambda: self.problem)
        self.assertIsInstance(self.problem, WireError)
        self.assertTrue(self.bodies[0].source_failed)

    def test_nowhere_takes_everything(self) -> None:
        self.move(lambda source, sink: Measured(source, Nowhere(), 300_000, self.pipes))
        self.send(PATTERN[:300_000])
        self.assertEqual((self.received, self.bodies[0].count), (b"", 300_000))
