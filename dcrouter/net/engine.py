"""The data plane's loop: one epoll of its own in the Twisted reactor, driving one plain coroutine per connection.

The reactor lets the engine wait in its place (net/reactor.py): the engine's epoll watches the reactor's too, because an
epoll descriptor can itself be polled. Sockets are registered edge-triggered. The laws (each has a test in
tests/net/test_engine.py or tests/net/test_relay.py):

1. The loop never raises: whatever a coroutine raises ends that connection only.
2. A socket that leaves is forgotten first; closes wait until the batch of events is done, because a number that is
   reused inside a batch would receive the old socket's event.
3. Readiness is latched per socket (`Socket.ready`), set by events, cleared by whoever drained it. A coroutine tries
   first and waits then; what happens to its other socket meanwhile is kept.
4. A step has a budget; a coroutine that has used it up asks for `again` and goes to the end of the queue.
6. Deadlines live in one coarse wheel (net/wheel.py).
9. Nothing blocks.

A coroutine waits with `await WAIT` and is woken by any event on any of its sockets. A deadline that passes is raised
inside it as TimedOut, a cancellation as Refused.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from itertools import repeat
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import TimedOut
from dcrouter.net.reactor import Leading
from dcrouter.net.wheel import NEVER, TICK, Wheel

IN = select.EPOLLIN
OUT = select.EPOLLOUT
RDHUP = select.EPOLLRDHUP
ENDED = RDHUP | select.EPOLLHUP | select.EPOLLERR
"""The peer has finished, or the socket has failed: reading goes on until that is read."""
READABLE = IN | ENDED
FAILED = select.EPOLLERR
"""Neither direction lives any more. EPOLLHUP does not say so: a unix socket has it once its peer has closed, with bytes
still to be read."""
URGENT = select.EPOLLPRI
"""A mark in the stream (tcp(7), MSG_OOB): a read stops there although there is more, and splice(2) for good."""
UNSURE = ENDED | URGENT
"""After these a short read does not mean that the socket is empty."""
WATCH_READ = IN | URGENT | select.EPOLLRDHUP | select.EPOLLET
WATCH_BOTH = WATCH_READ | OUT

BATCH = 256
"""Events taken from the kernel at once."""
STAY = 0.004
"""Seconds of work before the reactor gets its turn (timers, the channel to the parent)."""
NAP = 0.001
"""Seconds for which a bulk transfer lets bytes gather (see `nap`)."""


class Wait:
    """`await WAIT`: give way until something happens to one of the task's sockets."""

    # The cheapest thing that yields once, without a frame of Python; nothing is ever sent into it.
    __await__ = staticmethod(partial(iter, (None,)))


WAIT: Awaitable[None] = Wait()


_OVER = object()
"""What `next` gives of a coroutine that has ended: an exception would cost as much as three calls, at each end."""
NOTHING: Iterator[object] = repeat(None)
"""The steps of a task that has ended, which may still be in the queue."""


class Watched(Protocol):
    """What the engine knows of a socket: who waits for it, and what it is ready for (epoll bits)."""

    task: Task
    ready: int


class Closable(Protocol):
    def close(self) -> object: ...


class Task:
    """One connection's coroutine and its deadline."""

    __slots__ = ("coroutine", "deadline", "due", "engine", "limit_at", "phase", "queued", "steps")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.deadline = NEVER
        self.due = NEVER
        self.limit_at = NEVER
        self.phase = ""
        self.queued = False
        self.coroutine: Coroutine[Any, None, None] | None = None
        self.steps: Iterator[object] = NOTHING

    def within(self, seconds: float, phase: str) -> None:
        """From now on at most `seconds` (0: for ever) may pass, else TimedOut(phase) is raised in the coroutine.

        To be called by the coroutine itself, as `until` and `limit`: the wheel is told when it gives way, which many a
        phase never does.
        """
        self.phase = phase
        deadline = self.engine.now + seconds if seconds else NEVER
        self.deadline = deadline if deadline < self.limit_at else self.limit_at

    def until(self, deadline: float) -> None:
        """Move the deadline of the phase."""
        self.deadline = deadline if deadline < self.limit_at else self.limit_at

    def limit(self, seconds: float) -> None:
        """However busy it is, TimedOut("lifetime") is raised in `seconds`."""
        self.limit_at = self.engine.now + seconds
        self.until(self.deadline)

    def expired(self, now: float) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        self.throw(TimedOut("lifetime" if self.limit_at <= now else self.phase))

    def throw(self, error: BaseException) -> None:
        """End what the coroutine waits for with `error`, from outside of it."""
        coroutine = self.coroutine
        if coroutine is not None:
            self.engine.drive(self, lambda: coroutine.throw(error))
            self.engine.settle()


class Engine:
    """The loop. `clock` gives monotonic seconds.

    `now` is the time at the start of the current batch, good enough for every deadline.
    """

    def __init__(self, reactor: Leading, clock: Callable[[], float] = time.monotonic) -> None:
        self._reactor = reactor
        self._clock = clock
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._sources: dict[int, Callable[[], None]] = {}
        self._run: deque[Task] = deque()
        self._closing: list[Closable | int] = []
        self._napping: list[Watched] = []
        self._nap_ends = NEVER
        self._in_batch = False
        self._timer: IDelayedCall | None = None
        self._followers: int = -1
        self._log = Logger()
        self.tasks: set[Task] = set()
        self.now = clock()
        self.wheel = Wheel(self.now)

    # For the owner of the engine.

    def start(self) -> None:
        """Wait in the reactor's place from now on."""
        self._followers = self._reactor.follow(self)
        if self._followers != -1:
            self._epoll.register(self._followers, IN)
        self._tick()

    def stop(self) -> None:
        """Leave the reactor; every connection that is still here is closed."""
        for task in list(self.tasks):
            if task.coroutine is not None:
                self.drive(task, task.coroutine.close)
            self._end(task)
        self._close_all()
        self._reactor.follow(None)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._epoll.closed:
            self._epoll.close()

    def spawn(self, make: Callable[[Task], Coroutine[Any, None, None]]) -> Task:
        """Start a connection: `make(task)` gives its coroutine, which runs at once up to its first wait."""
        task = Task(self)
        self.begin(task, make(task))
        return task

    def begin(self, task: Task, coroutine: Coroutine[Any, None, None]) -> None:
        """The same for who has made both."""
        task.coroutine = coroutine
        task.steps = coroutine.__await__()
        self.tasks.add(task)
        self.drive(task, None)

    # For coroutines and their sockets.

    def watch(self, fd: int, socket: Watched, events: int = WATCH_READ) -> None:
        """Latch what happens to `fd` in `socket.ready` and wake its task."""
        self._watched[fd] = socket
        self._epoll.register(fd, events)

    def rewatch(self, fd: int, events: int) -> None:
        """Change what is watched; what is ready already is reported again."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching a socket that lives on elsewhere."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self, fd: int, sock: Closable | None) -> None:
        """Forget a socket and close it when the batch is done; the kernel takes it out of the epoll by itself.

        `sock`: the object that owns the descriptor; None: nobody but the caller does.
        """
        self._watched.pop(fd, None)
        self._closing.append(fd if sock is None else sock)

    def again(self, task: Task) -> None:
        """Run `task` once more after everybody else, although nothing happens to its sockets."""
        if not task.queued:
            task.queued = True
            self._run.append(task)

    def nap(self, socket: Watched) -> None:
        """Try `socket` again in NAP seconds, or soon after, although nothing was heard of it: its low-water mark may
        have kept the last bytes of a transfer quiet.
        """
        if not self._napping:
            self._nap_ends = self.now + NAP
        self._napping.append(socket)

    def listen(self, fd: int, accept: Callable[[], None]) -> None:
        """Call `accept` whenever the listening socket `fd` has connections (level-triggered)."""
        self._sources[fd] = accept
        self._epoll.register(fd, IN)

    def unlisten(self, fd: int) -> None:
        """The inverse of `listen`; nothing happens if it does not listen."""
        if self._sources.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    # The loop.

    def work(self, patience: Callable[[], float]) -> bool:
        """Serve whoever has something to do, for about STAY seconds, or until nothing has come for `patience()` seconds
        (-1: for ever). Gives whether the reactor's own descriptors have work.
        """
        run, watched, sources, clock = self._run, self._watched, self._sources, self._clock
        poll = self._epoll.poll
        leave = clock() + STAY
        followers = self._followers
        while True:
            # A timer that is set and taken back costs more than it seems: better one long wait than many short ones.
            events = poll(0 if run else NAP if self._napping else patience(), BATCH)
            self.now = now = clock()
            if self._napping and (not events or now >= self._nap_ends):
                self._wake()
            if not events and not run:
                return False
            self._in_batch = True
            called = False
            accepting = []
            for fd, what in events:
                socket = watched.get(fd)
                if socket is not None:
                    socket.ready |= what
                    task = socket.task
                    if not task.queued:
                        task.queued = True
                        run.append(task)
                elif fd in sources:
                    accepting.append(fd)
                elif fd == followers:
                    called = True
            for _ in range(len(run)):
                task = run.popleft()
                task.queued = False
                # Inlined `drive`: this line runs for every event of every connection.
                try:
                    if next(task.steps, _OVER) is _OVER:
                        self._end(task)
                    elif task.deadline < task.due:
                        self.wheel.arm(task)
                except BaseException as error:
                    self._failed(task, error)
            for fd in accepting:
                accept = sources.get(fd)
                if accept is not None:
                    try:
                        accept()
                    except Exception:
                        self._log.failure("a listener failed to accept")
            self._in_batch = False
            if self._closing:
                self._close_all()
            if called or now > leave:
                return called

    def _wake(self) -> None:
        """The end of every nap."""
        for socket in self._napping:
            socket.ready |= IN
            self.again(socket.task)
        self._napping.clear()

    def settle(self) -> None:
        """Close what waits to be closed, unless a batch is under way, which does it at its end."""
        if self._closing and not self._in_batch:
            self._close_all()

    def drive(self, task: Task, how: Callable[[], object] | None) -> None:
        """Run a task's coroutine up to its next wait; `how` replaces the plain resumption (used for throw)."""
        try:
            if (next(task.steps, _OVER) if how is None else how()) is _OVER:
                self._end(task)
            elif task.deadline < task.due:
                self.wheel.arm(task)
        except StopIteration:
            self._end(task)
        except BaseException as error:
            self._failed(task, error)

    def _end(self, task: Task) -> None:
        task.coroutine = None
        task.steps = NOTHING
        self.tasks.discard(task)
        if task.due != NEVER:
            self.wheel.disarm(task)

    def _failed(self, task: Task, error: BaseException) -> None:
        self._end(task)
        self._log.failure("a connection failed", Failure(error))

    def _close_all(self) -> None:
        for sock in self._closing:
            try:
                if isinstance(sock, int):
                    os.close(sock)
                else:
                    sock.close()
            except OSError:  # a close that reports a late error (ECONNRESET) has closed all the same
                continue
        self._closing.clear()

    def _tick(self) -> None:
        self.now = self._clock()
        for sleeper in self.wheel.turn(self.now):
            try:
                sleeper.expired(self.now)
            except Exception:
                self._log.failure("a deadline could not be kept")
        self._close_all()
        self._timer = self._reactor.callLater(TICK, self._tick)
