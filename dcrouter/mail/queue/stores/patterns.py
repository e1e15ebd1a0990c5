"""How an operator names addresses: whole, by domain, or as a pattern with `*`. Case does not count."""

from __future__ import annotations

import re

from dcrouter.mail.queue.store import Entry, Selection, ZoneIs


def pattern_of(text: str) -> str:
    """The pattern in lower case, with `*` for a domain's local parts."""
    lower = text.lower()
    return lower if "@" in lower or "*" in lower else f"*@{lower}"


def glob_of(text: str) -> str:
    """The same for SQLite's GLOB, in which only `*` is special then."""
    return "".join(f"[{character}]" if character in "[?" else character for character in pattern_of(text))


def domain_of(address: str) -> str:
    """What stands behind the last @, in lower case."""
    return address.rpartition("@")[2].lower()


class Matcher:
    """A selection as a question to one entry."""

    def __init__(self, selection: Selection, now: float) -> None:
        self._selection = selection
        self._now = now
        self._messages = None if selection.messages is None else frozenset(selection.messages)
        self._sender = _regex(selection.sender)
        self._recipient = _regex(selection.recipient)

    def matches(self, entry: Entry) -> bool:
        wanted = self._selection
        return (
            (self._messages is None or entry.message in self._messages)
            and (wanted.rule is None or entry.rule == wanted.rule)
            and (wanted.state is None or entry.word(self._now) == wanted.state)
            and (wanted.zone is None or _is_of(wanted.zone, entry))
            and (wanted.last is None or entry.message <= wanted.last)
            and (wanted.before is None or entry.received < wanted.before)
            and (self._sender is None or self._sender.fullmatch(entry.sender.lower()) is not None)
            and (self._recipient is None or self._recipient.fullmatch(entry.address.lower()) is not None)
        )


def _is_of(zone: ZoneIs, entry: Entry) -> bool:
    return entry.rule in zone.rules or (entry.zone == zone.name and entry.rule not in zone.others)


def _regex(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    pattern = pattern_of(text) if text else ""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
