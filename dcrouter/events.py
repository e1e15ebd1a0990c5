"""What others may observe: one frozen value per thing that happened. Logs and metrics come from these, not from log
lines.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import fields, frozen

from dcrouter.facts import Endpoint

EndedBy = Literal["client", "target", "router"]


@frozen(kw_only=True)
class SessionClosed:
    """A connection has ended: who it was, where it went, what it cost, and who ended it and why.

    `bytes_in`: from the client onwards; `bytes_out`: to the client (both as on the inner side of TLS, except
    passthrough). `phases`: seconds spent in each, in order (`hello`, `tls`, `connect`, `relay`, `smtp` ...);
    `accepted`: UTC epoch seconds. All up to `tls_version` is the ConnectionFacts' own (`to_plain`).
    """

    session: str
    route: str | None
    accepted: float
    peer: Endpoint
    local: Endpoint
    via: str | None = None
    kind: str | None = None
    sni: str | None = None
    alpn: str | None = None
    tls_version: str | None = None
    target: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    phases: dict[str, float]
    ended_by: EndedBy
    reason: str

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("session", self, _SESSION)


@frozen(kw_only=True)
class DeliveryDone:
    """An attempt for one recipient of one message has ended, at `ended` (UTC epoch seconds).

    `session`: of the connection that brought the message. `outcome`: what comes of it (delivered, deferred, failed,
    held, dropped), `reply` why. `attempts`: with this one. `seconds`: since the message came. `tls`: the version that
    the next hop was spoken to in.
    """

    message: str
    session: str
    ended: float
    sender: str
    recipient: str
    rule: str
    target: str | None = None
    tls: str | None = None
    outcome: str
    reply: str
    attempts: int
    seconds: float
    size: int

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("delivery", self, _DELIVERY)


Logged = SessionClosed | DeliveryDone
"""What has a line in the access log."""


def _plain(event: str, value: object, names: tuple[str, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {"event": event}
    for name in names:
        known = getattr(value, name)
        if known is not None:
            plain[name] = known
    return plain


_SESSION = tuple(one.name for one in fields(SessionClosed))
_DELIVERY = tuple(one.name for one in fields(DeliveryDone))
