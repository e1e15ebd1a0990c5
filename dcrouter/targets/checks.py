"""Active checks: each target of a route is asked in a task of its own, in the same loop as the connections.

1. The first checks come at once, one after the other with a small step between them; after that every `interval`, a
   tenth more or less, so that they do not come all together.
2. A check goes the way that the route's connections go: source, proxy, TLS. `timeout` is for all of it.
3. What it finds is kept in the target's state; a change is a line in the log.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from twisted.logger import Logger

from dcrouter.config.actions import Forward
from dcrouter.config.health import Health
from dcrouter.config.routes import Route
from dcrouter.config.targets import UpstreamTls
from dcrouter.errors import Refused, TimedOut, TlsError, WireError, reason_of
from dcrouter.net.engine import WAIT, Engine, Task
from dcrouter.net.stream import Stream, send_all
from dcrouter.targets.reach import Reach
from dcrouter.targets.target import NO_ADDRESS, LiveTarget, NoAddressYet, Targets, is_ours
from dcrouter.targets.tls import TargetTls
from dcrouter.wire.hostport import hostport
from dcrouter.wire.probe import HttpProbe, Probe, SmtpProbe
from dcrouter.wire.proxyheader import speaking_for_ourselves

STEP = 0.005
"""Seconds between the first checks of two targets: hundreds of connects at the same instant would hold others up."""
JITTER = 0.1
AT_ONCE = 128
"""Checks under way in this process: thousands of targets are asked in their turn, and never take the descriptors that
connections need."""
READ = 4096

SOON = 1.0
"""Seconds until a check that could tell nothing is made again."""


class Unknown(Exception):
    """Nothing was learnt about the target: its name has no address yet, or we have no descriptor to ask with."""


NewProbe = Callable[[LiveTarget], Probe | None]
"""What a target is asked once it is connected to; None: that was all."""


class Gate:
    """So many at once; others wait in line."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._line: dict[Task, None] = {}

    async def enter(self, task: Task) -> None:
        """Wait for a place; one `leave` must follow."""
        while not self._free:
            self._line[task] = None
            try:
                await WAIT
            finally:
                self._line.pop(task, None)
        self._free -= 1

    def leave(self) -> None:
        self._free += 1
        for task in self._line:
            task.engine.again(task)
            return


_gate = Gate(AT_ONCE)


class Checks:
    """Those of one route, from `begin` to `end`. `port`: the one that `port: preserve` stands for; `opening`: what each
    connection begins with.
    """

    log = Logger()

    def __init__(
        self, targets: Targets, health: Health, reach: Reach, probe: NewProbe, port: int, opening: bytes
    ) -> None:
        self._targets = targets
        self._health = health
        self._reach = reach
        self._probe = probe
        self._port = port
        self._opening = opening
        self._tasks: list[Task] = []

    def begin(self, engine: Engine) -> None:
        for at, target in enumerate(self._targets.all):
            target.state.watch()
            self._tasks.append(engine.spawn(partial(self._watch, target=target, delay=at * STEP)))

    def end(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.throw(Refused("no longer checked"))
        for target in self._targets.all if tasks else ():
            target.state.unwatch()

    async def _watch(self, task: Task, target: LiveTarget, delay: float) -> None:
        engine, interval = task.engine, self._health.interval
        try:
            while True:
                await _sleep(task, min(delay, interval))
                await _gate.enter(task)
                began = engine.now
                try:
                    self._learn(target, await self._ask(task, target), engine.now)
                    delay = interval * random.uniform(1 - JITTER, 1 + JITTER) - (engine.now - began)
                except Unknown as error:
                    target.state.reason = str(error)
                    delay = SOON
                except Refused:
                    raise
                except Exception:
                    self.log.failure("a check of {target} broke", target=target.label)
                    delay = interval
                finally:
                    _gate.leave()
        except Refused:
            return

    async def _ask(self, task: Task, target: LiveTarget) -> str:
        """One check: what is wrong, or "". Unknown where that says nothing about the target."""
        stream: Stream | None = None
        task.within(self._health.timeout, "check")
        try:
            candidates = target.candidates(self._port)
            if not candidates:
                raise Unknown(NO_ADDRESS)
            stream, _ = await self._reach.open(task, candidates, opening=self._opening)
            probe = self._probe(target)
            if probe is not None:
                await _converse(stream, probe)
        except (OSError, TlsError, WireError, TimedOut) as error:
            if isinstance(error, NoAddressYet) or is_ours(error):
                raise Unknown(error.strerror) from error
            return reason_of(error)
        finally:
            task.within(0, "pause")
            if stream is not None:
                stream.close()
        return ""

    def _learn(self, target: LiveTarget, problem: str, now: float) -> None:
        first = target.state.since is None
        if problem:
            if target.state.missed(self._health, problem, now):
                self.log.warn(
                    "target {target} of route {route} is down: {reason}",
                    target=target.label,
                    route=self._targets.route,
                    reason=target.state.reason,
                )
        elif target.state.passed(self._health, now) and not first:
            self.log.info(
                "target {target} of route {route} is up again", target=target.label, route=self._targets.route
            )


def checks_of(route: Route, targets: Targets, reach: Reach, name: str) -> Checks | None:
    """The active checks that a route asks for, None: none. `name`: who we say we are (EHLO).

    What is TLS on the route is TLS in its checks: on a passthrough route nobody is verified, as its clients do that.
    """
    health = targets.health
    if health is None or health.type is None:
        return None
    own_names = [domain for domain in route.match.domains or () if not domain.startswith(("*", "re:"))]
    server_name = own_names[0] if own_names else None
    tls: TargetTls | None = None
    if health.type != "tcp":
        tls = reach.tls
        passed_on = route.tls is not None and route.tls.mode == "passthrough"
        if tls is None and (health.type == "tls" or (passed_on and health.type == "http")):
            tls = TargetTls(UpstreamTls(verify=False, server_name=server_name))

    port = route.match.ports[0].start if route.match.ports else 0

    def probe(target: LiveTarget) -> Probe | None:
        if health.type == "http":
            host = "localhost" if target.host is None else hostport(target.host, target.port(port))
            return HttpProbe(server_name or host, health.path, health.expect)
        return SmtpProbe(name) if health.type == "smtp" else None

    version = route.action.proxy_protocol if isinstance(route.action, Forward) else None
    opening = b"" if version is None else speaking_for_ourselves(version)
    return Checks(targets, health, reach.speaking(tls), probe, port, opening)


async def _sleep(task: Task, seconds: float) -> None:
    """`seconds` from now, a tick of the engine's wheel at least."""
    task.within(max(seconds, 0.001), "pause")
    while True:
        try:
            await WAIT
        except TimedOut:
            task.within(0, "pause")
            return


async def _converse(stream: Stream, probe: Probe) -> None:
    await send_all(stream, probe.opening)
    while True:
        data = stream.recv(READ)
        if data is None:
            await WAIT
            continue
        if not data:
            raise WireError("closed without an answer")
        words = probe.feed(data)
        if words is None:
            break
        await send_all(stream, words)
    if probe.farewell:
        stream.send(probe.farewell)
        stream.finish()
