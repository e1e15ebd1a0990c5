from __future__ import annotations

import fcntl
import hashlib
import os
import random
import resource

from dcrouter.errors import TimedOut, TlsError
from dcrouter.net import relay
from dcrouter.net.engine import WAIT, Task
from dcrouter.net.pipes import Pipes
from dcrouter.net.relay import SPLICED, Spliced
from dcrouter.net.stream import BULK, RECV
from tests.support.ends import descriptors
from tests.support.joined import KINDS, Joined, RelayCase


class PipeTests(RelayCase):
    """Law 5, and what happens where pipes are small or cannot be had."""

    def bulk(self, joined: Joined) -> None:
        data = random.Random(5).randbytes(6_000_000)
        for end, seed in ((joined.client, 6), (joined.target, 7)):
            end.random_chunks(seed)
            end.say(data, end=True)
        joined.run()
        for end in (joined.client, joined.target):
            self.assertEqual(end.hash.digest(), hashlib.sha256(data).digest())

    def test_small_pipes(self) -> None:
        """Beyond pipe-user-pages-soft a pipe holds two pages."""

        class SmallPipes(Pipes):
            def take(self) -> tuple[int, int] | None:
                pipe = super().take()
                assert pipe is not None
                fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
                return pipe

        self.bulk(self.join(pipes=SmallPipes()))

    def test_without_descriptors_bytes_are_copied(self) -> None:
        joined = self.join()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        free = os.dup(joined.near.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        self.assertIsNone(joined.pipes.take())
        self.bulk(joined)

    def test_a_pipe_that_holds_bytes_is_not_given_to_others(self) -> None:
        joined = self.join()
        joined.target.deaf = True
        joined.client.say(b"secret" * 2_000_000)
        joined.settle()
        assert isinstance(joined.forth, Spliced)
        self.assertTrue(joined.forth._in_pipe)
        joined.client.reset()
        joined.target.reset()
        self.loop.until(lambda: joined.outcome is not None)
        self.assertEqual(joined.pipes._free, [])
        joined.close()
        self.assertNothingLeft()


class HeldTests(RelayCase):
    def test_what_blocked_sinks_leave_over_has_one_bound(self) -> None:
        """Clients that ask for much and read nothing share a budget; beyond it each holds a small read at most."""
        self.patch(relay, "HELD", 100_000)
        before = relay.Held.total
        deaf = []
        for _ in range(4):
            joined = self.join("client")
            joined.client.deaf = True
            joined.target.say(b"x" * 8_000_000)
            joined.settle()
            deaf.append(joined)
        held = [len(joined.back._held or b"") for joined in deaf]  # type: ignore[union-attr]
        self.assertEqual(sum(held), relay.Held.total - before)
        self.assertLessEqual(sum(held), 100_000 + BULK + 4 * RECV)
        self.assertLessEqual(held[-1], max(RECV, *held[:-1]))
        for joined in deaf:
            joined.client.reset()
            joined.target.reset()
            joined.close()
        self.assertEqual(relay.Held.total, before)


class FairnessTests(RelayCase):
    def test_a_small_exchange_is_not_kept_waiting_by_bulk(self) -> None:
        """Law 4: between two steps of a transfer that never pauses, everybody else gets a turn."""
        for kind in KINDS:
            with self.subTest(kind=kind):
                bulk = self.join(kind)
                small = self.join(kind)
                small.client.say(b"hello")
                small.until(lambda small=small: small.target.got)
                bulk.client.say(bytes(3_000_000))
                bulk.target.deaf = True
                while bulk.client.move():
                    continue
                seen: list[tuple[int, int]] = []
                assert bulk.forth is not None and small.back is not None
                directions = (bulk.forth, small.back)

                async def watch(task: Task, directions=directions, seen=seen) -> None:  # type: ignore[no-untyped-def]
                    for _ in range(50):
                        task.engine.again(task)
                        await WAIT
                        seen.append((directions[0].count, directions[1].count))

                small.target.say(b"answer")
                small.target.move()
                self.loop.engine.spawn(watch)
                self.loop.until(lambda seen=seen: len(seen) == 50)
                answered = next(number for number, (_, count) in enumerate(seen) if count)
                self.assertLess(answered, 3)
                self.assertLess(seen[answered][0], seen[-1][0])
                small.until(lambda small=small: small.client.got == b"answer")

    def test_a_step_is_bounded(self) -> None:
        """However much waits in the source and fits into the sink, one step moves a small multiple of the budget."""
        for kind in KINDS:
            with self.subTest(kind=kind):
                joined = self.join(kind)
                direction = joined.forth
                assert direction is not None
                joined.client.say(bytes(20_000_000))
                most = 0
                while not joined.target.over and direction.count < 20_000_000:
                    joined.client.move()
                    before = direction.count
                    direction.pump()
                    most = max(most, direction.count - before)
                    while joined.target.move():
                        continue
                    self.loop.turn()
                self.assertLessEqual(most, (BULK if kind else SPLICED) + BULK + RECV)


class BrokenTests(RelayCase):
    """Whatever breaks, in whatever phase: the relay ends, and nothing stays open."""

    def test_a_reset_of_either_side_is_told_apart(self) -> None:
        for kind in KINDS:
            for side in ("client", "target"):
                with self.subTest(kind=kind, side=side):
                    joined = self.join(kind)
                    joined.client.say(b"hello")
                    joined.target.say(b"welcome")
                    joined.until(lambda joined=joined: joined.target.got and joined.client.got)
                    getattr(joined, side).reset()
                    joined.until(lambda joined=joined: joined.outcome is not None)
                    self.assertIsInstance(joined.outcome, OSError)
                    failed = joined.forth if side == "client" else joined.back
                    other = joined.back if side == "client" else joined.forth
                    assert failed is not None and other is not None
                    self.assertTrue(failed.source_failed)
                    self.assertFalse(other.source_failed)
                    joined.close()
                    self.assertNothingLeft()

    def test_a_reset_after_the_end_is_noticed_without_a_byte_from_the_other_side(self) -> None:
        """Nobody reads from a side that has ended: only its event tells that it is gone."""
        for side, other in (("client", "target"), ("target", "client")):
            for kind in KINDS:
                with self.subTest(kind=kind, side=side):
                    joined = self.join(kind)
                    joined.client.say(b"hello")
                    joined.until(lambda joined=joined: joined.target.got)
                    getattr(joined, side).say(b"bye", end=True)
                    joined.until(lambda joined=joined, other=other: getattr(joined, other).ended)
                    self.assertIsNone(joined.outcome)
                    getattr(joined, side).reset()
                    joined.until(lambda joined=joined: joined.outcome is not None)
                    self.assertIsInstance(joined.outcome, OSError)
                    joined.close()
                    self.assertNothingLeft()

    def test_the_last_words_of_a_target_that_takes_no_more_are_passed_on(self) -> None:
        """A server refuses an upload with an answer, and closes with the upload unread: its kernel sends a reset.

        (From a TLS session whose write has failed OpenSSL reads no more.)
        """
        for kind in ("", "client"):
            with self.subTest(kind=kind):
                joined = self.join(kind)
                joined.client.say(b"POST")
                joined.until(lambda joined=joined: joined.target.got)
                joined.client.say(bytes(3_000_000))
                joined.target.deaf = True
                joined.settle()
                joined.target.say(b"413 too large")
                joined.target.move()
                joined.target.close()
                joined.client.say(bytes(100_000))
                joined.until(lambda joined=joined: joined.outcome is not None and joined.client.over)
                self.assertIsInstance(joined.outcome, OSError)
                self.assertEqual(joined.client.got, b"413 too large")
                joined.close()
                self.assertNothingLeft()

    def test_cut_after_any_number_of_steps(self) -> None:
        """Handshakes, copies, splices, blocked sinks, half-closes: a cut in the middle leaves nothing open."""
        cuts = random.Random(8)
        for kind in KINDS:
            for number in range(40):
                joined = self.meet(kind, send_buffer=cuts.choice((0, 0, 4096)))
                for end in (joined.client, joined.target):
                    end.keep = False
                    end.random_chunks(number)
                    end.deaf = cuts.random() < 0.2
                    end.say(bytes(cuts.choice((0, 1, 5000, 1_000_000))), end=cuts.random() < 0.3)
                for _ in range(cuts.randrange(1, 30)):
                    joined.move()
                    self.loop.turn()
                side, other = cuts.choice(((joined.client, joined.target), (joined.target, joined.client)))
                cuts.choice((side.reset, side.close))()
                for _ in range(cuts.randrange(10)):
                    other.deaf = False
                    other.move()
                    self.loop.turn()
                joined.close()
                self.assertIsInstance(joined.outcome, (str, OSError, TlsError))
        self.assertNothingLeft()

    def test_a_timeout_in_the_middle_of_a_splice(self) -> None:
        joined = self.join(idle=1.0)
        joined.target.deaf = True
        joined.client.say(bytes(10_000_000))
        joined.settle()
        self.loop.pass_time(1.5)
        self.assertIsInstance(joined.outcome, TimedOut)
        joined.close()
        self.assertNothingLeft()

    def test_stopping_the_engine_gives_everything_back(self) -> None:
        joined = [self.join(kind) for kind in KINDS for _ in range(5)]
        for one in joined:
            one.target.deaf = True
            one.client.say(bytes(3_000_000))
            one.settle()
        self.loop.engine.stop()
        for one in joined:
            for end in (one.client, one.target):
                end.close()
            one.outcome = "stopped"
            one.pipes.close()
        after = descriptors()
        self.assertEqual(after - self.open, set())
        epolls = [sum(what == "anon_inode:[eventpoll]" for _, what in open_) for open_ in (self.open, after)]
        self.assertEqual(epolls[1], epolls[0] - 1)  # the engine's own is closed, too


class ManyTests(RelayCase):
    def test_a_thousand_connections_over_one_engine(self) -> None:
        pipes = Pipes()
        self.addCleanup(pipes.close)
        joined = [Joined(self.loop, "client" if number % 50 == 0 else "", pipes=pipes) for number in range(1000)]
        for number, one in enumerate(joined):
            one.client.say(b"%d " % number * 500, end=True)
            one.target.say(b"%d!" % number * 5000, end=True)
        left = list(joined)

        def all_over() -> bool:
            nonlocal left
            for one in left:
                one.move()
            left = [one for one in left if not (one.outcome and one.client.over and one.target.over)]
            return not left

        self.loop.until(all_over)
        for number, one in enumerate(joined):
            self.assertEqual(one.target.got, b"%d " % number * 500)
            self.assertEqual(one.client.got, b"%d!" % number * 5000)
            one.client.close()
            one.target.close()
        pipes.close()
        self.assertNothingLeft()
