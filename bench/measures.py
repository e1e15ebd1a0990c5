"""How a row loads a side, and the figures that come of it.

rate       units per second that came through; bounded by whichever of the two cores was full
cpu        CPU microseconds of the proxy per unit (per GiB: CPU seconds)
capacity   units per CPU second of the proxy: what one core of it can do, whoever was the bottleneck
busy       share of one core that the proxy used; 1.00 means that `rate` is its limit
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.peers import Mode
from bench.stand import Stand, Subject

Figures = dict[str, float]
GIB = float(1 << 30)
HELD = 8000
WHILE = 10.0
"""Seconds for which these are held."""


def _work(stand: Stand, subject: Subject, units: float, seconds: float, before: float, *, gib: bool = False) -> Figures:
    used = subject.cpu_seconds() - before
    per = used / units if units else float("inf")
    return {
        "rate": units / seconds,
        "cpu": per if gib else per * 1e6,
        "capacity": units / used if used else float("inf"),
        "busy": used / seconds,
    }


def requests(*, tls: bool = False, close: bool = False, hello: bool = False) -> Callable[[Stand, Subject], Figures]:
    def measure(stand: Stand, subject: Subject) -> Figures:
        before = subject.cpu_seconds()
        sent = stand.makers.wrk(subject.port, stand.seconds, tls=tls, close=close, hello=hello)
        return {**_work(stand, subject, sent.units, sent.seconds, before), "errors": float(sent.errors)}

    return measure


def handshakes(*, resume: bool) -> Callable[[Stand, Subject], Figures]:
    def measure(stand: Stand, subject: Subject) -> Figures:
        before = subject.cpu_seconds()
        sent = stand.makers.handshakes(subject.port, stand.seconds, resume=resume)
        return {**_work(stand, subject, sent.units, sent.seconds, before), "resumed": sent.resumed / sent.units}

    return measure


def bulk(*, streams: int, tls: bool = False) -> Callable[[Stand, Subject], Figures]:
    def measure(stand: Stand, subject: Subject) -> Figures:
        before = subject.cpu_seconds()
        sent = stand.makers.bulk(subject.port, stand.seconds, streams=streams, tls=tls)
        return _work(stand, subject, sent.units / GIB, sent.seconds, before, gib=True)

    return measure


def idle(kind: Mode, count: int = 3000) -> Callable[[Stand, Subject], Figures]:
    def measure(stand: Stand, subject: Subject) -> Figures:
        with stand.held(subject.port, kind, 100):  # buffers and pools that exist once are there before it is counted
            pass
        before = subject.resident_kib()
        with stand.held(subject.port, kind, count):
            return {"memory": (subject.resident_kib() - before) / count}

    return measure


def held(stand: Stand, subject: Subject) -> Figures:
    """In two halves, and again after a while: what an idle connection costs must depend on neither."""
    with stand.held(subject.port, "passthrough", 100):
        pass
    half = HELD // 2
    before = subject.resident_kib()
    with stand.held(subject.port, "passthrough", half):
        first = subject.resident_kib()
        with stand.held(subject.port, "passthrough", half):
            full = subject.resident_kib()
            time.sleep(WHILE)
            later = subject.resident_kib()
    return {"first": (first - before) / half, "memory": (full - before) / HELD, "later": (later - before) / HELD}


def added(stand: Stand, subject: Subject) -> Figures:
    """Beside half of the connections that the side can take, a connection through it and one straight to the backend,
    in turn.
    """
    most = stand.makers.wrk(subject.port, stand.seconds, close=True, hello=True)
    with stand.loaded(subject.port, most.units / most.seconds / 2) as beside:
        times = stand.makers.compared([subject.port, stand.backend.hello], stand.seconds)
    through, direct = ([1e3 * seconds for seconds in sorted(taken)] for taken in times)
    figures = {
        f"{name}{share}": taken[int(len(taken) * share / 100)]
        for name, taken in (("p", through), ("direct", direct))
        for share in (50, 99)
    }
    return {**figures, "added": figures["p99"] - figures["direct99"], "rate": beside.rate}


def fairness(*, tls: bool) -> Callable[[Stand, Subject], Figures]:
    def measure(stand: Stand, subject: Subject) -> Figures:
        with stand.downloading(subject.bulk_port, tls=tls, streams=4) as downloads:
            latencies = sorted(stand.makers.small(subject.port, stand.seconds, tls=tls).latencies)
        figures = {"p50": latencies[len(latencies) // 2], "p99": latencies[int(len(latencies) * 0.99)]}
        return {name: seconds * 1e3 for name, seconds in figures.items()} | {"bulk": downloads.gib_per_second}

    return measure


def beside_mail(rate: int) -> Callable[[Stand, Subject], Figures]:
    def measure(stand: Stand, subject: Subject) -> Figures:
        before = subject.role_seconds("edge")
        alone = stand.makers.wrk(subject.port, stand.seconds, close=True)
        between, unmailed = subject.role_seconds("edge"), subject.role_seconds("mail")
        with stand.mailing(subject.mail_port, rate=rate) as mail:
            beside = stand.makers.wrk(subject.port, stand.seconds, close=True)
            after = subject.role_seconds("edge")
        per_message = (subject.role_seconds("mail") - unmailed) / max(1, mail.accepted)
        return {
            "edge_alone": (between - before) / alone.units * 1e6,
            "edge_beside": (after - between) / beside.units * 1e6,
            "mail": per_message * 1e6,
            "edge": ((after - between) / beside.units) / ((between - before) / alone.units),
            "alone": alone.units / alone.seconds,
            "beside": beside.units / beside.seconds,
            "ratio": (beside.units / beside.seconds) / (alone.units / alone.seconds),
            "messages": mail.rate,
            "reply": mail.p99 * 1e3,
            "errors": float(alone.errors + beside.errors + mail.errors),
        }

    return measure


def among_names(stand: Stand, subject: Subject) -> Figures:
    """Turn about, because the machine is never equally quiet for long."""
    spent, counted = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for many in (True, False) * 3:
        port = subject.port if many else subject.bulk_port
        before = subject.role_seconds("edge")
        sent = stand.makers.wrk(port, stand.seconds / 3, close=True, hello=True)
        spent[many] += subject.role_seconds("edge") - before
        counted[many] += sent.units
    figures = {"many": spent[True] / counted[True] * 1e6, "few": spent[False] / counted[False] * 1e6}
    return {**figures, "ratio": figures["many"] / figures["few"]}
