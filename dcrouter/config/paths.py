"""Paths of requests: the patterns of `match.path`, and the one form in which a path is compared with them.

A pattern is anchored and compared segment by segment: `*` is exactly one segment, `**` at the end is all that follows,
be it nothing. `/v1/**` is `/v1`, `/v1/` and `/v1/a/b`; `/users/*` is `/users/7`, and neither `/users/` nor
`/users/7/x`.

Segments are compared decoded (`%41` is `A`), without empty ones and `.` in between. What is left are spellings that one
server reads as another path than the next: `..`, an encoded slash, a backslash, `;parameters`. Such a path has two
readings, and `readings` gives both: who routes by one of them lets the other past. RFC 3986 sections 2.3, 3.3, 5.2.4
and 6.2.2; WHATWG URL (backslash).
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from attrs import frozen

from dcrouter.config.forms import Form
from dcrouter.config.units import shown

Segments = tuple[str, ...]
"""`/a/b` is ("a", "b"), `/a/` is ("a", ""), `/` is ("",); decoded, one character per byte."""
PathSpecificity = tuple[int, int, int]

LONGEST = 4096
"""Characters of a pattern; requests have 16 KB for their whole head."""

_UNUSUAL = re.compile(r"[%;\\]|//|/\.")
_SPELLED = re.compile(r"%[0-9A-Fa-f]{2}|%")
_TWO_WAYS = re.compile(r"%2[Ff]|%5[Cc]|[;\\]|%3[Bb]|(?:/|%2[Ff])(?:\.|%2[Ee]){2}(?:/|%2[Ff]|$)")


@frozen
class PathPattern:
    """`segments` without the wildcard at the end; None among them is `*`, of which there is none where it is `literal`.
    `rest`: it ends with `**`.
    """

    segments: tuple[str | None, ...]
    rest: bool
    literal: bool

    def matches(self, path: Segments | None) -> bool:
        """Whether a path, as `readings` gives it, is meant; None, which is no path, never is."""
        if path is None:
            return False
        wanted = self.segments
        if self.rest:
            path = path[: len(wanted)]
        if self.literal:
            return path == wanted
        if len(path) != len(wanted):
            return False
        for one, given in zip(wanted, path, strict=True):
            if one != given and (one is not None or given == ""):
                return False
        return True


def pattern(text: str) -> PathPattern:
    """A pattern that the configuration has checked."""
    *before, last = _segments(text)
    rest = last == "**"
    segments = before if rest else [*before, last]
    return PathPattern(tuple(None if one == "*" else _decoded(one) for one in segments), rest, "*" not in segments)


def readings(path: str) -> tuple[Segments | None, ...]:
    """What a request's path may mean: one reading, or for what servers disagree about two, the RFC's and the laxest.

    `path` is as the request has it, one character per byte. (None,) for `*` of `OPTIONS *`, which is no path.
    """
    if not path.startswith("/"):
        return (None,)
    if _UNUSUAL.search(path) is None:
        return (tuple(path[1:].split("/")),)
    strict = _clean(list(map(_decoded, path[1:].split("/"))), up=False)
    if _TWO_WAYS.search(path) is None:
        return (strict,)
    lax = _decoded(path[1:]).replace("\\", "/").split("/")
    return strict, _clean([segment.partition(";")[0] for segment in lax], up=True)


def specificity(text: str | None) -> PathSpecificity:
    """How exactly a pattern of `match.path` tells a path, None being any; ascending: the longer first.

    The length is that of all but the wildcards; of equal length one without any comes first, `*` then, `**` last.
    """
    if text is None:
        return (1, 0, 0)
    stars = text.count("*")
    return (0, stars - len(text), 2 if text.endswith("**") else 1 if stars else 0)


def meet(one: PathPattern, other: PathPattern) -> bool:
    """Whether some path matches both."""
    a, b = one.segments, other.segments
    if len(a) > len(b):
        one, other, a, b = other, one, b, a
    if len(a) < len(b) and not one.rest:
        # `/v1/**` is `/v1` too; else the shorter one is not long enough.
        return False
    return all(x == y or (x is None and y != "") or (y is None and x != "") for x, y in zip(a, b, strict=False))


def _segments(text: str) -> list[str]:
    return text[1:].split("/")


def _decoded(text: str) -> str:
    """Percent-decoded once; a `%` that begins no code stands for itself."""
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1") if "%" in text else text


def _clean(segments: list[str], *, up: bool) -> Segments:
    """Without `.` and without empty segments but the last; `up`: `..` takes the one before it away."""
    kept: list[str] = []
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == ".." and up:
            del kept[-1:]
            segment = "."
        if segment in ("", "."):
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return tuple(kept)


def _path(text: str) -> str:
    """A pattern in the form that it is compared in."""
    if not text.startswith("/"):
        raise ValueError(f"{shown(text)} is not a path: it begins with /")
    if "?" in text or "#" in text:
        raise ValueError(f"{shown(text)} is not a path: what stands behind '?' or '#' is not part of it")
    if len(text) > LONGEST or any(ord(one) < 0x21 or ord(one) == 0x7F for one in text):
        raise ValueError(f"{shown(text)} is not a path: at most {LONGEST} characters, without spaces")
    if any(len(one.group()) == 1 for one in _SPELLED.finditer(text)):
        raise ValueError(f"{shown(text)} has a % that begins no code such as %20")
    segments = _segments(text)
    if "**" in segments[:-1]:
        raise ValueError(f"{shown(text)}: ** stands only at the end: it is all the rest of the path")
    if any("*" in one and one not in ("*", "**") for one in segments):
        raise ValueError(f"{shown(text)}: '*' stands for a whole segment, not for a piece of it")
    if "" in segments[:-1] or {".", ".."} & set(map(_decoded, segments)):
        raise ValueError(f"{shown(text)} has a segment that no path is compared with: paths have lost //, . and ..")
    # Bytes as they will be compared: `/café` as browsers send it.
    return quote(text, safe="/%*!$&'()+,;=:@~-._\"<>[]^`{|}\\")


PathText = Annotated[
    str,
    Form(
        name="request_path",
        words="a path: `/health` `/users/*` (one segment) `/v1/**` (the rest)",
        read=_path,
        schema={"type": "string", "minLength": 1},
    ),
]
