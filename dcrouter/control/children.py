"""The edge, the mail process and that of the handlers, kept alive: started, told all they need, joined, and started
again when they die.

1. A fresh child gets what `greeting` says (configuration, listening sockets, addresses), then one end of a new
   socketpair for each child that it is joined with (control/joining.py), and answers `ready`. When all are, `start`'s
   Deferred fires; `go` lets them begin.
2. One that dies is started again after a wait that doubles from 0.1 s to 30 s, and is 0.1 s again once it ran well;
   each death is an error in the log. While mail is down the edge sees the socketpair close and pauses mail by itself.
3. At the very first start a role that dies (or is silent) three times before it is ready fails the whole start: what
   does not work at all is told to the operator at once, not tried for ever. One that says `not_now` (mail, whose disk
   is full) is not waited for: the others begin, and it is tried again like one that died later.
4. While the parent changes the configuration (`hold`, `release`) nobody is started: a process has the one or the other.
5. `stop` drains, waits, dismisses, and kills what is left.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.control.child import Child, Command, command
from dcrouter.control.joining import Joining
from dcrouter.control.post import Post
from dcrouter.control.questions import Questions
from dcrouter.errors import StartError, Unreachable

READY_TIMEOUT = 90.0
"""Seconds from start to `ready`; 10 000 routes need about one. On a host that has no time for us, as when everything
starts at once, whoever is ended and started again is the slower for it.
"""
EXIT_TIMEOUT = 3.0
"""Seconds that a dismissed child has to end by itself."""
DRAIN_MARGIN = 2.0
Message = tuple[str, dict[str, Any], Sequence[int]]
"""(kind, fields, descriptors that stay the sender's)"""


class Children:
    """Supervises one child per role. `greeting(role)` -> what a fresh one is told first; `received` as for Child."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        roles: Iterable[str],
        greeting: Callable[[str], Iterable[Message]],
        received: Callable[[str, str, dict[str, Any]], None],
        command: Command = command,
        lock: int = -1,
    ) -> None:
        self.reactor = reactor
        self.greeting = greeting
        self.received = received
        self.command = command
        self.lock = lock
        self._posts = {role: Post() for role in roles}
        self._questions = Questions(reactor)
        self._joining = Joining(reactor, self._child_of)
        self._going = False
        self._stopping = False
        self._started: Deferred[None] | None = None
        self._stopped: Deferred[None] | None = None
        self._last: list[IDelayedCall] = []
        self._leaving: list[Child] = []
        self._held: list[str] | None = None
        self._settling: list[Deferred[None]] = []

    def start(self) -> Deferred[None]:
        """Start every role; fires when all are ready, fails with StartError when one cannot be started at all."""
        self._started = Deferred()
        for role in self._posts:
            self._spawn(role)
        return self._started

    def go(self) -> None:
        """Let them accept, now and after every restart."""
        self._going = True
        self.tell_all("go")

    def _child_of(self, role: str) -> Child | None:
        post = self._posts.get(role)
        return post.child if post is not None else None

    def tell(self, role: str, kind: str, fields: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Send a message to the role's present process, if there is one: a later one learns from the greeting."""
        child = self._child_of(role)
        if child is not None:
            child.send(kind, fields, fds)

    def tell_all(self, kind: str, fields: dict[str, Any] | None = None) -> None:
        """`tell` for every role."""
        for role in self._posts:
            self.tell(role, kind, fields)

    def ask(
        self, role: str, kind: str, fields: dict[str, Any] | None = None, timeout: float = 2.0
    ) -> Deferred[dict[str, Any]]:
        """A message that is answered by one with the same `id`: the answer's fields. Unreachable where none comes."""
        child = self._child_of(role)
        if child is None:
            return fail(Unreachable(f"the {role} process is not there"))
        return self._questions.ask(role, lambda number: child.send(kind, {**(fields or {}), "id": number}), timeout)

    def settled(self) -> Deferred[None]:
        """Fires when every process that there is has begun its work: soon, for one that does not is killed."""
        settled: Deferred[None] = Deferred()
        self._settling.append(settled)
        self._check_settled()
        return settled

    def hold(self) -> None:
        """Start nobody until `release`."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Start those who would have been started meanwhile."""
        held, self._held = self._held or [], None
        for role in held:
            if not self._stopping and role in self._posts:
                self._spawn(role)

    @property
    def held(self) -> bool:
        """Whether the configuration is being changed."""
        return self._held is not None

    def add(self, role: str, greeting: Iterable[Message]) -> Deferred[None]:
        """One more role, whose first process is started now, whoever else is held, and told this. Fires when it is
        ready; fails with StartError where it cannot be, and then it is not there.
        """
        post = self._posts[role] = Post(added=Deferred())
        assert post.added is not None
        added = post.added
        self._start(role, post, greeting)
        return added

    def retire(self, role: str) -> None:
        """The role has nothing to do any more, and its process ends."""
        post = self._posts.pop(role, None)
        if post is None:
            return
        _cancel(post.later)
        _cancel(post.silent)
        if post.child is not None:
            child = post.child
            self._leaving.append(child)
            child.drain(0)
            self._last = [call for call in self._last if call.active()]
            self._last.append(self.reactor.callLater(EXIT_TIMEOUT, child.kill))

    def present(self) -> list[str]:
        """The roles that have a process now."""
        return [role for role, post in self._posts.items() if post.child is not None]

    def replace(self, role: str) -> None:
        """End the role's process, whatever it is at: another one is started."""
        child = self._posts[role].child
        if child is not None:
            child.kill()

    def roles(self) -> list[str]:
        """All of them, with a process now or not."""
        return list(self._posts)

    def status(self) -> dict[str, dict[str, Any]]:
        """role -> {state, pid, restarts, seconds}: what is known without asking them."""
        return {
            role: {
                "state": post.child.state if post.child is not None else "waiting",
                "pid": post.child.pid if post.child is not None else None,
                "restarts": post.restarts,
                "uptime": round(self.reactor.seconds() - post.child.started, 1) if post.child is not None else 0.0,
            }
            for role, post in self._posts.items()
        }

    def stop(self, timeout: float) -> Deferred[None]:
        """Drain for `timeout` seconds (0: no limit), then end them; fires when no process is left."""
        self._stopping = True
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        self._joining.stop()
        for post in self._posts.values():
            _cancel(post.later)
            _cancel(post.silent)
        for child in self._alive():
            child.drain(timeout)
        if timeout:
            self._last.append(self.reactor.callLater(timeout + DRAIN_MARGIN, self._dismiss))
        self._check_stopped()
        return stopped

    def kill(self) -> None:
        """End all of them now, drained or not."""
        for child in (*self._alive(), *self._leaving):
            child.kill()

    # A life.

    def _spawn(self, role: str) -> None:
        post = self._posts[role]
        post.later = None
        if self._held is not None:
            self._held.append(role)
            return
        self._start(role, post, self.greeting(role))

    def _start(self, role: str, post: Post, greeting: Iterable[Message]) -> None:
        post.tries += 1
        child = Child(role, self.reactor, self._message, self._changed)
        try:
            child.start(self.command(role), self.lock)
        except OSError as error:
            child.cause = f"cannot be started: {error.strerror}"
            self._died(role, post, child)
            return
        post.child = child
        post.silent = self.reactor.callLater(READY_TIMEOUT, self._is_silent, child)
        for kind, fields, fds in greeting:
            child.send(kind, fields, fds)
        self._joining.join(role)

    def _is_silent(self, child: Child) -> None:
        self.log.error("{role} is not ready after {seconds:g} s", role=child.role, seconds=READY_TIMEOUT)
        child.kill()

    def _changed(self, child: Child) -> None:
        if child in self._leaving:
            if child.state == "ended":
                self._leaving.remove(child)
                self._check_stopped()
            return
        post = self._posts[child.role]
        if child.state == "ready":
            self._is_ready(post, child)
        elif child.state == "ended" and post.child is child:
            post.child = None
            _cancel(post.silent)
            self._died(child.role, post, child)

    def _check_settled(self) -> None:
        if all(child.state != "starting" for child in self._alive()):
            settling, self._settling = self._settling, []
            for settled in settling:
                settled.callback(None)

    def _is_ready(self, post: Post, child: Child) -> None:
        _cancel(post.silent)
        self._check_settled()
        if post.added is not None:
            added, post.added = post.added, None
            added.callback(None)
        if post.was_ready:
            self.log.info("{role} is back, pid {pid}", role=child.role, pid=child.pid)
        post.was_ready = post.excused = True
        if self._going:
            child.send("go")
        self._check_started()

    def _check_started(self) -> None:
        if self._started is not None and all(post.began for post in self._posts.values()):
            started, self._started = self._started, None
            started.callback(None)

    def _died(self, role: str, post: Post, child: Child) -> None:
        self._questions.died(role)
        self._check_settled()
        if post.added is not None:
            del self._posts[role]
            post.added.errback(StartError(f"the {role} process does not start ({child.cause}): the log says why"))
            self._check_stopped()
            return
        if self._stopping:
            self._check_stopped()
            return
        if self._started is not None and post.hopeless:
            started, self._started = self._started, None
            where = ": its own lines are above" if child.pid else ""
            started.errback(StartError(f"the {role} process does not start ({child.cause}){where}"))
            return
        wait = post.next_wait(self.reactor.seconds() - child.started if child.started else 0.0)
        words = "{role} (pid {pid}) has died: {cause}; it is started again in {wait:g} s"
        if not child.pid:
            words = "{role} {cause}; that is tried again in {wait:g} s"
        self.log.error(words, role=role, pid=child.pid, cause=child.cause, wait=wait)
        post.restarts += 1
        post.later = self.reactor.callLater(wait, self._spawn, role)

    def _message(self, child: Child, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        for fd in fds:
            # No message to the parent carries files.
            socket.close(fd)
        if self._questions.heard(kind, fields):
            return
        if kind == "alone":
            if not self._stopping:
                self._joining.broke(fields["join"])
        elif kind == "not_now":
            self._posts[child.role].excused = True
            self._check_started()
        elif "id" not in fields:
            self.received(child.role, kind, fields)

    # The end.

    def _alive(self) -> list[Child]:
        return [post.child for post in self._posts.values() if post.child is not None]

    def _dismiss(self) -> None:
        for child in self._alive():
            child.dismiss()
        self._last.append(self.reactor.callLater(EXIT_TIMEOUT, self.kill))

    def _check_stopped(self) -> None:
        if self._stopped is not None and not self._alive() and not self._leaving:
            for call in self._last:
                _cancel(call)
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
