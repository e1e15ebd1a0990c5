"""OAUTHBEARER (RFC 7628) and Google's XOAUTH2, the server's side: a token in, without a socket.

`read(mechanism, response)` gives what a client brings; `refusal(mechanism)` is the challenge that tells it that the
token is not good, which it answers with anything before the login has failed. WireError, with the reply, for what is
malformed; nothing that it says contains any of what the client sent.
"""

from __future__ import annotations

import json
import re

from attrs import field, frozen

from dcrouter.errors import WireError
from dcrouter.wire.sasl import MALFORMED

OAUTHBEARER = "OAUTHBEARER"
XOAUTH2 = "XOAUTH2"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,12288}=*")
"""RFC 6750 2.1: b64token."""
_GS2 = re.compile(r"[ny],(?:a=((?:[^\0,=]|=2C|=3D)*))?,")


@frozen(kw_only=True)
class Token:
    """`account`: whom the client says that it is of, "" where it does not."""

    account: str
    token: str = field(repr=False)


def read(mechanism: str, response: bytes) -> Token:
    """Of a whole response. Channel binding is not for bearer tokens (7628 3.1 has nothing to bind)."""
    try:
        text = response.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed() from None
    head, *pairs = text.split("\x01")
    if "\0" in text or len(pairs) < 2 or pairs[-2:] != ["", ""]:
        raise _malformed()
    if mechanism == XOAUTH2:
        word, _, account = head.partition("=")
        if word != "user" or not account:
            raise _malformed()
    else:
        found = _GS2.fullmatch(head)
        if found is None:
            raise _malformed()
        account = (found[1] or "").replace("=2C", ",").replace("=3D", "=")
    values: dict[str, str] = {}
    for pair in pairs[:-2]:
        name, equals, value = pair.partition("=")
        if not equals or name in values:
            raise _malformed()
        values[name] = value
    scheme, _, token = values.get("auth", "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or _TOKEN.fullmatch(token) is None:
        raise _malformed()
    return Token(account=account, token=token)


def refusal(mechanism: str) -> bytes:
    """JSON as RFC 7628 3.2.2, and Google's XOAUTH2, have it."""
    if mechanism == XOAUTH2:
        return json.dumps({"status": "401", "schemes": "bearer", "scope": ""}).encode()
    return json.dumps({"status": "invalid_token"}).encode()


def _malformed() -> WireError:
    return WireError("not a bearer token's message", MALFORMED)
