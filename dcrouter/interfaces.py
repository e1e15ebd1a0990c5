"""Every seam that code of the operator's own may fill, on one page. docs/handlers.md shows each of them at work.

`action.factory` names a Twisted protocol factory: an IProtocolFactory, or what gives one when it is called without
arguments. It is asked for a protocol when the connection is there, TLS included: `buildProtocol(addr)` with the address
of the true client; None refuses it. A protocol that has an attribute `facts` finds the connection's `Facts` there
before `connectionMade`.

`action.select` names a `Select`, `select` of a rule of `email.egress` a `PickEgress`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred

from dcrouter.facts import Endpoint


@frozen(kw_only=True)
class Request:
    """The head of one HTTP request.

    `host`: lower case, without port; `path`: as sent; `query`: what follows the "?". `headers`: (name in lower case,
    value), in order, values one character per byte. `client_ip`: the client's address; behind `http.trusted_proxies`
    the one that they tell.
    """

    method: str
    host: str | None
    path: str
    query: str
    client_ip: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def header(self, name: str) -> str | None:
        """The first value of that name, whatever its case; None where there is none."""
        name = name.lower()
        return next((value for found, value in self.headers if found == name), None)


@frozen(kw_only=True)
class Facts:
    """What is known of a connection.

    `session`: its id in every log line. `peer`: the true client (address, port), from a PROXY header where one was due;
    `via`: the address of the proxy that sent it, `introduction`: what else that one said. `local`: where the client had
    connected to. `accepted`: UTC epoch seconds. `sni`: the name that it asked for; `alpn`, `tls_version`,
    `client_certificate` (its subject, RFC 4514): of TLS that ends here. None: not known. `request`: for `select` on
    http routes.
    """

    session: str
    route: str | None
    peer: Endpoint
    local: Endpoint
    accepted: float
    via: str | None
    introduction: Mapping[str, Any] | None
    sni: str | None
    alpn: str | None
    tls_version: str | None
    client_certificate: str | None
    request: Request | None = None

    @classmethod
    def of(cls, plain: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> Facts:
        """Of `ConnectionFacts.to_plain`, and the fields of a Request; KeyError and TypeError where they are none."""
        told = {name: plain[name] for name in _NAMES}
        told["peer"], told["local"] = tuple(told["peer"]), tuple(told["local"])
        if request is not None:
            told["request"] = Request(**{**request, "headers": tuple(map(tuple, request["headers"]))})
        return cls(**told)


_NAMES = tuple(name for name in Facts.__annotations__ if name != "request")

Place = str | tuple[str, int]
"""A target: `192.0.2.1:443`, `[2001:db8::1]:443`, `unix:/run/app.sock`, ("192.0.2.1", 443), or one of the route's own
targets as it is written there (`app.internal:8080`)."""

Choice = Place | Sequence[Place] | None
"""One target; a list of them, to be tried in this order; None: the route's own targets, as if nobody had been asked."""

SELECT_WITHIN = 0.05
"""Seconds that a Select has to answer."""

Select = Callable[[Facts], Choice | Awaitable[Choice] | Deferred[Choice]]
"""Is asked for each connection of a tcp route, and for each request of an http route; has SELECT_WITHIN to answer."""


@frozen(kw_only=True)
class Departure:
    """A connection to another mail server that is going to be made, and for whom.

    `host`: name or address, `port`; `address`: the one of its addresses that is meant, None: not known, or all alike.
    `local`: the address of ours that the last attempt left from, None: there was none, or the kernel's choice. `zone`:
    the sending zone. `recipient`, `message` (its id in logs and queue), `attempts` (those that have ended for the
    recipient): whose mail it is; "" and 0 where a server is only asked about a recipient.
    """

    host: str
    port: int
    address: str | None = None
    local: str | None = None
    zone: str = "default"
    recipient: str = ""
    message: str = ""
    attempts: int = 0


@frozen
class ByEndpoint:
    """Connect as the Twisted client endpoint that `description` describes (clientFromString): `tcp:192.0.2.1:25`."""

    description: str


Egress = str | ByEndpoint | Mapping[str, Any] | Sequence[str] | Sequence[Mapping[str, Any]] | None
"""How a connection is made: `direct`; the URL of a proxy, or several, the first that works; a rule as it is written in
`email.egress`, or several, of which the first that matches counts; an endpoint. None, or no rule that matches: the
rules of the file that stand behind decide."""

EGRESS_WITHIN = 1.0
"""Seconds that a PickEgress has to answer."""

PickEgress = Callable[[Departure], Egress | Awaitable[Egress] | Deferred[Egress]]
"""Is asked before each connection that its rule is for, once for each recipient; has EGRESS_WITHIN to answer."""
