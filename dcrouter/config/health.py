"""How it is found out whether a target can be used: by asking it (active checks), and by what connections meet."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.forms import Duration, counted, key
from dcrouter.config.lines import CheckPath

HealthType = Literal["tcp", "tls", "http", "smtp"]


@frozen(kw_only=True)
class Passive:
    """Connections that fail tell too: a target on which too many did gets none for a while."""

    failures: Annotated[int, counted(1, 1000)] = field(
        default=5, metadata=key("How many failed connections eject a target.")
    )
    within: Duration = field(default=30.0, metadata=key("In which time."))
    eject: Duration = field(default=30.0, metadata=key("For how long it gets no more."))


@frozen(kw_only=True)
class Health:
    """Each target is asked again and again, and gets no connection while it is down.

    The first check decides at once. A check goes the way of the route's connections: `source`, `through`, TLS.
    """

    type: HealthType | None = field(
        default=None,
        metadata=key(
            "`tcp`: a connect; `tls`: and a handshake; `http`: and GET `path`, answered by `expect`; `smtp`: a "
            "greeting and EHLO.",
            default="no active checks",
        ),
    )
    interval: Duration = field(default=10.0, metadata=key("From one check to the next."))
    timeout: Duration = field(default=2.0, metadata=key("For a whole check."))
    rise: Annotated[int, counted(1, 1000)] = field(
        default=2, metadata=key("How many good checks in a row bring a target up again.")
    )
    fall: Annotated[int, counted(1, 1000)] = field(
        default=3, metadata=key("How many bad checks in a row take it down.")
    )
    path: CheckPath = field(default="/", metadata=key("What `http` asks for: path and query."))
    expect: tuple[Annotated[int, counted(200, 599)], ...] = field(
        default=(200,), metadata=key("The statuses that are good.", scalar=True, nonempty="no answer would be good")
    )
    passive: Passive | None = field(
        default=None, metadata=key("Whether failed connections count.", default="they do not")
    )
