"""What others may observe: one frozen value per thing that happened. Logs and metrics come from these, not from log
lines.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import fields, frozen

from dcrouter.facts import Endpoint

EndedBy = Literal["client", "target", "router"]


def termination(ended_by: EndedBy, phase: str, reason: str) -> str:
    """The code that tells one kind of end from another: `done` for one in good order, else who ended it and in which
    phase: `client:hello`, `target:connect`, `router:relay`.
    """
    return "done" if reason in ("", "closed", "quit") else f"{ended_by}:{phase or 'accept'}"


@frozen(kw_only=True)
class SessionClosed:
    """A connection has ended: who it was, where it went, what it cost, and who ended it and why.

    `bytes_in`: from the client onwards; `bytes_out`: to the client (both as on the inner side of TLS, except
    passthrough). `phases`: seconds spent in each, in order (`hello`, `tls`, `connect`, `relay`, `smtp` ...);
    `termination`: see the function of that name; `accepted`: UTC epoch seconds. All up to `client_certificate` is the
    ConnectionFacts' own (`to_plain`).
    """

    session: str
    route: str | None
    accepted: float
    peer: Endpoint
    local: Endpoint
    via: str | None = None
    introduction: dict[str, Any] | None = None
    kind: str | None = None
    sni: str | None = None
    alpn: str | None = None
    tls_version: str | None = None
    client_certificate: str | None = None
    target: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    phases: dict[str, float]
    ended_by: EndedBy
    termination: str = ""
    reason: str

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("session", self, _SESSION)


@frozen(kw_only=True)
class DeliveryDone:
    """An attempt for one recipient of one message has ended, at `ended` (UTC epoch seconds).

    `session`: of the connection that brought the message. `outcome`: what comes of it (delivered, deferred, failed,
    held, dropped), `reply` why, `kind` what a failure or delay is for (mail/bounces/kinds.yaml). `attempts`: with this
    one. `seconds`: since the message came. `tls`: the version that the next hop was spoken to in. `through`: the proxy
    on the way there; `direct`: no proxy of the rule worked.
    """

    message: str
    session: str
    ended: float
    sender: str
    recipient: str
    rule: str
    target: str | None = None
    tls: str | None = None
    through: str | None = None
    outcome: str
    kind: str | None = None
    reply: str
    attempts: int
    seconds: float
    size: int

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("delivery", self, _DELIVERY)


@frozen(kw_only=True)
class RequestDone:
    """A request of an HTTP connection has been answered, or broken off.

    `session`: of the connection; `request`: which of its requests, from 1. `began`: UTC epoch seconds of its first
    octet, `seconds` until its last. `client`: behind trusted proxies, who they say; `user`: who has logged in. `path`:
    without the query, which may hold secrets. `status`: of the response, 0 where it had none. `termination`: `done`, or
    who ended it and in which phase (`client:wait`, `target:response`, `router:gate` ...); `reason` why, in words.
    """

    session: str
    request: int
    route: str | None
    began: float
    seconds: float
    peer: Endpoint
    client: str
    user: str | None = None
    method: str
    host: str | None
    path: str
    version: str
    status: int
    target: str | None = None
    bytes_in: int
    bytes_out: int
    termination: str
    reason: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("request", self, _REQUEST)


@frozen(kw_only=True)
class LimitReached:
    """Somebody has reached one of email.rate_limits that has `alert`; told once in the limit's time.

    `limit`: in words; `key`: what it counts by, `who`: whose mail it is by that. `at`: UTC epoch seconds.
    """

    session: str
    at: float
    limit: str
    key: str
    who: str
    client: str
    account: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("limit", self, _LIMIT)


@frozen(kw_only=True)
class MailReturned:
    """Somebody reports what became of a message that we have sent, at `at` (UTC epoch seconds).

    `what`: failed, delayed, delivered, relayed, expanded; or `feedback`, then `reply` is its kind (abuse, fraud ...).
    `recipient`: whom it is about, None where it names nobody to whom the message went.
    """

    at: float
    message: str
    sender: str
    recipient: str | None = None
    what: str
    reply: str

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, in the order of the fields; what is not known is left out."""
        return _plain("return", self, _RETURN)


Logged = SessionClosed | RequestDone | DeliveryDone | LimitReached | MailReturned
"""What has a line in the access log."""


def _plain(event: str, value: object, names: tuple[str, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {"event": event}
    for name in names:
        known = getattr(value, name)
        if known is not None:
            plain[name] = known
    return plain


_SESSION = tuple(one.name for one in fields(SessionClosed))
_REQUEST = tuple(one.name for one in fields(RequestDone))
_RETURN = tuple(one.name for one in fields(MailReturned))
_LIMIT = tuple(one.name for one in fields(LimitReached))
_DELIVERY = tuple(one.name for one in fields(DeliveryDone))
