"""Text that leaves for peers or becomes a path: templates with placeholders, replies, headers, suites.

Each is checked where it is written, so that nothing can add a line to a protocol or leave its directory later on.
"""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Sequence
from typing import Annotated

from dcrouter.config.findings import meant
from dcrouter.config.forms import Form
from dcrouter.config.units import shown
from dcrouter.wire.http1 import PLACEHOLDERS

MAILDIR_PLACEHOLDERS = ("recipient", "local", "domain")
"""What `{...}` may name in `maildir`; all are percent-encoded, so that none of them can hold a slash."""

LONGEST_ACCOUNT = 320
"""Characters: as long as a mail address may be."""

_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_LINE = re.compile(r"[\x20-\x7e]{1,400}")
_REPLY = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3} .+")
_SCHEMA = {"type": "string", "minLength": 1}


def _redirect(text: str) -> str:
    _placeholders(text, PLACEHOLDERS)
    scheme, _, rest = text.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0] if scheme in ("http", "https") else ""
    if "{query}" in authority:  # {path} and {uri} bring a slash of their own, a query brings nothing
        raise ValueError("{query} stands in the host name, where the client would choose it: put a / before it")
    if _VISIBLE.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not a URL: one line of ASCII without spaces")
    if not text.startswith(("https://", "http://", "/", "{uri}", "{path}")):
        raise ValueError(f"{shown(text)} is not a URL: it begins with https://, http:// or /")
    return text


def _maildir(text: str) -> str:
    _placeholders(text, MAILDIR_PLACEHOLDERS)
    parts = text.split("/")
    if not text.isprintable() or {"", ".", ".."} & set(parts):
        raise ValueError(f"{shown(text)} is not a path under state_dir, such as maildir/{{recipient}}")
    if "{" in parts[0]:
        raise ValueError(f"{shown(text)} does not begin with a directory of its own, such as maildir/{{recipient}}")
    return text


def _placeholders(template: str, known: Sequence[str]) -> None:
    for found in _BRACES.finditer(template):
        name = found[1]
        if name is None:
            raise ValueError(f"{shown(template)} has a brace without its other half")
        if name not in known:
            choice = " ".join(f"{{{one}}}" for one in known)
            raise ValueError(f"{{{name[:64]}}} is not one of {choice}{meant(name, known)}")


def _line(text: str) -> str:
    if _LINE.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not one line of printable ASCII")
    return text


def _check_path(text: str) -> str:
    if not text.startswith("/") or _VISIBLE.fullmatch(text) is None or "#" in text:
        raise ValueError(f"{shown(text)} is not a path: ASCII without spaces that begins with /")
    return text


def _reply(text: str) -> str:
    if _REPLY.fullmatch(_line(text)) is None:
        raise ValueError(f"{shown(text)} does not begin with an enhanced status code, as '5.7.1 Relaying denied'")
    return text


_OPERATORS = ("", "!", "-", "+", "@")
"""With which a word of an OpenSSL list begins that names no suites to add (openssl-ciphers(1))."""


def _ciphers(text: str) -> str:
    """Tried on the OpenSSL that will use them. Names that begin with TLS_ are suites of TLS 1.3."""
    if text in ("modern", "intermediate"):
        return text
    from OpenSSL import SSL  # takes long to import, and hardly any file needs it

    given = text.split(":")
    newest = [name for name in given if name.startswith("TLS_")]
    older = [name for name in given if not name.startswith("TLS_")]
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        if newest:
            context.set_tls13_ciphersuites(":".join(newest).encode())
        if older:
            context.set_cipher_list(":".join(older).encode())
    except (SSL.Error, ValueError):
        hint = meant(text, ("modern", "intermediate"))
        raise ValueError(f"{shown(text)} is not modern, intermediate or suites of OpenSSL{hint}") from None
    for name in older:
        # Of several, OpenSSL passes over those that it does not know.
        if name[:1] not in _OPERATORS:
            try:
                context.set_cipher_list(name.encode())
            except SSL.Error:
                raise ValueError(f"{shown(name)} is no suite of OpenSSL") from None
    return text


def _user(text: str) -> str:
    try:
        pwd.getpwnam(text)
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {shown(text)} on this host") from None
    return text


def _group(text: str) -> str:
    try:
        grp.getgrnam(text)
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {shown(text)} on this host") from None
    return text


def _account(text: str) -> str:
    if not 1 <= len(text) <= LONGEST_ACCOUNT or not text.isprintable() or text != text.strip():
        raise ValueError(f"{shown(text)} is not the name of an account, such as alice@example.com")
    return text


RedirectTemplate = Annotated[
    str, Form(name="redirect", words="a URL with placeholders: `https://{host}{uri}`", read=_redirect, schema=_SCHEMA)
]
MaildirTemplate = Annotated[
    str,
    Form(name="maildir", words="a path under `state_dir`: `maildir/{recipient}`", read=_maildir, schema=_SCHEMA),
]
AccountName = Annotated[
    str, Form(name="account", words="a name, usually a mail address", read=_account, schema=_SCHEMA)
]
Line = Annotated[str, Form(name="line", words="one line of printable ASCII", read=_line, schema=_SCHEMA)]
ReplyText = Annotated[
    str, Form(name="reply", words="an enhanced status code and text: `5.7.1 No`", read=_reply, schema=_SCHEMA)
]
CheckPath = Annotated[
    str, Form(name="check_path", words="a path, with a query or without: `/health`", read=_check_path, schema=_SCHEMA)
]
Ciphers = Annotated[
    str,
    Form(name="ciphers", words="`modern`, `intermediate` or suites of OpenSSL", read=_ciphers, schema=_SCHEMA),
]
User = Annotated[str, Form(name="user", words="a user of this host", read=_user, schema=_SCHEMA)]
Group = Annotated[str, Form(name="group", words="a group of this host", read=_group, schema=_SCHEMA)]
