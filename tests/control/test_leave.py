"""A child's end, in a process of its own: whatever hangs, it leaves."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHILD = """
import socket, sys, threading
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from dcrouter.control import worker
from tests.control.test_worker import Quiet

worker.LEAVE_WITHIN = worker.LEAVE_AFTER = 1 if sys.argv[1] else 60

class Hangs(Quiet):
    def stop(self):
        if sys.argv[1] == "lock":
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        if sys.argv[1] == "deferred":
            return Deferred()
        if sys.argv[1] == "thread":
            threading.Thread(target=threading.Event().wait).start()

Hangs(reactor, socket.socket(fileno=int(sys.argv[2]))).run()
"""
ROOT = Path(__file__).parents[2]


class LeaveTests(SynchronousTestCase):
    def left(self, how: str) -> int:
        """The exit status of a child whose parent has gone, and whose end hangs like that."""
        ours, theirs = socket.socketpair()
        with theirs, ours:
            argv = [sys.executable, "-c", CHILD, how, str(theirs.fileno())]
            child = subprocess.Popen(argv, cwd=ROOT, pass_fds=[theirs.fileno()])
        try:
            return child.wait(240)
        finally:
            child.kill()
            child.wait()

    def test_nothing_that_hangs_keeps_it(self) -> None:
        """A lock, a Deferred that never fires, a thread that nobody ends: the kernel ends the process."""
        for how in ("lock", "deferred", "thread"):
            self.assertEqual(self.left(how), -signal.SIGALRM, how)

    def test_an_orderly_end_is_one(self) -> None:
        """With nothing that hangs, the exit status is 0."""
        self.assertEqual(self.left(""), 0)
