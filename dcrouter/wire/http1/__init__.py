"""HTTP/1.1 as bytes: heads in, how bodies are framed, whole responses out, and where a redirect leads.

head: reads and frames a request's head. responsehead: a response's. fields: the fields of both, to be looked at and
changed. chunked: a chunked body while it passes. answer: writes a response that closes. redirect: fills in its `to`.
template: text with placeholders. conditional: what a client has already, and parts of files. mediatypes: of names.
"""

from dcrouter.wire.http1.answer import check_header, response
from dcrouter.wire.http1.head import MAX_HEAD, HeadReader, RequestHead, parse_head
from dcrouter.wire.http1.redirect import PLACEHOLDERS, expand

__all__ = [
    "MAX_HEAD",
    "PLACEHOLDERS",
    "HeadReader",
    "RequestHead",
    "check_header",
    "expand",
    "parse_head",
    "response",
]
