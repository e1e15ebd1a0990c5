"""The rows about mail, dcrouter beside Postfix: what each sends, and the goal that it has.

Figures per side:
  accept     messages per second until the last one was answered with 250, which each side says after a sync
  through    messages per second until the sink had the last of the same messages; both go on at the same time
  cpu        CPU microseconds of all processes of the server per message, from acceptance to delivery
  memory     KiB of private resident memory of all processes per idle session, after EHLO
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from bench.mta import PEERS, PROXIES, Proxy
from bench.rows import Goal

_RATES = {"accept": "accepted/s", "through": "through/s", "cpu": "CPU us/message"}


def _rates(accept: float, through: float) -> tuple[Goal, ...]:
    """Times Postfix's messages per second."""
    return (
        Goal(figure="accept", kind="at least", bound=accept, against="postfix"),
        Goal(figure="through", kind="at least", bound=through, against="postfix"),
    )


_GOALS = _rates(2.0, 1.5)
_BACKLOG = 100_000

Load = Literal["flow", "checked", "received", "flood"]
"""flow: smtp-source to smtp-sink; checked: signed mail of many senders, looked up in DNS; received: to a next hop that
is not there; flood: connections that say nothing, or nonsense, beside mail."""


@frozen(kw_only=True)
class MailRow:
    """`size`: octets of a message; `sessions`: clients that send at once; `reuse`: connections carry many messages.

    `fill`: recipients queued for dead destinations in a second instance, which is measured beside an empty one.
    `sinks`: next hops, each with a domain and a client of its own, which share the messages and the sessions.
    `socks`: through this SOCKS 5 proxy, beside a second instance that goes straight.
    `sync`: milliseconds that each sync takes longer. `idle`: sessions kept open beside those that send; `tls`: those.
    """

    name: str
    about: str
    size: int = 4096
    sessions: int = 20
    reuse: bool = False
    sinks: int = 1
    fill: int = 0
    socks: Proxy | None = None
    sync: int = 0
    idle: int = 0
    tls: bool = False
    units: dict[str, str] = _RATES
    goals: Sequence[Goal] = _GOALS
    sides: Sequence[str] = PEERS
    load: Load = "flow"


def _plain_rows() -> list[MailRow]:
    rows = []
    for size, word, times in ((4096, "4k", 2.5), (100 * 1024, "100k", 2.0)):
        for reuse in (False, True):
            for sessions in (20, 200):
                kind = "kept" if reuse else "new"
                about = f"messages of {word.replace('k', ' KB')}, {sessions} at once, "
                about += "on kept connections" if reuse else "a connection each"
                row = MailRow(
                    name=f"mail-{word}-{kind}-{sessions}",
                    about=about,
                    size=size,
                    sessions=sessions,
                    reuse=reuse,
                    goals=_rates(times, times),
                )
                rows.append(row)
    return rows


def _idle_row(sessions: int, *, tls: bool) -> MailRow:
    most = 65.0 if tls else 30.0
    # 5 000 processes, or a process with TLS each, say nothing more about Postfix.
    both = sessions <= 1000 and not tls
    return MailRow(
        name=f"mail-{'tls' if tls else 'idle'}-{sessions}",
        about=f"the first row beside {sessions} idle sessions{' in TLS' if tls else ''}",
        idle=sessions,
        tls=tls,
        units={"memory": "KiB/session", **_RATES},
        goals=(Goal(figure="memory", kind="at most", bound=most), *(_GOALS if both else ())),
        sides=PEERS if both else ("dcrouter",),
    )


def _socks_row(proxy: Proxy, sessions: int) -> MailRow:
    # microsocks copies pieces of 1 KB without TCP_NODELAY: each message waits for a delayed acknowledgement, 40 ms.
    goals = (Goal(figure="through_kept", kind="at least", bound=0.7),) if proxy == "dante" else ()
    return MailRow(
        name=f"mail-{proxy}-{sessions}",
        about=f"messages of 4 KB, {sessions} at once, a connection each, sent on through {proxy}, and straight",
        sessions=sessions,
        socks=proxy,
        units={
            **_RATES,
            "accept_alone": "accepted/s straight",
            "through_alone": "through/s straight",
            "through_kept": "through, of straight",
        },
        goals=goals,
        sides=("dcrouter",),
    )


MAIL_ROWS: tuple[MailRow, ...] = (
    *_plain_rows(),
    MailRow(name="mail-20m", about="messages of 20 MB, 4 at once, a connection each", size=20 << 20, sessions=4),
    MailRow(
        # One smtp-sink takes some 15 of them a second, with a core to itself: its speed hides that of the servers.
        name="mail-20m-two",
        about="messages of 20 MB, 4 at once, a connection each, to two next hops",
        size=20 << 20,
        sessions=4,
        sinks=2,
        goals=(Goal(figure="through", kind="at least", bound=1.5, against="postfix"),),
    ),
    MailRow(
        name="mail-backlog",
        about=f"the first row beside {_BACKLOG} messages queued for ten dead destinations, due over an hour",
        fill=_BACKLOG,
        units={
            **_RATES,
            "accept_alone": "accepted/s without them",
            "through_alone": "through/s without them",
            "accept_kept": "accepted, of its own",
            "through_kept": "through, of its own",
        },
        goals=(
            *_GOALS,
            Goal(figure="accept_kept", kind="at least", bound=0.8),
            Goal(figure="through_kept", kind="at least", bound=0.9),
        ),
    ),
    *(_socks_row(proxy, sessions) for proxy in PROXIES for sessions in (20, 200)),
    *(
        MailRow(
            name=f"mail-slow-sync-{sessions}",
            about=f"messages of 4 KB, {sessions} at once, a connection each, where each sync takes 10 ms longer",
            sessions=sessions,
            sync=10,
        )
        for sessions in (20, 200)
    ),
    *(_idle_row(sessions, tls=tls) for tls in (False, True) for sessions in (1000, 5000)),
    *(
        MailRow(
            name=f"mail-checked-{kind}",
            about=f"signed messages of 4 KB, 20 at once, {about}: SPF, DKIM, DMARC, ARC and iprev, by DNS on this host",
            reuse=reuse,
            load="checked",
            goals=(Goal(figure="accept", kind="at least", bound=400.0),),
            sides=("dcrouter",),
        )
        for kind, about, reuse in (("new", "a connection each", False), ("kept", "on kept connections", True))
    ),
    MailRow(
        name="mail-20m-received",
        about="messages of 20 MB, 4 at once, taken and kept: bytes per CPU second beside a reader of lines",
        size=20 << 20,
        sessions=4,
        load="received",
        units={"octets": "MB/CPU s", "accept": "accepted/s"},
        goals=(Goal(figure="octets", kind="at least", bound=5.0, against="lines"),),
        sides=("lines", "dcrouter"),
    ),
    MailRow(
        name="mail-flood",
        about="50 messages/s beside 15 000 connections of 15 000 addresses, silent or with nonsense; 5 000 slots",
        load="flood",
        units={
            "p50": "ms p50",
            "p99": "ms p99",
            "worst": "ms worst",
            "refused": "refused",
            "cpu": "CPU us/connection",
            "alone": "ms p99 alone",
        },
        goals=(
            Goal(figure="p99", kind="at most", bound=1000.0),
            Goal(figure="refused", kind="at most", bound=0.0),
        ),
        sides=("dcrouter",),
    ),
)
