"""The Location of a redirect, made from what the operator wrote and what the client asked.

Contract: `expand` gives a URI reference of visible ASCII characters, or raises WireError (reply: a 400) where the
request lacks what the template names. A client can choose where it is sent only as far as the template lets it.

RFC 9110 section 10.2.2 (Location), RFC 3986 sections 2 (characters) and 4.2 (why a path that begins with // is a host).
"""

from __future__ import annotations

import re
from urllib.parse import quote

from dcrouter.errors import WireError
from dcrouter.wire.http1.answer import response
from dcrouter.wire.http1.head import RequestHead

PLACEHOLDERS = ("host", "port", "path", "query", "uri")
"""What `{...}` may name in `redirect.to`; the configuration refuses others."""

_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_SAFE = "%!#$&'()*+,/:;=?@[]~"
"""Left as they are: what a URI may hold (RFC 3986 section 2.2). Not so a backslash, which browsers take for a slash."""


def expand(template: str, head: RequestHead, local_port: int) -> str:
    """`template` with its placeholders filled: {host} as asked for, without port; {port} that the client connected to;
    {path}; {query} without "?"; {uri}, both.

    A template without a host of its own, as "{uri}" or "/new{path}", stays on this one whatever the path looks like.
    """

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name == "port":
            return str(local_port)
        if name == "host":
            if head.host is None:
                raise WireError("HTTP request: no Host to redirect to", response(400, method=head.method))
            return head.host
        if name == "query":
            return _quoted(head.query)
        # `OPTIONS *` is about the whole server.
        path = "/" if head.path == "*" else _quoted(head.path)
        return f"{path}?{_quoted(head.query)}" if name == "uri" and head.query else path

    location = _quoted(_PLACEHOLDER.sub(fill, template))
    if template[:1] in ("/", "{") and not template.startswith("//"):
        location = "/" + location.lstrip("/")
    return location


def _quoted(text: str) -> str:
    return quote(text, safe=_SAFE)
