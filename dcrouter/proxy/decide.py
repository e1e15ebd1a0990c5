"""What a table in use decides for a connection that somebody only tells of: for `dcrouter explain --live`."""

from __future__ import annotations

from typing import Any

from dcrouter.errors import Misdirected, WireError
from dcrouter.facts import ConnectionFacts
from dcrouter.proxy.bound import BoundRoute
from dcrouter.proxy.question import Question
from dcrouter.proxy.table import MORE, PortTable
from dcrouter.wire.clienthello import ClientHello

_VERSIONS = {"TLSv1.2": b"\x03\x03", "TLSv1.3": b"\x03\x04"}


def decide(table: PortTable, fallback: BoundRoute | None, question: Question) -> dict[str, Any]:
    """`route`: its name, or None. `status`: what an HTTP client is answered instead, or None.

    What is not told is taken as usual: TLS 1.3, GET, `/`, no headers, a client that is in nobody's networks.
    """
    facts = ConnectionFacts("explain", (question.client or "0.0.0.0", 0), (str(question.local or ""), 0), question.now)
    status = None
    try:
        found = _found(table, facts, question)
    except Misdirected:
        return {"route": None, "status": 421}
    except WireError:
        return {"route": None, "status": 400}
    if isinstance(found, _NoRoute):
        found, status = None, 404
    bound = found or fallback
    return {"route": bound.route.name if bound is not None else None, "status": status if bound is None else None}


class _NoRoute:
    """A request that no route wants."""


def _found(table: PortTable, facts: ConnectionFacts, question: Question) -> BoundRoute | _NoRoute | None:
    at_once = table.find(facts)
    if at_once is not MORE and (at_once is None or not at_once.is_http):
        return at_once
    met = None
    if question.tls:
        facts.sni = question.sni
        facts.hello = ClientHello(
            sni=question.sni,
            alpn=question.alpn or (),
            length=0,
            versions=_VERSIONS[question.tls_version or "TLSv1.3"],
        )
        met = table.find_tls(facts)
        if met is None or not met.is_http:
            return met
    elif not table.expects_http and at_once is MORE:
        return table.find_plain(facts)
    return table.find_request(facts, question.head(), met) or _NoRoute()
