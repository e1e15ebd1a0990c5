"""What a route changes of requests and responses: headers, paths, and what browsers are told of TLS (`hsts`)."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, unquote, unquote_to_bytes

from attrs import field, frozen

from dcrouter.config.forms import Duration, Form, key
from dcrouter.config.units import shown
from dcrouter.wire.http1 import check_header
from dcrouter.wire.http1.fields import HOP_BY_HOP
from dcrouter.wire.http1.template import parse

HEADER_PLACEHOLDERS = (
    "client_ip",
    "client_port",
    "host",
    "port",
    "path",
    "query",
    "uri",
    "method",
    "scheme",
    "route",
    "session",
    "user",
)
"""What `{...}` may name in a header's value."""

OURS = HOP_BY_HOP | {"content-length", "expect"}
"""Headers that frame a message, or are for one connection only: the router sets them itself."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_NO_PREFIX = re.compile(r"[\x00-\x20\x7f?#*\\]|%(?![0-9A-Fa-f]{2})|%2[Ff]")


def _check_changed(name: str, value: str) -> None:
    _header_name(name)
    check_header(name, "".join(text for text, _ in parse(value, HEADER_PLACEHOLDERS)))


def check_set_in_request(name: str, value: str) -> None:
    """ValueError where no request may be given this header."""
    _check_changed(name, value)
    if name.lower() == "host" and not value.strip():
        raise ValueError("a request has a Host, which is not empty")


def check_added_to_request(name: str, value: str) -> None:
    """ValueError where no request may be given one more of this header."""
    if name.lower() == "host":
        raise ValueError("a request has one Host: `set` changes it")
    _check_changed(name, value)


def check_in_response(name: str, value: str) -> None:
    """ValueError where no response may be given this header."""
    _check_changed(name, value)


def _header_name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not the name of a header")
    if text.lower() in OURS:
        raise ValueError(f"header {text} frames the message or is for one connection only: the router sets it itself")
    return text


def _removed_from_request(text: str) -> str:
    if text.lower() == "host":
        raise ValueError("a request has a Host: `set` changes it")
    return _header_name(text)


def _file_name(text: str) -> str:
    if "/" in text or "\0" in text or text.startswith(".") or not text:
        raise ValueError(f"{shown(text)} is not the name of a file, such as index.html: without directories")
    return text


def _prefix(text: str) -> str:
    """Percent-encoded as it will be compared, without the slash at its end."""
    given = text.rstrip("/")
    if not given.startswith("/") or _NO_PREFIX.search(given):
        raise ValueError(f"{shown(text)} is not the beginning of a path, such as /v1: without wildcards and query")
    if {"", ".", ".."} & {unquote(part) for part in given[1:].split("/")}:
        raise ValueError(f"{shown(text)} has an empty segment, . or ..")
    return quote(unquote_to_bytes(given), safe="/!$&'()+,;=:@~")


_TEXT = {"type": "string", "minLength": 1}
HeaderName = Annotated[str, Form(name="header_name", words="the name of a header", read=_header_name, schema=_TEXT)]
RequestHeaderName = Annotated[
    str, Form(name="request_header_name", words="the name of a header", read=_removed_from_request, schema=_TEXT)
]
PathPrefix = Annotated[
    str, Form(name="path_prefix", words="the beginning of a path: `/v1`", read=_prefix, schema=_TEXT)
]

FileName = Annotated[str, Form(name="file_name", words="the name of a file", read=_file_name, schema=_TEXT)]

_VALUES = "Values may hold {client_ip} {client_port} {host} {port} {path} {query} {uri} {method} {scheme} {route} "
_VALUES += "{session} {user}; {{ and }} are braces."


@frozen(kw_only=True)
class RequestHeaders:
    """What the target hears of a request: first `remove`, then `set`, then `add`.

    A header whose name differs only in `_` and `-` counts as the same: many targets take one for the other.
    """

    set_: dict[str, str] = field(
        factory=dict,
        metadata=key("Headers that have this value and no other. " + _VALUES, name="set", entry=check_set_in_request),
    )
    add: dict[str, str] = field(
        factory=dict, metadata=key("Headers that are added to those there are.", entry=check_added_to_request)
    )
    remove: tuple[RequestHeaderName, ...] = field(default=(), metadata=key("Headers that are taken away.", scalar=True))


@frozen(kw_only=True)
class ResponseHeaders:
    """What the client hears of a response, whoever gave it: first `remove`, then `set`, then `add`."""

    set_: dict[str, str] = field(
        factory=dict,
        metadata=key("Headers that have this value and no other. " + _VALUES, name="set", entry=check_in_response),
    )
    add: dict[str, str] = field(
        factory=dict, metadata=key("Headers that are added to those there are.", entry=check_in_response)
    )
    remove: tuple[HeaderName, ...] = field(default=(), metadata=key("Headers that are taken away.", scalar=True))


@frozen(kw_only=True)
class Headers:
    """Headers that are changed on the way, in both directions."""

    request: RequestHeaders | None = field(
        default=None, metadata=key("Of requests, before the target sees them.", default="unchanged")
    )
    response: ResponseHeaders | None = field(
        default=None, metadata=key("Of responses, before the client sees them.", default="unchanged")
    )


@frozen(kw_only=True)
class AnswerHeaders:
    """Headers of responses that are changed on the way."""

    response: ResponseHeaders = field(metadata=key("Of responses, before the client sees them."))


@frozen(kw_only=True)
class PathRewrite:
    """What is asked for instead of the path that the client asked for; the query stays."""

    strip_prefix: PathPrefix | None = field(
        default=None,
        metadata=key(
            "Taken from the beginning, in whole segments: `/v1` makes `/v1/x` `/x`; the target hears of it by "
            "X-Forwarded-Prefix. A path that begins otherwise stays.",
            default="nothing is taken away",
        ),
    )
    add_prefix: PathPrefix | None = field(
        default=None, metadata=key("Put in front, after that.", default="nothing is put in front")
    )


@frozen(kw_only=True)
class Hsts:
    """Browsers that have been here once come by https only, for `max_age` (RFC 6797)."""

    max_age: Duration = field(default=180 * 86400.0, metadata=key("For how long they remember; `0s`: they forget."))
    include_subdomains: bool = field(default=False, metadata=key("Whether it holds for all names below this one."))
    preload: bool = field(
        default=False, metadata=key("Whether browsers may bring it along in their own lists, which is hard to undo.")
    )
