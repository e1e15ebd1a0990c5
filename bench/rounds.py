"""How a row is run: every side is proven to answer, then they take turns (A B C A B C ...), and medians are kept.

Turns are interleaved because a machine is never equally quiet for long: a slow half minute hits all sides alike.
"""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field, frozen

from bench import mailrounds
from bench.backend import Certificate
from bench.hello import SNI
from bench.load import gather
from bench.machine import Cores, find
from bench.mailrows import MailRow
from bench.measures import Figures
from bench.place import HERE, veth_obstacle, veth_pair
from bench.process import Failed
from bench.rows import Row
from bench.stand import Plan, Stand, Subject, assembled


@frozen(kw_only=True)
class Options:
    """`seconds` of one turn, `repeat`: turns per side, `sides` that can be measured here."""

    seconds: float
    repeat: int
    sides: Sequence[str]
    cores: Cores


@define(kw_only=True)
class Result:
    """What came out: side -> figure -> median, every turn as it was, and what the reader should know."""

    row: Row | MailRow
    medians: dict[str, Figures] = field(factory=dict)
    turns: dict[str, list[Figures]] = field(factory=dict)
    notes: list[str] = field(factory=list)
    skipped: str | None = None


def run(row: Row | MailRow, options: Options, certificate: Certificate, data: Path) -> Result:
    """Measure one row; what cannot be measured here is said in the result and not raised."""
    result = Result(row=row)
    sides = [name for name in row.sides if name in options.sides]
    result.skipped = _obstacle(row) or (None if sides else "none of its sides is here")
    if result.skipped is not None:
        return result
    try:
        if isinstance(row, MailRow):
            _measure_mail(row, sides, options, data, result)
        else:
            _measure(row, sides, options, certificate, data, result)
    except Failed as failure:
        result.skipped = f"failed: {failure}"
    for name, turns in result.turns.items():
        if turns:
            result.medians[name] = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return result


def _obstacle(row: Row | MailRow) -> str | None:
    if isinstance(row, MailRow):
        return mailrounds.obstacle()
    if row.mail and find("smtp-sink") is None:
        return "needs smtp-sink (Debian: postfix)"
    return veth_obstacle() if row.veth else None


def _measure_mail(row: MailRow, sides: Sequence[str], options: Options, data: Path, result: Result) -> None:
    with mailrounds.assembled(row, sides, data, options.seconds, result.notes) as (sinks, servers):
        for _ in range(options.repeat):
            for name, server in list(servers.items()):

                def turn(name: str = name, server: mailrounds.Server = server) -> None:
                    result.turns.setdefault(name, []).append(mailrounds.turn(row, server, sinks))

                if not _guarded(name, turn, result):
                    del servers[name]


def _measure(
    row: Row, sides: Sequence[str], options: Options, certificate: Certificate, data: Path, result: Result
) -> None:
    plan = Plan(
        sides=sides,
        mode=row.mode,
        backend=row.backend,
        access_log=row.access_log,
        mail=row.mail,
        checked=row.checked,
        names=row.names,
    )
    cores = Cores(proxy=None, load=None) if row.mail else options.cores
    with ExitStack() as stack:
        places = stack.enter_context(veth_pair()) if row.veth else (HERE, HERE)
        stand, subjects = stack.enter_context(
            assembled(plan, certificate, data, cores, places, seconds=options.seconds, tell=result.notes.append)
        )
        for name, subject in list(subjects.items()):

            def proof(name: str = name, subject: Subject = subject) -> None:
                _prove(row, stand, name, subject, result.notes.append)

            if not _guarded(name, proof, result):
                del subjects[name]
        for _ in range(row.rounds or options.repeat):
            for name, subject in list(subjects.items()):

                def turn(name: str = name, subject: Subject = subject) -> None:
                    result.turns.setdefault(name, []).append(row.measure(stand, subject))
                    subject.side.check()

                if not _guarded(name, turn, result):
                    del subjects[name]


def _guarded(name: str, step: Callable[[], None], result: Result) -> bool:
    """False, with a note, where a side failed: the others go on."""
    try:
        step()
    except Failed as failure:
        result.notes.append(f"{name}: {failure}")
        return False
    return True


def _prove(row: Row, stand: Stand, name: str, subject: Subject, tell: Callable[[str], None]) -> None:
    """One exchange through each port that the row uses; what TLS negotiated is told."""
    raw = row.mode == "passthrough" and row.backend in ("hello", "silent")
    tls = row.mode in ("terminate", "https") or row.backend in ("tls", "bulk_tls")
    _probe(
        stand,
        subject.port,
        tls=tls,
        first="hello" if raw else "request",
        expected="pong" if row.backend == "silent" else " 200 ",
    )
    if subject.mail_port:
        _probe(stand, subject.mail_port, tls=False, first="nothing", expected="220 ")
    subject.side.settle()
    if tls:
        tell(f"{name}: {_negotiated(subject.port)}")


def _probe(stand: Stand, port: int, *, tls: bool, first: str, expected: str) -> None:
    program = stand.makers.client("probe", host=stand.makers.target, port=port, tls=tls, first=first)
    (answer,) = gather([program], 15.0)
    if expected not in answer["answer"]:
        raise Failed(f"answered {answer['answer']!r}")


def _negotiated(port: int) -> str:
    """Version, cipher suite and group, as `openssl s_client` sees them: equal on all sides, or the row is not fair."""
    argv = [find("openssl") or "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", SNI]
    done = subprocess.run(argv, input="", capture_output=True, text=True, timeout=20, check=False)
    suite = re.search(r"New, (TLSv\S+), Cipher is (\S+)", done.stdout)
    group = re.search(r"(?:Server Temp Key|Negotiated TLS1.3 group): ([^,\n]+)", done.stdout)
    if suite is None:
        raise Failed(f"no TLS session: {done.stderr.strip()[-200:]}")
    return f"{suite.group(1)} {suite.group(2)} {group.group(1) if group else 'unknown group'}"
