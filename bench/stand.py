"""The test stand of one row: backend, sides and load makers, started together and taken down together."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import define, frozen

from bench import peers
from bench.backend import Backend, Certificate
from bench.load import CONNECTIONS, LoadMakers, gather, read_wrk
from bench.machine import Cores, find
from bench.place import HERE, Place, free_port
from bench.process import Failed, Program, cpu_seconds, resident_kib
from bench.signed import LETTERS, signed_mail


@frozen(kw_only=True)
class Subject:
    """One started side and its ports. `bulk_port` leads to the backend of downloads, or in a row with many names to the
    usual one, past a few names; `mail_port` is 0 without mail.
    """

    side: peers.Side
    port: int
    bulk_port: int
    mail_port: int

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return cpu_seconds(self.side.processes)

    def role_seconds(self, role: str) -> float:
        """The same for one of dcrouter's processes: edge or mail."""
        return cpu_seconds(self.side.role(role))

    def resident_kib(self) -> int:
        return resident_kib(self.side.processes)


@define(kw_only=True)
class Beside:
    """What went on beside a measurement; filled when its context ends."""

    gib_per_second: float = 0.0
    accepted: int = 0
    rate: float = 0.0
    p99: float = 0.0
    errors: int = 0


@frozen(kw_only=True)
class Stand:
    """`seconds`: how long one load lasts. `letters`: the mail that is sent, None: always the same message."""

    makers: LoadMakers
    backend: Backend
    silent_port: int
    seconds: float
    letters: Path | None = None

    @contextmanager
    def held(self, port: int, kind: str, count: int) -> Iterator[None]:
        """`count` connections through a side, each used once and then idle; closed, and seen off, at the end."""
        program = self.makers.client("hold", host=self.makers.target, port=port, kind=kind, count=count)
        try:
            program.line()
            time.sleep(1.0)  # what a side gives back when a connection falls idle has been given back
            yield
        finally:
            program.stop()
        time.sleep(0.5)

    @contextmanager
    def downloading(self, port: int, *, tls: bool, streams: int) -> Iterator[Beside]:
        """Downloads that begin a little before the context and last a little longer than `seconds`."""
        seconds = self.seconds + 1.5
        beside = Beside()
        programs = self.makers.downloads(port, seconds, streams=streams, tls=tls)
        try:
            time.sleep(0.7)
            yield beside
        finally:
            results = gather(programs, seconds)
        beside.gib_per_second = sum(result["units"] for result in results) / seconds / (1 << 30)

    @contextmanager
    def loaded(self, port: int, rate: float) -> Iterator[Beside]:
        """About `rate` new connections a second, with a ClientHello each, around the context."""
        beside = Beside()
        seconds = self.seconds + 2.0
        program = self.makers.hellos(port, seconds, CONNECTIONS / rate)
        try:
            time.sleep(0.7)
            yield beside
            sent = read_wrk(program.output(seconds + 10.0))
        finally:
            program.stop()
        beside.rate = sent.units / sent.seconds

    @contextmanager
    def mailing(self, port: int, *, rate: int) -> Iterator[Beside]:
        """Paced mail that begins a little before the context and lasts a little longer than `seconds`."""
        beside = Beside()
        seconds = self.seconds + 1.5
        file = {"file": str(self.letters)} if self.letters is not None else {}
        program = self.makers.client("mail", host=self.makers.target, port=port, rate=rate, seconds=seconds, **file)
        try:
            time.sleep(0.7)
            yield beside
        finally:
            (result,) = gather([program], seconds + 10.0)
        latencies = sorted(result["latencies"]) or [float("inf")]
        beside.accepted = result["units"]
        beside.rate = result["units"] / result["seconds"]
        beside.p99 = latencies[int(len(latencies) * 0.99)]
        beside.errors = result["errors"]


@frozen(kw_only=True)
class Plan:
    """What a row needs: which sides, forwarding in which mode to which backend port, with what beside.

    `checked`: the mail is signed, and looked up in DNS. `names`: how many other names there are on the first port;
    FEW_NAMES on the second then, to the same backend.
    """

    sides: Sequence[str]
    mode: peers.Mode
    backend: str
    access_log: bool
    mail: bool
    checked: bool = False
    names: int = 0


FEW_NAMES = 9
MESSAGE = 4096


def _mail_sink(directory: Path, stack: ExitStack) -> tuple[str, int]:
    """A next hop that takes every message: Postfix's smtp-sink."""
    program = find("smtp-sink")
    if program is None:
        raise Failed("smtp-sink is not installed (Debian: postfix)")
    port = free_port()
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    sink = Program([program, *as_user, f"127.0.0.1:{port}", "1000"], directory / "sink.log")
    stack.callback(sink.stop)
    return "127.0.0.1", port


@contextmanager
def assembled(
    plan: Plan,
    certificate: Certificate,
    data: Path,
    cores: Cores,
    places: tuple[Place, Place] = (HERE, HERE),
    *,
    seconds: float,
    tell: Callable[[str], None],
) -> Iterator[tuple[Stand, dict[str, Subject]]]:
    """Everything that a row needs, running and proven to answer. `places`: (of the sides, of load makers and backends).

    A side that does not come up is told of and left out.
    """
    at_proxy, at_load = places
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="row-", dir=data)))
        (directory / "data").symlink_to(data / "data")
        makers = LoadMakers(directory=directory, cores=cores.load, place=at_load)
        backend = Backend(directory, certificate, at_load, cores.load)
        stack.callback(backend.stop)
        silent = makers.client("silent", host=at_load.host, port=free_port())
        stack.callback(silent.stop)
        silent_port = json.loads(silent.line())["port"]
        ports = {"silent": silent_port, **{name: getattr(backend, name) for name in ("web", "tls", "hello")}}
        ports |= {"bulk_web": backend.bulk_web, "bulk_tls": backend.bulk_tls}
        sink = _mail_sink(directory, stack) if plan.mail else None
        dns = signed_mail(directory, MESSAGE, stack) if plan.checked else 0
        letters = directory / LETTERS if plan.checked else None
        stand = Stand(makers=makers, backend=backend, silent_port=silent_port, seconds=seconds, letters=letters)
        subjects: dict[str, Subject] = {}
        for name in plan.sides:
            own = directory / name
            own.mkdir()
            second = ("bulk_web", 0) if not plan.names else (plan.backend, FEW_NAMES)
            fronts = [
                peers.Frontend(mode=plan.mode, port=free_port(), target=(at_load.host, ports[target]), names=names)
                for target, names in ((plan.backend, plan.names), second)
            ]
            setup = None if sink is None else peers.MailSetup(port=free_port(), sink=sink, dns=dns)
            task = peers.Task(
                directory=own,
                certificate=certificate,
                frontends=fronts,
                place=at_proxy,
                access_log=plan.access_log,
                mail=setup,
                cores=cores.proxy,
            )
            try:
                side = peers.start(name, task)
            except Failed as failure:
                tell(f"{name}: left out: {failure}")
                continue
            stack.callback(side.stop)
            mail_port = 0 if setup is None else setup.port
            subjects[name] = Subject(side=side, port=fronts[0].port, bulk_port=fronts[1].port, mail_port=mail_port)
        backend.check()
        yield stand, subjects
