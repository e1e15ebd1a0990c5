"""What a failed or deferred recipient's reply means: one word, and whether the address is worth another message.

The rules are `kinds.yaml`, beside this file, in the order in which they are tried. Enhanced codes: RFC 3463, RFC 7372.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml
from attrs import frozen

OTHER = "other"
MAX_REPLY = 2000
"""Characters of a reply that are looked at."""

_REPLY = re.compile(r"(?P<code>[245][0-9]{2})(?:[ -](?P<status>[245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?")
_ADDRESS = re.compile(r"<[^<>]*>|\S+@\S+")
_OWN = re.compile(r"(?P<status>[45]\.[0-9]{1,3}\.[0-9]{1,3}) ")


class Kind(NamedTuple):
    """`hard`: nothing that is sent there later arrives either."""

    name: str
    hard: bool


@frozen
class _Rule:
    kind: Kind
    codes: re.Pattern[str] | None
    statuses: re.Pattern[str] | None
    text: re.Pattern[str] | None

    def fits(self, words: str, code: str, status: str) -> bool:
        if self.codes is not None and self.codes.fullmatch(code) is None:
            return False
        if self.statuses is not None and self.statuses.fullmatch(status.partition(".")[2]) is None:
            return False
        return self.text is None or self.text.search(words) is not None


def kind_of(reply: str) -> Kind:
    """Of a final reply, with its code; or of our own words, where nobody has said anything."""
    reply = reply[:MAX_REPLY]
    found = _REPLY.match(reply)
    own = None if found is not None else _OWN.match(reply)
    code = found["code"] if found is not None else ""
    status = (found["status"] or "") if found is not None else own["status"] if own is not None else ""
    words = _ADDRESS.sub(" ", reply)
    for rule in _rules():
        if rule.fits(words, code, status):
            return rule.kind
    return Kind(OTHER, False)


@cache
def names() -> tuple[str, ...]:
    """All there are, each once."""
    return tuple(dict.fromkeys([*(rule.kind.name for rule in _rules()), OTHER]))


@cache
def _rules() -> tuple[_Rule, ...]:
    text = files("dcrouter.mail.bounces").joinpath("kinds.yaml").read_text("utf-8")
    return tuple(_rule(one) for one in yaml.safe_load(text))


def _rule(one: dict[str, Any]) -> _Rule:
    return _Rule(
        kind=Kind(one["kind"], one.get("hard", False)),
        codes=_any_of(one.get("code")),
        statuses=_any_of(one.get("status")),
        text=re.compile(one["text"], re.IGNORECASE) if "text" in one else None,
    )


def _any_of(values: list[Any] | None) -> re.Pattern[str] | None:
    """`x` is any digits."""
    if values is None:
        return None
    return re.compile("|".join(re.escape(str(value)).replace("x", "[0-9]+") for value in values))
