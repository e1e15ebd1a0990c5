"""URLs of services that dcrouter asks by itself."""

from __future__ import annotations

import re
from typing import Annotated

from attrs import frozen

from dcrouter.config import names
from dcrouter.config.forms import Form
from dcrouter.config.units import shown
from dcrouter.wire.hostport import bracketed, hostport

USUAL_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#@]+)((?:[/?][\x21-\x22\x24-\x7e]*)?)")


@frozen
class Url:
    """`path`: with the query, as it is asked for. `authority`: as Host says it."""

    scheme: str
    host: str
    port: int
    path: str
    authority: str


def split_url(text: str) -> Url:
    """The parts of an http or https URL; ValueError where it is none, or has a user or a fragment."""
    found = _URL.fullmatch(text)
    if found is None:
        query = "?..." if "?" in text else ""
        raise ValueError(f"{shown(told_url(text) + query)} is not a URL such as https://id.example.com/path")
    host, port = names.host_port(found[2])
    host = names.target_host(host)
    path = found[3] if found[3].startswith("/") else "/" + found[3]
    usual = USUAL_PORTS[found[1]]
    authority = bracketed(host) if port is None or port == usual else hostport(host, port)
    return Url(found[1], host, port or usual, path, authority)


def told_url(url: str) -> str:
    """A URL for the log and for errors: without its query, where services have the tokens of those who ask."""
    return url.partition("?")[0]


def _url(text: str) -> str:
    split_url(text)
    return text


UrlText = Annotated[
    str,
    Form(
        name="url",
        words="a URL: `https://id.example.com/path`",
        read=_url,
        schema={"type": "string", "pattern": "^https?://"},
    ),
]
