"""Words of which a hello or a request has one: ALPN names, methods, values of headers.

Values of headers are compared as they are, one character per byte, or by `re:`, which the whole value must match.
RFC 7301 section 3.1 (names of 1 to 255 bytes), RFC 9110 sections 5.5 and 9.1.
"""

from __future__ import annotations

import re
from typing import Annotated

from dcrouter.config.forms import Form
from dcrouter.config.names import REGEX
from dcrouter.config.regex import expression
from dcrouter.config.units import shown

LONGEST_VALUE = 512
"""Characters of a header's value that a regular expression is asked about: longer ones match none. The attacker writes
them, and every connection waits for the answer."""

_ALPN = re.compile(r"[\x21-\x7e]{1,255}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\uffff](?:[\t\x20-\x7e\x80-\uffff]*[\x21-\x7e\x80-\uffff])?)?")


def value_expression(text: str) -> re.Pattern[str]:
    """A `re:` value of `match.headers`, for `fullmatch` with at most LONGEST_VALUE characters; ValueError for none."""
    return expression(text, LONGEST_VALUE, ignore_case=False)


def check_header_condition(name: str, value: str) -> None:
    """ValueError for what no request can have."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"{shown(name)} is not the name of a header")
    if value.startswith(REGEX):
        value_expression(value)
    elif _VALUE.fullmatch(value) is None:
        raise ValueError("not a value that a header has: it neither begins nor ends with a space")


def _alpn(text: str) -> str:
    if _ALPN.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not the name of a protocol, such as h2 or http/1.1")
    return text


def _method(text: str) -> str:
    if _TOKEN.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not a method of HTTP")
    if text != text.upper():
        raise ValueError(f"{shown(text)} is not a method of HTTP (did you mean {text.upper()!r}?)")
    if text == "CONNECT":
        raise ValueError("CONNECT is answered with 405 before any route is asked")
    return text


AlpnName = Annotated[
    str,
    Form(
        name="alpn",
        words="a protocol of ALPN: `h2` `http/1.1`",
        read=_alpn,
        schema={"type": "string", "minLength": 1, "maxLength": 255},
    ),
]
Method = Annotated[
    str,
    Form(
        name="method",
        words="a method: `GET` `POST`",
        read=_method,
        schema={"type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Z-]{1,64}$"},
    ),
]
