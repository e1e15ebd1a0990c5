"""A connection, and a request on it, as somebody tells of them who asks for their route.

`asked` reads what the command line and the API send; what is not told is None, and decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

from attrs import evolve, frozen

from dcrouter.config import units
from dcrouter.config.match import Address
from dcrouter.config.names import hostname
from dcrouter.config.versions import TlsVersion
from dcrouter.errors import WireError
from dcrouter.wire.http1.head import RequestHead, parse_head

WORDS = (
    "port",
    "listen",
    "client_ip",
    "tls",
    "sni",
    "alpn",
    "tls_version",
    "host",
    "path",
    "method",
    "headers",
    "time",
)
"""What can be told."""


@frozen(kw_only=True)
class Question:
    """`local`: the address that the client connects to. `tls`: it speaks TLS; `sni` None: without SNI. `host`: lower
    case, without port. `headers`: (name in lower case, value). `now`: UTC epoch seconds.
    """

    port: int
    now: float
    local: Address | None = None
    client: str | None = None
    tls: bool = False
    sni: str | None = None
    alpn: tuple[str, ...] | None = None
    tls_version: str | None = None
    host: str | None = None
    path: str | None = None
    method: str | None = None
    headers: tuple[tuple[str, str], ...] | None = None

    @property
    def has_request(self) -> bool:
        """Whether something is told of a request."""
        return any(one is not None for one in (self.host, self.path, self.method, self.headers))

    def values(self, name: str) -> list[str]:
        """As a request's head has them (match/headers.py)."""
        return [value for found, value in self.headers or () if found == name]

    def head(self) -> RequestHead:
        """The head of such a request, with the usual where nothing is told; WireError where no route would get it."""
        host = self.host or self.sni
        version = "1.1" if host is not None else "1.0"
        lines = [f"{self.method or 'GET'} {self.path or '/'} HTTP/{version}"]
        lines += [f"Host: {host}"] if host is not None else []
        lines += [f"{name}: {value}" for name, value in self.headers or ()]
        head = parse_head("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        if head is None:
            raise WireError("HTTP request: an incomplete head")
        return head


def asked(fields: Mapping[str, Any]) -> Question:
    """By WORDS; ValueError with a sentence for what cannot be understood. The time is now, where none is told."""
    for word in fields:
        if word not in WORDS:
            raise ValueError(f"{units.shown(word)} is not one of {', '.join(WORDS)}")
    told = {word: value for word, value in fields.items() if value is not None}
    alpn, version, listen = told.get("alpn"), told.get("tls_version"), told.get("listen")
    if version is not None and version not in get_args(TlsVersion):
        raise ValueError(f"{units.shown(version)} is not one of {', '.join(get_args(TlsVersion))}")
    if alpn is not None and not isinstance(alpn, list):
        raise ValueError("alpn is a list of names")
    sni = told.get("sni")
    question = Question(
        port=units.port(told.get("port")),
        now=_moment(told["time"]) if "time" in told else time.time(),
        local=None if listen is None else units.address(str(listen)),
        client=str(units.address(str(told["client_ip"]))) if "client_ip" in told else None,
        tls=bool(told.get("tls")) or any(one is not None for one in (sni, alpn, version)),
        sni=None if sni is None else hostname(str(sni)),
        alpn=None if alpn is None else tuple(map(str, alpn)),
        tls_version=version,
        host=told.get("host"),
        path=told.get("path"),
        method=told.get("method"),
        headers=_headers(told["headers"]) if "headers" in told else None,
    )
    return _as_routed(question) if question.has_request else question


def _as_routed(question: Question) -> Question:
    """With Host and path as a request's head gives them."""
    try:
        head = question.head()
    except WireError as error:
        raise ValueError(f"no route would get such a request: {error}") from None
    return evolve(
        question,
        host=None if question.host is None else head.host,
        path=None if question.path is None else head.path,
    )


def _headers(given: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of name and value."""
    try:
        pairs = [(str(name), str(value)) for name, value in given]
    except (TypeError, ValueError):
        raise ValueError("headers are pairs of a name and a value") from None
    return tuple((name.lower(), value.encode().decode("latin-1")) for name, value in pairs)


def _moment(given: Any) -> float:
    """UTC epoch seconds; of text without a zone, by this host's clock."""
    try:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        moment = float(given) if number else datetime.fromisoformat(str(given)).timestamp()
        # The calendar ends where its years have more than four digits, and a day of either side is for time zones.
        datetime.fromtimestamp(moment - 86400)
        datetime.fromtimestamp(moment + 86400)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{units.shown(given)} is not a time such as 2026-11-21T08:00 or 2026-11-21T08:00+01:00"
        ) from None
    return moment
