"""A batch of kills of one service under load; at its end everything that was acknowledged must have arrived.

A kill is armed on a message of its own, the trigger. Where it strikes is seen by who is there: the client (`data`,
`body`, `before`, `after`), the far end (`remote`), or the disk, in the thread of the file system, while the process
waits for the sync of the WAL that holds the trigger (`commit`, `before`) or takes it away (`settle`, `dsn`).
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from attrs import frozen

from bench.backend import make_certificate
from bench.reliability.far import Broken, Client, FarEnd
from bench.reliability.ledger import Item, Ledger, Parcel
from bench.reliability.plan import Figures, Kill
from bench.reliability.service import Service
from tests.support.disk import Change, Disk

SENDERS = 4
"""Clients that send without a pause."""

TRIES = 4
"""For a kill that came too late, or never to its point."""

_STRIKE_WITHIN = 5.0
_DRAIN_WITHIN = 240.0


@frozen(kw_only=True)
class Start:
    """How much a start usually takes: changes of the disk, and seconds until it is ready."""

    changes: int
    seconds: float


class Batch:
    """One service and its ends. `random` decides all that is left to chance.

    `refusals`: whether some of the load is for a recipient whom the far end refuses.
    """

    def __init__(self, base: Path, random: Random, *, refusals: bool) -> None:
        self.random = random
        self._refusals = 0.03 if refusals else 0.0
        self.ledger = Ledger(random)
        self.disk = Disk()
        self.far = FarEnd(self.ledger, self._taken, make_certificate(base))
        self._base = base
        self._service: Service
        self._armed: _Strike | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._told = 0
        self._files: dict[str, Item] = {}
        self._usual = {"service": Start(changes=60, seconds=1.2), "mail": Start(changes=30, seconds=0.8)}

    async def run(self, kills: Sequence[Kill]) -> list[Kill]:
        """Does these; gives those that never came to their point (`missed`)."""
        await self.far.start()
        self._service = Service(self._base, self.disk, self.far.port)
        missed = []
        try:
            self._service.start()
            await self._service.ready()
            self._tasks = [asyncio.create_task(self._send_on()) for _ in range(SENDERS)]
            for kill in kills:
                for _ in range(TRIES):
                    if await self._one(kill):
                        break
                else:
                    missed.append(kill)
            await self._drained(kills[-1])
        finally:
            for task in self._tasks:
                task.cancel()
            self._service.close()
            await self.far.close()
        return missed

    # ------------------------------------------------------------------ load

    async def _send_on(self) -> None:
        client = Client(self._service.port)
        try:
            while True:
                parcel = self.ledger.parcel(refused=self.random.random() < self._refusals)
                try:
                    await client.send(parcel, lambda step: None)
                except (Broken, OSError, TimeoutError):
                    client.close()
                    await asyncio.sleep(0.02)
                else:
                    self.ledger.told(parcel)
                    self._told += 1
                    if self.random.random() < 0.1:
                        client.close()
        finally:
            client.close()  # a message that is cut off here would hold up the service's end

    async def _loaded(self) -> None:
        """Some messages have been acknowledged since the last kill."""
        goal = self._told + self.random.randrange(5, 40)
        async with asyncio.timeout(_DRAIN_WITHIN):
            while self._told < goal:
                await asyncio.sleep(0.005)

    # ------------------------------------------------------------------ one kill

    async def _one(self, kill: Kill) -> bool:
        await self._loaded()
        self.far.blame = kill.name
        figures = self.ledger.of(kill.name)
        struck = await (self._during_start(kill) if kill.point == "start" else self._at_point(kill))
        if not struck:
            figures.missed += 1
            return False
        figures.kills += 1
        figures.powered_off += kill.power != "kept"
        await self._service.ready()
        return True

    async def _at_point(self, kill: Kill) -> bool:
        strike = self._armed = _Strike(self, kill)
        trigger = asyncio.create_task(self._trigger(strike))
        try:
            await asyncio.wait_for(strike.struck.wait(), _STRIKE_WITHIN)
        except TimeoutError:
            return False
        finally:
            strike.disarm()
            self._armed = None
            trigger.cancel()
        if strike.hit:
            await self._aftermath(kill)
        return strike.hit

    async def _trigger(self, strike: _Strike) -> None:
        client = Client(self._service.port)
        try:
            with contextlib.suppress(Broken, OSError, TimeoutError):
                await client.send(strike.parcel, strike.step)
        finally:
            client.close()

    def _taken(self, token: str) -> None:
        if self._armed is not None and token == self._armed.parcel.token:
            self._armed.taken()

    async def _aftermath(self, kill: Kill) -> None:
        """What the kill has left is looked at, and the service started again."""
        await self._service.dead(kill, self.random)
        self._take_stock(kill, await self.far.quiet())
        if kill.scope == "service":
            self._service.start()

    def _take_stock(self, kill: Kill, quiet: bool) -> None:
        queued = self._service.queued()
        if not quiet:
            raise RuntimeError("connections to the far end outlive the mail process")
        self.ledger.stock(kill.name, queued, self._boxes())

    def _boxes(self) -> set[Item]:
        present = self._service.files()
        for name, (box, octets) in present.items():
            if name not in self._files:
                item = self.ledger.file(octets, box, self.far.blame)
                if item is not None:
                    self._files[name] = item
                    self.ledger.filed(item, self.far.blame)
        return {self._files[name] for name in present if name in self._files}

    async def _during_start(self, kill: Kill) -> bool:
        """Killed under load, and while it starts again once more: after some changes of the disk, or some time."""
        service, scope = self._service, kill.scope
        service.kill(kill)
        await self._aftermath(kill)
        if scope == "mail":
            before = service.mail
            async with asyncio.timeout(_DRAIN_WITHIN):
                while (pid := service.mail_process()) in (None, before):
                    await asyncio.sleep(0.002)
            service.mail = pid or 0
        strike = _Strike(self, kill)
        ready = asyncio.create_task(service.ready())
        loop = asyncio.get_running_loop()
        began = loop.time()
        later: asyncio.TimerHandle | None = None
        if self.random.random() < 0.5:
            strike.after_changes = self.random.randrange(1, self._usual[scope].changes + 1)
        else:
            later = loop.call_later(self.random.uniform(0.0, self._usual[scope].seconds), strike.strike)
        self.disk.before = strike.counting
        struck = asyncio.create_task(strike.struck.wait())
        await asyncio.wait([ready, struck], return_when=asyncio.FIRST_COMPLETED)
        strike.disarm()
        if later is not None:
            later.cancel()
        if not strike.hit:
            await ready
            struck.cancel()
            self._usual[scope] = Start(changes=max(strike.changes, 1), seconds=loop.time() - began)
            return False
        ready.cancel()
        await struck
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await ready
        await self._aftermath(kill)
        return True

    # ------------------------------------------------------------------ the end

    async def _drained(self, last: Kill) -> None:
        """The load ends; what is queued is sent; then the books are closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DRAIN_WITHIN
        while self._service.queued() and loop.time() < deadline:
            await asyncio.sleep(0.1)
        if why := self._service.why_queued():
            self.ledger.complaints += [f"{last.name}: after {_DRAIN_WITHIN:g} s: {one}" for one in why]
            self.ledger.complaints.append(self._service.log())
        self._service.stop()
        self.ledger.final(last.name, self._service.queued(), self._boxes())


class _Strike:
    """One armed kill. Its hooks run in the thread of the file system; `strike` in any."""

    def __init__(self, batch: Batch, kill: Kill) -> None:
        self._batch = batch
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self.struck = asyncio.Event()
        self.done = self.hit = False
        self.changes = 0
        self.after_changes = 0
        random = batch.random
        simple = kill.point in ("remote", "settle")
        self.parcel: Parcel = batch.ledger.parcel(refused=kill.point == "dsn", simple=simple)
        self._token = self.parcel.sender.encode()
        self._delay = random.uniform(0.0, 0.005)
        self._early = random.random() < 0.5
        self._written = False
        self._answered = False
        batch.disk.before = self._before
        batch.disk.after = self._after

    def disarm(self) -> None:
        self._batch.disk.before = self._batch.disk.after = None

    def strike(self) -> None:
        if not self.done:
            self.done = self.hit = True
            self._batch._service.kill(self._kill)
            self._loop.call_soon_threadsafe(self.struck.set)

    def _missed(self) -> None:
        self.done = True
        self.struck.set()

    # ------------------------------------------------------------------ seen by the ends

    def step(self, name: str) -> None:
        """The trigger's client has come this far."""
        point = self._kill.point
        if (name, point) in (("354", "data"), ("body", "body"), ("250", "after")):
            self.strike()
        elif (name, point) == ("dot", "before") and self._early:
            self._loop.call_later(self._delay, self.strike)
        if name == "250":
            if point == "before" and not self.done:
                self._missed()  # too late: it would be another point
            self._batch.ledger.told(self.parcel)

    def taken(self) -> None:
        """The far end has said 250 to the trigger, or to the notification of its failure."""
        self._answered = True
        if self._kill.point == "remote":
            self.strike()

    # ------------------------------------------------------------------ seen by the disk

    def _before(self, change: Change) -> int | None:
        if self.done or not change.path.endswith("-wal"):
            return None
        if change.kind == "write" and self._token in change.data:
            self._written = True
        elif change.kind == "sync":
            early_settle = self._early and self._kill.point in ("settle", "dsn")
            late_before = not self._early and self._kill.point == "before"
            if (late_before and self._written) or (early_settle and self._settling()):
                self.strike()
        return None

    def _after(self, change: Change) -> None:
        if self.done or change.kind != "sync" or not change.path.endswith("-wal"):
            return
        late_settle = not self._early and self._kill.point in ("settle", "dsn")
        if (self._written and self._kill.point == "commit") or (late_settle and self._settling()):
            self.strike()

    def _settling(self) -> bool:
        """Whether what is being synced takes the trigger out of the queue, or makes it a notification."""
        if self._kill.point == "settle":
            return self._answered and not self._waits("")
        return self._written and self._waits("DSN")

    def _waits(self, what: str) -> bool:
        return self._batch._service.holds(self.parcel.token, notification=what == "DSN")

    def counting(self, change: Change) -> int | None:
        """During start-up: strikes at the change that was chosen."""
        self.changes += 1
        if self.changes == self.after_changes:
            self.strike()
        return None


async def batch(
    kills: Sequence[Kill], random: Random, *, refusals: bool = True
) -> tuple[dict[str, Figures], list[Kill], list[str]]:
    """Figures by name, the kills that were missed, and what is wrong, in words."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as base:
        one = Batch(Path(base), random, refusals=refusals)
        missed = await one.run(kills)
    return one.ledger.figures, missed, one.ledger.complaints
