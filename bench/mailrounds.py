"""How a row about mail is run: both servers up and proven to deliver, then turns, A B A B, as in `rounds`.

Nothing is pinned: a server's processes, smtp-source and smtp-sink share all cores, as on a machine that does nothing
else; Postfix is many processes and would be hurt most by a pin. How many messages a turn has is found out before, so
that it lasts about as long as asked for on each side.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from bench import mta
from bench.load import LoadMakers
from bench.machine import find
from bench.mailrows import MailRow
from bench.measures import Figures
from bench.mta import Mta, Sink
from bench.process import Failed

_LONGEST = 90.0
_WARM = {4: 8, 20: 400, 200: 800}
"""Sessions -> messages before it counts: every process that is needed has been started, and the rate is known."""


@frozen(kw_only=True)
class Server:
    """One side of one row: `own` is what is measured, `alone` the same without a backlog, where the row has one."""

    own: Mta
    alone: Mta | None
    counts: dict[int, int]
    memory: float | None


def obstacle() -> str | None:
    """Why mail cannot be measured here, or None."""
    missing = [name for name in ("smtp-source", "smtp-sink") if find(name) is None]
    return f"needs {' and '.join(missing)} (Debian: postfix)" if missing else None


@contextmanager
def assembled(
    row: MailRow, sides: Sequence[str], data: Path, seconds: float, notes: list[str]
) -> Iterator[tuple[Sink, dict[str, Server]]]:
    """The sink and the servers, warm; a side that does not come up is noted and left out."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="row-", dir=data)))
        for place in (data, directory):
            place.chmod(0o711)  # Postfix's processes are not root
        environment = mta.slow_sync(directory, row.sync) if row.sync else {}
        sink = Sink(directory)
        stack.callback(sink.stop)
        servers: dict[str, Server] = {}
        for name in sides:
            try:
                servers[name] = _server(name, row, directory, environment, sink, seconds, stack)
            except Failed as failure:
                notes.append(f"{name}: left out: {failure}")
        yield sink, servers


def _server(
    name: str,
    row: MailRow,
    directory: Path,
    environment: dict[str, str],
    sink: Sink,
    seconds: float,
    stack: ExitStack,
) -> Server:
    def started(word: str, fill: int) -> Mta:
        own = directory / f"{name}-{word}"
        own.mkdir(mode=0o711)
        task = mta.Task(
            directory=own, sink=sink.port, sessions=row.sessions + row.idle, environment=environment, fill=fill
        )
        server = mta.start(name, task)
        stack.callback(server.stop)
        return server

    own = started("own", row.fill)
    alone = started("alone", 0) if row.fill else None
    memory = None
    if row.idle:
        memory = _hold(row, own, directory, stack)
    counts = {}
    for server in (own, alone):
        if server is not None:
            count = _WARM[row.sessions]
            _flow(row, server, sink, count)
            taken = _flow(row, server, sink, count)[1]
            counts[server.port] = max(int(count / taken * seconds), count)
    return Server(own=own, alone=alone, counts=counts, memory=memory)


def _hold(row: MailRow, server: Mta, directory: Path, stack: ExitStack) -> float:
    """Opens the idle sessions, which stay; KiB for each of them."""
    makers = LoadMakers(directory=directory, cores=None)

    def hold(count: int) -> None:
        program = makers.client("mailhold", host="127.0.0.1", port=server.port, count=count, tls=row.tls)
        stack.callback(program.stop)
        program.line()
        time.sleep(1.0)  # what a server gives back when a session falls idle has been given back

    hold(50)  # what exists once, however many sessions there are, is there before it is counted
    before = server.memory_kib()
    hold(row.idle)
    return (server.memory_kib() - before) / row.idle


def _flow(row: MailRow, server: Mta, sink: Sink, count: int) -> tuple[float, float]:
    """Sends `count` messages through; seconds until all were accepted, and until the sink had all."""
    base = sink.messages
    begin = time.monotonic()
    source = mta.send(server, count=count, sessions=row.sessions, size=row.size, reuse=row.reuse)
    try:
        source.output(_LONGEST)
        accepted = time.monotonic() - begin
        if source.code:
            raise Failed(f"smtp-source ended with {source.code}: {source.tail()}")
    finally:
        source.stop()
    sink.wait_for(base + count, _LONGEST)
    return accepted, time.monotonic() - begin


def turn(row: MailRow, server: Server, sink: Sink) -> Figures:
    """One turn of one side."""
    figures = _measure(row, server.own, sink, server.counts[server.own.port])
    if server.memory is not None:
        figures["memory"] = server.memory
    if server.alone is not None:
        alone = _measure(row, server.alone, sink, server.counts[server.alone.port])
        for figure in ("accept", "through"):
            figures[f"{figure}_alone"] = alone[figure]
            figures[f"{figure}_kept"] = figures[figure] / alone[figure]
    return figures


def _measure(row: MailRow, server: Mta, sink: Sink, count: int) -> Figures:
    before = server.cpu_seconds()
    accepted, through = _flow(row, server, sink, count)
    time.sleep(0.3)  # what the last messages still cost (settling, logs) is theirs
    server.check()
    return {
        "accept": count / accepted,
        "through": count / through,
        "cpu": (server.cpu_seconds() - before) / count * 1e6,
    }
