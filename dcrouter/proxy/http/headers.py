"""action.headers and tls.hsts: fields of requests and responses that are changed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from dcrouter.config.http import HEADER_PLACEHOLDERS, Hsts, RequestHeaders, ResponseHeaders
from dcrouter.proxy.http.exchange import Exchange
from dcrouter.proxy.http.features import RequestEdit, ResponseEdit
from dcrouter.wire.http1.fields import Fields, Line, field
from dcrouter.wire.http1.template import Pieces, parse, printable

Filled = Callable[[Exchange], Line]


def request_edit(changes: RequestHeaders) -> RequestEdit:
    """What `action.headers.request` does."""
    away = frozenset(name.lower().replace("_", "-") for name in (*changes.remove, *changes.set_))
    lines = _lines(changes.set_, changes.add)

    def edit(exchange: Exchange) -> None:
        fields = exchange.fields
        if away:
            fields.lines = [line for line in fields.lines if line[0].replace("_", "-") not in away]
        fields.lines += [line(exchange) for line in lines]

    return edit


def response_edit(changes: ResponseHeaders) -> ResponseEdit:
    """What `action.headers.response` does."""
    away = frozenset(name.lower() for name in (*changes.remove, *changes.set_))
    lines = _lines(changes.set_, changes.add)

    def edit(exchange: Exchange, status: int, fields: Fields) -> None:
        fields.lines = [line for line in fields.lines if line[0] not in away]
        fields.lines += [line(exchange) for line in lines]

    return edit


def hsts_edit(hsts: Hsts) -> ResponseEdit:
    """RFC 6797 sections 6.1 and 7.2: never said in clear."""
    text = f"max-age={int(hsts.max_age)}"
    if hsts.include_subdomains:
        text += "; includeSubDomains"
    if hsts.preload:
        text += "; preload"
    line = field("Strict-Transport-Security", text)

    def edit(exchange: Exchange, status: int, fields: Fields) -> None:
        if exchange.scheme == "https":
            fields.lines = [one for one in fields.lines if one[0] != line[0]]
            fields.lines.append(line)

    return edit


def _lines(*several: Mapping[str, str]) -> list[Filled]:
    return [_line(name, text) for some in several for name, text in some.items()]


def _line(name: str, text: str) -> Filled:
    pieces = parse(text, HEADER_PLACEHOLDERS)
    if len(pieces) == 1 and not pieces[0][1]:
        made = field(name, pieces[0][0])
        return lambda exchange: made
    return partial(_filled, name, pieces)


def _filled(name: str, pieces: Pieces, exchange: Exchange) -> Line:
    return field(name, "".join(_texts(pieces, exchange)))


def _texts(pieces: Pieces, exchange: Exchange) -> Iterable[str]:
    for text, placeholder in pieces:
        yield text
        if placeholder:
            yield values()[placeholder](exchange)


@cache
def values() -> Mapping[str, Callable[[Exchange], str]]:
    """Of placeholders, by their names."""
    return {
        "client_ip": lambda exchange: exchange.client_ip,
        "client_port": lambda exchange: str(exchange.facts.peer[1]),
        "host": lambda exchange: exchange.head.host or "",
        "port": lambda exchange: str(exchange.facts.local[1]),
        "path": lambda exchange: exchange.head.path,
        "query": lambda exchange: exchange.head.query,
        "uri": lambda exchange: (
            f"{exchange.head.path}?{exchange.head.query}" if exchange.head.query else exchange.head.path
        ),
        "method": lambda exchange: exchange.head.method,
        "scheme": lambda exchange: exchange.scheme,
        "route": lambda exchange: exchange.facts.route or "",
        "session": lambda exchange: exchange.facts.session,
        "user": lambda exchange: printable(exchange.user),
    }
