from __future__ import annotations

import fcntl
import os
import resource

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.pipes import KEEP, LARGE, SIZE, Pipe, Pipes
from tests.support.ends import descriptors


def size(pipe: Pipe) -> int:
    return fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ)


class PipesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.open = descriptors()
        self.pipes = Pipes()
        self.addCleanup(self.pipes.close)

    def take(self) -> Pipe:
        pipe = self.pipes.take()
        assert pipe is not None
        return pipe

    def test_a_pipe_never_blocks_and_is_not_inherited(self) -> None:
        pipe = self.take()
        self.assertEqual(size(pipe), SIZE)
        for end in pipe:
            self.assertFalse(os.get_blocking(end))
            self.assertFalse(os.get_inheritable(end))
        self.pipes.give(pipe)

    def test_an_empty_pipe_is_used_again(self) -> None:
        pipe = self.take()
        self.pipes.give(pipe)
        self.assertEqual(self.take(), pipe)
        self.pipes.discard(pipe)
        self.assertEqual(descriptors() - self.open, set())

    def test_a_bounded_number_is_kept(self) -> None:
        taken = [self.take() for _ in range(KEEP + 50)]
        self.assertEqual(len(descriptors() - self.open), 2 * (KEEP + 50))
        for pipe in taken:
            self.pipes.give(pipe)
        self.assertEqual(len(descriptors() - self.open), 2 * KEEP)
        self.pipes.close()
        self.assertEqual(descriptors() - self.open, set())

    def test_a_bounded_number_is_large(self) -> None:
        """The kernel gives each user a bounded number of pages for all pipes, beyond which new ones shrink to two."""
        for _ in range(2):  # pipes that were closed make room again
            taken = [self.take() for _ in range(LARGE + 20)]
            self.assertEqual(sum(size(pipe) == SIZE for pipe in taken), LARGE)
            for pipe in taken:
                self.pipes.discard(pipe)
        self.assertEqual(descriptors() - self.open, set())

    def test_none_where_descriptors_have_run_out(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        for room in (0, 1):  # for none, and for one of the two ends
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
            try:
                self.assertIsNone(self.pipes.take())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self.assertEqual(descriptors() - self.open, set())
