"""How a row about mail is run: both servers up and proven to deliver, then turns, A B A B, as in `rounds`.

Nothing is pinned: a server's processes, smtp-source and smtp-sink share all cores, as on a machine that does nothing
else; Postfix is many processes and would be hurt most by a pin. How many messages a turn has is found out before, so
that it lasts about as long as asked for on each side.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from bench import mta
from bench.load import LoadMakers, gather
from bench.machine import find
from bench.mailrows import MailRow
from bench.measures import Figures
from bench.mta import Mta, Sinks
from bench.process import Failed
from bench.signed import LETTERS, signed_mail

SLOTS = 5000
FLOOD = 15_000
FLOOD_RATE = 3000
"""Connections that are begun in a second, as far as the machine manages."""
_LONGEST = 90.0
_WARM = {4: 8, 20: 400, 200: 800}
"""Sessions -> messages before it counts: every process that is needed has been started, and the rate is known."""


@frozen(kw_only=True)
class Server:
    """One side of one row: `own` is what is measured, `alone` the same without a backlog, or a proxy, where the row has
    one.
    """

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
) -> Iterator[tuple[Sinks, dict[str, Server]]]:
    """The sinks and the servers, warm; a side that does not come up is noted and left out."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="row-", dir=data)))
        for place in (data, directory):
            place.chmod(0o711)  # Postfix's processes are not root
        environment = mta.slow_sync(directory, row.sync) if row.sync else {}
        sinks = Sinks(directory, row.sinks)
        stack.callback(sinks.stop)
        dns = 0
        if row.load == "checked":
            dns = signed_mail(directory, row.size, stack)
        servers: dict[str, Server] = {}
        for name in sides:
            try:
                servers[name] = _server(name, row, directory, environment, sinks, seconds, stack, dns)
            except Failed as failure:
                notes.append(f"{name}: left out: {failure}")
        yield sinks, servers


def _server(
    name: str,
    row: MailRow,
    directory: Path,
    environment: dict[str, str],
    sinks: Sinks,
    seconds: float,
    stack: ExitStack,
    dns: int,
) -> Server:
    def started(word: str, fill: int, socks: int | None) -> Mta:
        own = directory / f"{name}-{word}"
        own.mkdir(mode=0o711)
        task = mta.Task(
            directory=own,
            sinks=sinks.ports,
            sessions=row.sessions + row.idle,
            environment=environment,
            fill=fill,
            dns=dns,
            slots=SLOTS if row.load == "flood" else 0,
            socks=socks,
        )
        server = mta.start(name, task)
        stack.callback(server.stop)
        return server

    proxy = mta.Socks(row.socks, directory) if row.socks is not None else None
    if proxy is not None:
        stack.callback(proxy.stop)
    own = started("own", row.fill, None if proxy is None else proxy.port)
    alone = started("alone", 0, None) if row.fill or row.socks is not None else None
    memory = None
    if row.idle:
        memory = _hold(row, own, directory, stack)
    if row.load == "checked":
        _prove_checked(own, directory)
    counts = {}
    for server in (own, alone):
        if server is not None and row.load != "flood":
            count = _WARM[row.sessions]
            _flow(row, server, sinks, count)
            taken = _flow(row, server, sinks, count)[1]
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


def _flow(row: MailRow, server: Mta, sinks: Sinks, count: int) -> tuple[float, float]:
    """Sends `count` messages through; seconds until all were accepted, and until the sinks had all."""
    base = sinks.messages
    begin = time.monotonic()
    if row.load == "checked":
        letters = server.directory.parent / LETTERS
        options = {"file": str(letters), "port": server.port, "count": count}
        source = _makers(server).client("letters", sessions=row.sessions, reuse=row.reuse, **options)
        (result,) = gather([source], _LONGEST)
        if result["failed"]:
            raise Failed(f"mail was not taken: {result['failed'][0]}")
        accepted = result["seconds"]
    else:
        domains = ("dead0.test",) if row.load == "received" else mta.DOMAINS[: row.sinks]
        _send(row, server, count, domains)
        accepted = time.monotonic() - begin
    if row.load != "received":
        sinks.wait_for(base + count, _LONGEST)
    return accepted, time.monotonic() - begin


def _send(row: MailRow, server: Mta, count: int, domains: Sequence[str]) -> None:
    """`count` messages, each domain its share, all at once."""
    with ExitStack() as stack:
        sources = []
        for number, domain in enumerate(domains):
            share = count // len(domains) + (number < count % len(domains))
            source = mta.send(
                server,
                count=share,
                sessions=row.sessions // len(domains),
                size=row.size,
                reuse=row.reuse,
                recipient=f"b@{domain}",
            )
            stack.callback(source.stop)
            sources.append(source)
        for source in sources:
            source.output(_LONGEST)
            if source.code:
                raise Failed(f"smtp-source ended with {source.code}: {source.tail()}")


def _makers(server: Mta) -> LoadMakers:
    return LoadMakers(directory=server.directory, cores=None)


def _prove_checked(server: Mta, directory: Path) -> None:
    """Failed where a letter is taken that is not as it was signed."""
    sender, text = json.loads((directory / LETTERS).read_text().partition("\n")[0])
    forged = directory / "forged.jsonl"
    forged.write_text(json.dumps([sender, text.replace("\r\n\r\n", "\r\n\r\nPay me. ", 1)]) + "\n")
    options = {"file": str(forged), "port": server.port, "count": 1, "sessions": 1, "reuse": False}
    (result,) = gather([_makers(server).client("letters", **options)], 30.0)
    if not any("550 5.7." in one for one in result["failed"]):
        raise Failed(f"a forged letter was taken: {result['failed']}")


def turn(row: MailRow, server: Server, sinks: Sinks) -> Figures:
    """One turn of one side."""
    if row.load == "flood":
        return _beside_flood(server.own)
    figures = _measure(row, server.own, sinks, server.counts[server.own.port])
    if server.memory is not None:
        figures["memory"] = server.memory
    if server.alone is not None:
        alone = _measure(row, server.alone, sinks, server.counts[server.alone.port])
        for figure in ("accept", "through"):
            figures[f"{figure}_alone"] = alone[figure]
            figures[f"{figure}_kept"] = figures[figure] / alone[figure]
    return figures


def _measure(row: MailRow, server: Mta, sinks: Sinks, count: int) -> Figures:
    before = server.cpu_seconds()
    accepted, through = _flow(row, server, sinks, count)
    time.sleep(0.3)  # what the last messages still cost (settling, logs) is theirs
    server.check()
    if row.load == "received":
        spent = server.cpu_seconds() - before
        return {"octets": count * row.size / spent / 1e6, "accept": count / accepted}
    return {
        "accept": count / accepted,
        "through": count / through,
        "cpu": (server.cpu_seconds() - before) / count * 1e6,
    }


def _beside_flood(server: Mta) -> Figures:
    """Honest mail alone, then from the first connection of the flood until a while after its last."""
    makers = _makers(server)
    honest = {"host": "127.0.0.1", "port": server.port, "rate": 50}
    (alone,) = gather([makers.client("mail", seconds=3.0, **honest)], 30.0)
    begun = server.cpu_seconds()
    flood = makers.client("flood", source=mta.FLOODER, port=server.port, count=FLOOD, rate=FLOOD_RATE)
    try:
        seconds = FLOOD / FLOOD_RATE + 8.0
        beside = makers.client("mail", seconds=seconds, **honest)
        (result,) = gather([beside], seconds + 60.0)
        flood.line()
    finally:
        flood.stop()
    server.check()
    milliseconds = sorted(latency * 1000 for latency in result["latencies"])
    before = sorted(latency * 1000 for latency in alone["latencies"])
    return {
        "p50": milliseconds[len(milliseconds) // 2],
        "p99": milliseconds[int(len(milliseconds) * 0.99)],
        "worst": milliseconds[-1],
        "refused": result["errors"],
        "cpu": (server.cpu_seconds() - begun) / FLOOD * 1e6,
        "alone": before[int(len(before) * 0.99)],
    }
