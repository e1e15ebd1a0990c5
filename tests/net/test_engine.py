from __future__ import annotations

import os
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import Refused, TimedOut
from dcrouter.net.dial import connect, open_socket
from dcrouter.net.engine import ENDED, IN, WAIT, Task
from dcrouter.net.stream import Plain
from dcrouter.net.wheel import NEVER
from tests.support.loop import Loop, tcp_pair
from tests.support.ports import reserved


class EngineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.engine = self.loop.engine
        self.loop.start()
        self.addCleanup(self.engine.stop)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        client, server = tcp_pair()
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        return client, server

    def test_what_a_coroutine_raises_ends_that_connection_only(self) -> None:
        """Law 1: the loop goes on, the defect is logged with its traceback, the neighbour is served."""

        async def defect(task: Task, stream: Plain) -> None:
            stream.watch()
            await WAIT
            raise ZeroDivisionError("a defect")

        async def echo(task: Task, stream: Plain) -> None:
            stream.watch()
            while True:
                data = stream.recv()
                if data:
                    stream.send(data)
                await WAIT

        bad, bad_side = self.pair()
        good, good_side = self.pair()
        self.engine.spawn(lambda task: defect(task, Plain(task, bad_side, IN)))
        self.engine.spawn(lambda task: echo(task, Plain(task, good_side, 5)))
        bad.sendall(b"x")
        good.sendall(b"hello")
        self.assertEqual(self.loop.received(good), b"hello")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.engine.tasks), 1)

    def test_a_raise_before_the_first_wait_is_contained_too(self) -> None:
        async def defect(task: Task) -> None:
            raise ZeroDivisionError

        self.engine.spawn(defect)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.engine.tasks, set())

    def test_a_listener_that_raises_does_not_stop_the_loop(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        calls: list[int] = []

        def accept() -> None:
            calls.append(1)
            listener.accept()
            raise OSError("no more")

        self.engine.listen(listener.fileno(), accept)
        for _ in range(2):
            with socket.create_connection(listener.getsockname()):
                seen = len(calls)
                self.loop.until(lambda seen=seen: len(calls) > seen)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)

    def test_a_deadline_that_raises_stops_no_clock(self) -> None:
        """Law 1: the others of that tick expire, and those of the next."""

        class Broken:
            deadline = due = NEVER

            def expired(self, now: float) -> None:
                raise ZeroDivisionError

        async def wait(task: Task) -> None:
            for seconds in (0.2, 1.0):
                task.within(seconds, "idle")
                try:
                    await WAIT
                except TimedOut:
                    expired.append(seconds)

        expired: list[float] = []
        for _ in range(2):
            broken = Broken()
            broken.deadline = self.loop.clock + 0.2
            self.engine.wheel.arm(broken)
        self.engine.spawn(wait)
        self.loop.pass_time(2)
        self.assertEqual(expired, [0.2, 1.0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_number_is_not_reused_within_a_batch(self) -> None:
        """Law 2: a socket that is closed while events wait keeps its number until the batch is done, so no new
        connection receives the old one's event."""
        seen: list[int] = []

        async def closer(task: Task, mine: Plain, others: list[Plain]) -> None:
            mine.watch()
            await WAIT
            for other in others:
                other.close()
            fresh = open_socket(task, socket.AF_INET)
            seen.append(fresh.fd)
            fresh.close()

        async def sleeper(task: Task, stream: Plain) -> None:
            stream.watch()
            while True:
                await WAIT

        pairs = [self.pair() for _ in range(3)]
        others: list[Plain] = []

        def keep(task: Task, side: socket.socket) -> Coroutine[Any, None, None]:
            others.append(Plain(task, side, 0))
            return sleeper(task, others[-1])

        for _, side in pairs[1:]:
            self.engine.spawn(partial(keep, side=side))
        self.engine.spawn(lambda task: closer(task, Plain(task, pairs[0][1], 0), others))
        numbers = {side.fileno() for _, side in pairs[1:]}
        for client, _ in pairs:
            client.sendall(b"x")
        self.loop.until(lambda: seen)
        self.assertNotIn(seen[0], numbers)
        self.assertTrue(all(side.fileno() == -1 for _, side in pairs[1:]))

    def test_readiness_is_kept_while_a_coroutine_waits_for_something_else(self) -> None:
        """Law 3: the client leaves during connect, and is found gone afterwards without another event."""
        found: list[int] = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        async def serve(task: Task, client: Plain) -> None:
            client.watch()
            while not client.ready & ENDED:
                await WAIT
            target = open_socket(task, socket.AF_INET)
            await connect(target, listener.getsockname())
            found.append(client.ready & ENDED)
            target.close()
            client.close()

        client, side = self.pair()
        self.engine.spawn(lambda task: serve(task, Plain(task, side, 0)))
        client.sendall(b"last words")
        client.close()
        self.loop.until(lambda: found)
        self.assertTrue(found[0])

    def test_connect_is_done_on_out_or_error_only(self) -> None:
        """Law 3: news of the other socket wakes the task, and does not pass for a connection."""
        outcome: list[object] = []
        full = socket.socket()
        self.addCleanup(full.close)
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):  # a full backlog drops the SYN: the connect stays open
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
            self.addCleanup(filler.close)

        async def serve(task: Task, client: Plain) -> None:
            client.watch()
            target = open_socket(task, socket.AF_INET)
            task.within(3.0, "connect")
            try:
                await connect(target, full.getsockname())
                outcome.append("connected")
            except TimedOut as error:
                outcome.append(error.phase)
            finally:
                target.close()
                client.close()

        client, side = self.pair()
        self.engine.spawn(lambda task: serve(task, Plain(task, side, 0)))
        for _ in range(5):
            client.sendall(b"x")
            self.loop.turn()
        self.assertEqual(outcome, [])
        self.loop.pass_time(3.5)
        self.assertEqual(outcome, ["connect"])

    def test_a_refused_connect_says_why(self) -> None:
        outcome: list[str] = []
        address = ("127.0.0.1", reserved(self))

        async def serve(task: Task) -> None:
            target = open_socket(task, socket.AF_INET)
            try:
                await connect(target, address)
            except OSError as error:
                outcome.append(str(error.strerror))
            finally:
                target.close()

        self.engine.spawn(serve)
        self.loop.until(lambda: outcome)
        self.assertEqual(outcome, ["Connection refused"])

    def test_a_task_that_asks_again_runs_after_the_others(self) -> None:
        """Law 4: whoever has used up its step goes to the end of the queue."""
        order: list[str] = []

        async def busy(task: Task) -> None:
            for _ in range(3):
                order.append("busy")
                self.engine.again(task)
                await WAIT

        async def small(task: Task, stream: Plain) -> None:
            stream.watch()
            await WAIT
            order.append("small")

        client, side = self.pair()
        self.engine.spawn(lambda task: small(task, Plain(task, side, 0)))
        client.sendall(b"x")
        self.engine.spawn(busy)
        self.loop.until(lambda: len(order) == 4)
        self.assertLess(order.index("small"), 3)

    def test_run_again_work_left_over_is_resumed_without_events(self) -> None:
        """The engine gives way to the reactor after a while, and never strands a task that is ready."""
        turns: list[int] = []

        async def busy(task: Task) -> None:
            for number in range(200):
                turns.append(number)
                self.loop.clock += 0.001
                self.engine.again(task)
                await WAIT

        self.engine.spawn(busy)
        self.engine.work(lambda: 0.0)
        self.assertLess(len(turns), 200)
        self.loop.until(lambda: len(turns) == 200)

    def test_a_deadline_is_raised_inside_with_its_phase(self) -> None:
        """Law 6."""
        phases: list[str] = []

        async def wait(task: Task) -> None:
            task.within(2.0, "idle")
            try:
                await WAIT
            except TimedOut as error:
                phases.append(error.phase)

        self.engine.spawn(wait)
        self.loop.pass_time(1.5)
        self.assertEqual(phases, [])
        self.loop.pass_time(1.0)
        self.assertEqual(phases, ["idle"])
        self.assertEqual(self.engine.tasks, set())

    def test_a_lifetime_ends_whoever_keeps_busy(self) -> None:
        phases: list[str] = []

        async def wait(task: Task) -> None:
            task.limit(3.0)
            try:
                while True:
                    task.within(1.0, "idle")
                    await WAIT
            except TimedOut as error:
                phases.append(error.phase)

        task = self.engine.spawn(wait)
        for _ in range(10):
            self.engine.again(task)
            self.loop.pass_time(0.4)
        self.assertEqual(phases, ["lifetime"])

    def test_a_task_can_be_ended_from_outside(self) -> None:
        ended: list[str] = []

        async def wait(task: Task) -> None:
            try:
                await WAIT
            except Refused as error:
                ended.append(str(error))

        task = self.engine.spawn(wait)
        task.throw(Refused("drained"))
        self.assertEqual(ended, ["drained"])
        task.throw(Refused("again"))
        self.assertEqual(ended, ["drained"])

    def test_a_socket_that_is_handed_over_is_forgotten_first(self) -> None:
        """Law 2: it lives on in another process, so the kernel would go on reporting it here."""
        woken: list[int] = []
        copies: list[int] = []

        async def serve(task: Task, stream: Plain) -> None:
            stream.watch()
            copies.append(os.dup(stream.release().fileno()))
            stream.close()
            await WAIT
            woken.append(1)

        client, side = self.pair()
        self.engine.spawn(lambda task: serve(task, Plain(task, side, 0)))
        self.addCleanup(os.close, copies[0])
        client.sendall(b"for the next owner")
        for _ in range(5):
            self.loop.turn()
        self.assertEqual(woken, [])
        self.assertEqual(os.read(copies[0], 100), b"for the next owner")

    def test_stop_closes_what_is_open(self) -> None:
        async def serve(task: Task, stream: Plain) -> None:
            try:
                stream.watch()
                await WAIT
            finally:
                stream.close()

        client, side = self.pair()
        self.engine.spawn(lambda task: serve(task, Plain(task, side, 0)))
        self.engine.stop()
        self.assertEqual(client.recv(1), b"")
        self.assertEqual(side.fileno(), -1)
