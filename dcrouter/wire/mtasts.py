"""MTA-STS: the TXT record that announces a policy, the policy itself, and which hosts it covers. RFC 8461.

A policy is a small text of `key: value` lines; what is unknown in it is passed over, what is known and wrong makes all
of it void (section 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

from attrs import frozen

from dcrouter.errors import WireError

Mode = Literal["enforce", "testing", "none"]

LARGEST = 64 * 1024
"""Octets of a policy, section 3.3."""
LONGEST = 31_557_600
"""Seconds that a policy may hold for, section 3.2."""
MAX_PATTERNS = 100

_RECORD = re.compile(r"v=STSv1[ \t]*;[ \t]*(?P<fields>.*)", re.ASCII | re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_PATTERN = re.compile(
    r"(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.ASCII
)
_AGE = re.compile(r"[0-9]{1,10}", re.ASCII)


@frozen(kw_only=True)
class Policy:
    """`max_age`: seconds for which it holds. `mx`: patterns in lower case; never empty but where `mode` is none."""

    mode: Mode
    max_age: int
    mx: tuple[str, ...]

    def covers(self, host: str) -> bool:
        """Whether an exchanger is one of the domain's: by name, or by `*.` for its first label (section 4.1)."""
        name = host.lower().removesuffix(".")
        parent = name.partition(".")[2]
        return name in self.mx or (bool(parent) and f"*.{parent}" in self.mx)

    @property
    def lines(self) -> tuple[str, ...]:
        """As it is written, for a report."""
        mx = tuple(f"mx: {pattern}" for pattern in self.mx)
        return ("version: STSv1", f"mode: {self.mode}", *mx, f"max_age: {self.max_age}")


def policy_id(texts: Sequence[str]) -> str | None:
    """The id of the policy that a domain announces at `_mta-sts`, None where it announces none (section 3.1).

    More than one record that begins as one of ours is none.
    """
    found = [match for match in map(_RECORD.fullmatch, texts) if match is not None]
    if len(found) != 1:
        return None
    ids = [value.strip(" \t") for key, _, value in _fields(found[0]["fields"]) if key == "id"]
    return ids[0] if len(ids) == 1 and _ID.fullmatch(ids[0]) else None


def _fields(text: str) -> list[tuple[str, str, str]]:
    parts = [part.strip(" \t") for part in text.split(";")]
    return [part.partition("=") for part in parts if part]


def parse(octets: bytes) -> Policy:
    """A policy. WireError says what is wrong with it."""
    if len(octets) > LARGEST:
        raise WireError("the policy is larger than 64 KB")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("the policy is no UTF-8") from error
    single: dict[str, str] = {}
    patterns: list[str] = []
    for line in re.split("\r?\n", text):
        key, colon, value = line.partition(":")
        key, value = key.strip(" \t"), value.strip(" \t")
        if not line.strip(" \t"):
            continue
        if not colon:
            raise WireError("the policy has a line without a colon")
        if key == "mx":
            patterns.append(value.lower().removesuffix("."))
        else:
            single.setdefault(key, value)  # of two, the first counts
    if single.get("version") != "STSv1":
        raise WireError("the policy is not of version STSv1")
    mode = next((one for one in get_args(Mode) if one == single.get("mode")), None)
    if mode is None:
        raise WireError("the policy has no mode that is known")
    age = single.get("max_age", "")
    if _AGE.fullmatch(age) is None:
        raise WireError("the policy has no max_age")
    if not patterns and mode != "none":
        raise WireError("the policy names no mx")
    if len(patterns) > MAX_PATTERNS or any(_PATTERN.fullmatch(pattern) is None for pattern in patterns):
        raise WireError("the policy has an mx that is no host name")
    return Policy(mode=mode, max_age=min(int(age), LONGEST), mx=tuple(patterns))
