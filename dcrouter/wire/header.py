"""A message's header block, as it stands: its fields, and the addresses in one. RFC 5322 2.2, 3.4, 4.4.

Contract: bytes in, values out, nothing is changed. Fields are read as the most generous reader would: a name may be
followed by blanks, and a line that is no field does not end the block. Addresses are read so that none of them can be
overlooked: WireError for what different readers could take for different addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from dcrouter.errors import WireError
from dcrouter.wire.smtp.address import parse_path

MAX_ADDRESSES = 1000
"""In one field; the header block that we read is bounded as well."""

_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)", re.MULTILINE)
_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t\r\n]+)
    | (?P<quoted>"(?:[^"\\]|\\.)*")
    | (?P<literal>\[[^\[\]\\]*\])
    | (?P<special>[<>@,;:()])
    | (?P<atom>[^ \t\r\n"\[\]<>@,;:()\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)


def block(message: bytes) -> bytes | None:
    """The header block that `message` begins with, its last CRLF included; None where its end is not in sight."""
    if message.startswith(b"\r\n"):
        return b""
    end = message.find(b"\r\n\r\n")
    return message[: end + 2] if end >= 0 else None


def count(head: bytes, name: bytes) -> int:
    """How many fields of this lower-case name begin a line of `head`; a fast look for trace fields.

    Blanks before the colon are obsolete syntax (RFC 5322 4.5), and count.
    """
    lower = head.lower()
    return len(_begins_with(name).findall(b"\r\n" + lower)) if name in lower else 0


@lru_cache(maxsize=100)
def _begins_with(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n" + re.escape(name) + rb"[ \t]*:")


def is_tls_optional(head: bytes) -> bool:
    """Whether a field of `head` says `TLS-Required: No` (RFC 8689 3)."""
    return b"s-required" in head.lower() and any(
        name == "tls-required" and value.strip().lower() == b"no" for name, value in fields(head)
    )


def fields(head: bytes) -> Iterator[tuple[str, bytes]]:
    """(name in lower case, value with its folding) of each field, in order."""
    for found in _FIELD.finditer(head):
        yield found[1].decode("ascii").lower(), found[2]


class Head:
    """The fields of a header block, by name; read when the first is asked for."""

    __slots__ = ("_block", "_values")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._values: dict[str, list[str]] | None = None

    def values(self, name: str) -> list[str]:
        """All values of the fields of this lower-case name: unfolded (RFC 5322 2.2.3), without blanks around them, one
        character per byte; encoded words stay so.
        """
        if self._values is None:
            self._values = {}
            for found, value in fields(self._block):
                text = value.replace(b"\r\n", b"").strip(b" \t").decode("latin-1")
                self._values.setdefault(found, []).append(text)
        return self._values.get(name, [])


def addresses(value: bytes) -> list[str]:
    """Every address of an address list, groups and comments included or not, as `parse_path` writes them.

    A display name that looks like an address (`a@x <b@x>`, unquoted) counts as one: some reader will show it as such.
    Raises WireError for what is no address list.
    """
    found: list[str] = []
    words: list[str] = []
    angle = False  # the mailbox's <address> has been seen
    tokens = _tokens(value.decode("utf-8", "replace"))
    for kind, text in tokens:
        if kind != "special" or text == "@":
            if angle:
                raise WireError("words behind an address")
            words.append(text)
        elif text == "<":
            if angle:
                raise WireError("two addresses in one mailbox")
            if "@" in words:
                found.append(_address(words))
            found.append(_address(list(_inside(tokens))))
            words, angle = [], True
        elif text in ",;":
            if words:
                found.append(_address(words))
            words, angle = [], False
        elif text == ":" and "@" not in words and not angle:
            words = []  # the name of a group
        else:
            raise WireError(f"{text!r} where an address list has none")
        if len(found) > MAX_ADDRESSES:
            raise WireError("too many addresses")
    if words:
        found.append(_address(words))
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of what is neither blank nor a comment."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise WireError("a quote or a bracket without its end")
        at = found.end()
        kind = found.lastgroup or ""
        if found[0] == "(":
            at = _behind_comment(text, at)
        elif kind != "blank":
            yield kind, found[0]


def _behind_comment(text: str, at: int) -> int:
    depth = 1
    for found in _COMMENT.finditer(text, at):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    raise WireError("a comment without its end")


def _inside(tokens: Iterator[tuple[str, str]]) -> Iterator[str]:
    """The words up to `>`, without a source route (RFC 5322 4.4 obs-route)."""
    words: list[str] = []
    for _, text in tokens:
        if text == ">":
            yield from words
            return
        if text == ":" and words[:1] == ["@"]:
            words = []
        elif text in "<;:":
            break
        else:
            words.append(text)
    raise WireError("an address without its end")


def _address(words: list[str]) -> str:
    """Words as one address; blanks are allowed around dots and `@` only, so that nothing is joined that stood apart."""
    for before, after in pairwise(words):
        if "@" not in (before, after) and not before.endswith(".") and not after.startswith("."):
            raise WireError("words that are no address")
    address, rest = parse_path(f"<{''.join(words)}>", utf8=True)
    if rest:
        raise WireError("words that are no address")
    return address
