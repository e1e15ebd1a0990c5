"""The rows: what each measures, how it loads a side, and the goal that it has.

Goals on rates are judged by `capacity`, because the load makers' core is often full first and would hide how much
slower a side is: where busy is 1.00 for both sides, the ratios of `rate` and of `capacity` are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from attrs import frozen

from bench.measures import (
    Figures,
    added,
    among_names,
    beside_mail,
    bulk,
    fairness,
    handshakes,
    held,
    idle,
    requests,
)
from bench.peers import NAMES, TCP_NAMES, Mode
from bench.stand import Stand, Subject


@frozen(kw_only=True)
class Goal:
    """dcrouter's `figure` is at least or at most `bound` times that of `against`; None: `bound` is in its own unit."""

    figure: str
    kind: Literal["at least", "at most"]
    bound: float
    against: str | None = None

    def __str__(self) -> str:
        return f"{self.figure} {self.kind} {self.bound:g}" + (f"x {self.against}" if self.against else "")

    def reached(self, figures: dict[str, Figures]) -> bool | None:
        """None where a figure that it needs was not taken."""
        own = figures.get("dcrouter", {}).get(self.figure)
        other = 1.0 if self.against is None else figures.get(self.against, {}).get(self.figure)
        if own is None or other is None:
            return None
        return own >= self.bound * other if self.kind == "at least" else own <= self.bound * other


@frozen(kw_only=True)
class Row:
    """`measure` loads one side once. `rounds`: how often each side gets its turn; None: as the command line says.

    `backend`: the port of the backend that the side forwards to. `units`: figure -> its unit, in the order of printing.
    `names`: how many other routes share the port, each with a name of its own.
    """

    name: str
    about: str
    mode: Mode
    backend: str
    measure: Callable[[Stand, Subject], Figures]
    units: dict[str, str]
    goals: Sequence[Goal] = ()
    sides: Sequence[str] = TCP_NAMES
    rounds: int | None = None
    access_log: bool = False
    mail: bool = False
    checked: bool = False
    veth: bool = False
    names: int = 0


_PER_CONNECTION = {"rate": "conn/s", "cpu": "CPU us/conn", "capacity": "conn/CPU s", "busy": "of a core"}
_PER_REQUEST = {"rate": "req/s", "cpu": "CPU us/req", "capacity": "req/CPU s", "busy": "of a core"}
_PER_GIB = {"cpu": "CPU s/GiB", "rate": "GiB/s", "busy": "of a core"}
_HANDSHAKE = {**_PER_CONNECTION, "resumed": "share"}
_LATENCY = {"p50": "ms", "p99": "ms", "bulk": "GiB/s beside"}
_BESIDE_MAIL = {
    "alone": "conn/s without mail",
    "beside": "conn/s with mail",
    "ratio": "of its own",
    "messages": "messages/s",
    "reply": "ms p99 of a message",
    "edge_alone": "edge's us/conn without",
    "edge_beside": "edge's us/conn with mail",
    "edge": "of its own",
    "mail": "mail's us/message",
}
_SAME_CPU = (Goal(figure="cpu", kind="at most", bound=1.1, against="haproxy"),)
_HANDSHAKE_GOALS = (
    Goal(figure="capacity", kind="at least", bound=1.0, against="haproxy"),
    Goal(figure="capacity", kind="at least", bound=0.5, against="nginx"),
)
_NEW_GOALS = (Goal(figure="capacity", kind="at least", bound=0.5, against="haproxy"),)
_HTTP_GOALS = (
    Goal(figure="capacity", kind="at least", bound=0.35, against="haproxy"),
    Goal(figure="capacity", kind="at least", bound=1.3, against="caddy"),
)
_IDLE_GOALS = (Goal(figure="memory", kind="at most", bound=4.0),)
_FAIR_GOALS = (Goal(figure="p99", kind="at most", bound=50.0),)

ROWS: tuple[Row, ...] = (
    Row(
        name="plain-new",
        about="a new plain connection for each small request, 64 at once",
        mode="plain",
        backend="web",
        measure=requests(close=True),
        units=_PER_CONNECTION,
        goals=_NEW_GOALS,
    ),
    Row(
        name="plain-new-logged",
        about="the same with an access log on every side (dcrouter: the parent that writes it is counted)",
        mode="plain",
        backend="web",
        measure=requests(close=True),
        units=_PER_CONNECTION,
        access_log=True,
    ),
    Row(
        name="plain-kept",
        about="small requests on 64 kept plain connections",
        mode="plain",
        backend="web",
        measure=requests(),
        units=_PER_REQUEST,
    ),
    Row(
        name="passthrough-new",
        about="a new connection routed by SNI, 1.6 KB ClientHello, answered at once by a backend without TLS work",
        mode="passthrough",
        backend="hello",
        measure=requests(close=True, hello=True),
        units=_PER_CONNECTION,
        goals=(Goal(figure="cpu", kind="at most", bound=1.5, against="haproxy"),),
    ),
    Row(
        name="passthrough-names",
        about="the same on a port with 10 000 names and 1 000 wildcards, beside one with 10 routes",
        mode="passthrough",
        backend="hello",
        measure=among_names,
        units={"many": "CPU us/conn", "few": "CPU us/conn with 10 routes", "ratio": "many/few"},
        goals=(Goal(figure="ratio", kind="at most", bound=1.1),),
        sides=("dcrouter",),
        names=11_000,
    ),
    Row(
        name="passthrough-tls",
        about="a new connection routed by SNI with a real TLS session behind it (the load core is the limit)",
        mode="passthrough",
        backend="tls",
        measure=requests(tls=True, close=True),
        units=_PER_CONNECTION,
        goals=(Goal(figure="cpu", kind="at most", bound=1.5, against="haproxy"),),
    ),
    Row(
        name="terminate-new",
        about="new TLS 1.3 connections, ECDSA P-256, a full handshake each",
        mode="terminate",
        backend="web",
        measure=handshakes(resume=False),
        units=_HANDSHAKE,
        goals=_HANDSHAKE_GOALS,
    ),
    Row(
        name="terminate-resumed",
        about="new TLS 1.3 connections, resumed with a ticket each",
        mode="terminate",
        backend="web",
        measure=handshakes(resume=True),
        units=_HANDSHAKE,
        goals=_HANDSHAKE_GOALS,
    ),
    Row(
        name="terminate-kept",
        about="small requests on 64 kept TLS connections",
        mode="terminate",
        backend="web",
        measure=requests(tls=True),
        units=_PER_REQUEST,
    ),
    Row(
        name="http-kept",
        about="small requests on 64 kept connections, read, routed and told of the client, on kept connections onwards",
        mode="http",
        backend="web",
        measure=requests(),
        units=_PER_REQUEST,
        goals=_HTTP_GOALS,
        sides=NAMES,
    ),
    Row(
        name="http-kept-tls",
        about="the same, from TLS",
        mode="https",
        backend="web",
        measure=requests(tls=True),
        units=_PER_REQUEST,
        sides=NAMES,
    ),
    Row(
        name="bulk-http",
        about="one plain download through what reads the request and the response",
        mode="http",
        backend="bulk_web",
        measure=bulk(streams=1),
        units=_PER_GIB,
        goals=_SAME_CPU,
        sides=NAMES,
    ),
    Row(
        name="bulk-plain",
        about="one plain download",
        mode="plain",
        backend="bulk_web",
        measure=bulk(streams=1),
        units=_PER_GIB,
        goals=_SAME_CPU,
    ),
    Row(
        name="bulk-plain-4",
        about="four plain downloads at once",
        mode="plain",
        backend="bulk_web",
        measure=bulk(streams=4),
        units=_PER_GIB,
        goals=_SAME_CPU,
    ),
    Row(
        name="bulk-passthrough",
        about="one download, TLS from end to end, routed by SNI",
        mode="passthrough",
        backend="bulk_tls",
        measure=bulk(streams=1, tls=True),
        units=_PER_GIB,
        goals=_SAME_CPU,
    ),
    Row(
        name="bulk-terminate",
        about="one download, TLS terminated at the proxy",
        mode="terminate",
        backend="bulk_web",
        measure=bulk(streams=1, tls=True),
        units=_PER_GIB,
        goals=(Goal(figure="cpu", kind="at most", bound=1.0, against="haproxy"),),
    ),
    Row(
        name="bulk-veth",
        about="one plain download through a veth pair, MTU 1500, TSO, GSO and GRO off at both ends (root)",
        mode="plain",
        backend="bulk_web",
        measure=bulk(streams=1),
        units=_PER_GIB,
        goals=_SAME_CPU,
        veth=True,
    ),
    Row(
        name="idle-plain",
        about="memory per idle plain connection, at 3 000",
        mode="plain",
        backend="silent",
        measure=idle("plain"),
        units={"memory": "KiB RSS/conn"},
        goals=_IDLE_GOALS,
        rounds=1,
    ),
    Row(
        name="idle-passthrough",
        about="memory per idle connection routed by SNI, at 3 000",
        mode="passthrough",
        backend="silent",
        measure=idle("passthrough"),
        units={"memory": "KiB RSS/conn"},
        goals=_IDLE_GOALS,
        rounds=1,
    ),
    Row(
        name="idle-terminate",
        about="memory per idle TLS connection, at 3 000",
        mode="terminate",
        backend="silent",
        measure=idle("terminate"),
        units={"memory": "KiB RSS/conn"},
        rounds=1,
    ),
    Row(
        name="idle-8000",
        about="memory per idle connection routed by SNI, at 4 000, at 8 000, and ten seconds later",
        mode="passthrough",
        backend="silent",
        measure=held,
        units={"first": "KiB RSS/conn of 4 000", "memory": "KiB RSS/conn", "later": "KiB RSS/conn later"},
        goals=(*_IDLE_GOALS, Goal(figure="later", kind="at most", bound=4.0)),
        sides=("dcrouter",),
        rounds=1,
    ),
    Row(
        name="passthrough-latency",
        about="a new connection routed by SNI, and one past the side, in turn, beside half of what the side can take",
        mode="passthrough",
        backend="hello",
        measure=added,
        units={
            "p50": "ms p50",
            "direct50": "ms p50 direct",
            "p99": "ms p99",
            "direct99": "ms p99 direct",
            "added": "ms added at p99",
            "rate": "conn/s beside",
        },
        goals=(Goal(figure="added", kind="at most", bound=1.0),),
    ),
    Row(
        name="fairness-plain",
        about="a small request on a new connection beside four plain downloads",
        mode="plain",
        backend="web",
        measure=fairness(tls=False),
        units=_LATENCY,
        goals=_FAIR_GOALS,
    ),
    Row(
        name="fairness-terminate",
        about="the same over TLS, a handshake for each small request",
        mode="terminate",
        backend="web",
        measure=fairness(tls=True),
        units=_LATENCY,
        goals=_FAIR_GOALS,
    ),
    Row(
        name="mail-beside",
        about="plain-new while 300 messages/s of 4 KB arrive, a connection each, and are forwarded; nothing is pinned",
        mode="plain",
        backend="web",
        measure=beside_mail(300),
        units=_BESIDE_MAIL,
        goals=(Goal(figure="ratio", kind="at least", bound=0.7),),
        sides=("dcrouter",),
        mail=True,
    ),
    Row(
        name="mail-checked-beside",
        about="plain-new while 400 signed messages/s arrive, one a connection, checked and forwarded; none is pinned",
        mode="plain",
        backend="web",
        measure=beside_mail(400),
        units=_BESIDE_MAIL,
        goals=(Goal(figure="edge", kind="at most", bound=1.2),),
        sides=("dcrouter",),
        mail=True,
        checked=True,
    ),
)
