"""What DNS has said lately, for as long as it may be believed; bounded, the least used leaves first.

RFC 2308 5 and 7 (negative answers, and servers that failed), RFC 8767 4 (no TTL is taken longer than a bound), RFC 9520
(a failure is remembered, so that one dead zone is not asked for once per message).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from dcrouter.net.dns.message import Answer, Question

MAX_ENTRIES = 20_000
"""A few hundred octets each."""

SHORTEST = 2.0
"""Seconds: what a message needs for its recipients at one domain is asked once even where a TTL is 0."""

LONGEST = 86_400.0
LONGEST_DENIAL = 3_600.0
FAILURE = 5.0
"""Seconds, of an answer, of a negative one, and of none."""


class Cache:
    """Question -> Answer, or the text of the failure to get one. `denial`: seconds for which a negative one stays."""

    def __init__(self, seconds: Callable[[], float], size: int = MAX_ENTRIES, denial: float = LONGEST_DENIAL) -> None:
        self._seconds = seconds
        self._size = size
        self._denial = denial
        self._entries: OrderedDict[Question, tuple[float, Answer | str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question) -> Answer | str | None:
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry[0] <= self._seconds():
            del self._entries[question]
            return None
        self._entries.move_to_end(question)
        return entry[1]

    def put(self, question: Question, said: Answer | str) -> None:
        if isinstance(said, str):
            lifetime = FAILURE
        else:
            positive = said.records or said.alias
            lifetime = min(max(said.ttl, SHORTEST), LONGEST if positive else self._denial)
        self._entries[question] = (self._seconds() + lifetime, said)
        self._entries.move_to_end(question)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
