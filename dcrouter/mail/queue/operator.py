"""What an operator asks of the queue, and has done with it: a question in plain values, an answer in plain values.

    {"do": "list", filters, "limit": n, "after": place}     {"messages": [...], "next": place or None}
    {"do": "show", "message": id}                           {"message": {...}}
    {"do": "stats", "top": n}                               {"stats": {...}}
    {"do": "ages", "top": n}                                {"ages": [{"domain", "recipients": [n ...]}], "total": [n
                                                            ...], "minutes"}
    {"do": "retry" | "hold" | "release" | "drop" |
     "reroute" (with "to": rule) | "bounce" (with "reply"),
     "messages": [id ...] or filters or "all": true,
     "after": place}                                        {"changed": n, "next": place or None}

Filters are `rule`, `zone`, `state`, `sender`, `recipient` and `older` (seconds, or `1h`). A place is where the next
page begins; the asker comes back with it, so that no answer takes long. A change meets what there is when it begins:
neither what comes meanwhile nor the notifications that it brings about. What cannot be done is `{"error": "...",
"status": n}`, with a status of HTTP: 400 a question that makes no sense, 404 no such message, 503 a store that cannot
answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from dcrouter.config.rules import Mta, Rule
from dcrouter.config.units import duration
from dcrouter.config.zones import DEFAULT
from dcrouter.errors import StoreError
from dcrouter.mail.message import Message, parse_name, spool_path
from dcrouter.mail.queue.queue import Queue
from dcrouter.mail.queue.store import (
    AGES,
    FAILED,
    FIRST,
    HELD,
    HELD_BY_OPERATOR,
    HELD_NOTICE,
    QUEUED,
    WHY,
    WORDS,
    Entry,
    Key,
    Selection,
    Store,
    ZoneIs,
)

PAGE = 1000
"""Recipients in one answer, and in one change."""

CHANGED = 5000
"""Recipients that one request changes; it says where the next one begins."""

HEAD = 64 * 1024
"""Octets of the header that are shown."""

TOP = 20
MOST_TOP = 1000

_FROM = {
    "retry": (QUEUED, FAILED),
    "hold": (QUEUED, FAILED, HELD, HELD_NOTICE),
    "release": (HELD, HELD_BY_OPERATOR, HELD_NOTICE),
    "reroute": (QUEUED, FAILED, HELD),
    "bounce": (QUEUED, FAILED, HELD, HELD_BY_OPERATOR),
}
_FILTERS = ("rule", "zone", "state", "sender", "recipient", "older")

Fields = Mapping[str, Any]
Plain = dict[str, Any]


class Asked(Exception):
    """A question without an answer: what the operator is told."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Operator:
    """`now`: the wall clock. `try_all`: next hops that were found down are tried again without a pause. `rules`: those
    of the configuration. `last`: the highest id of a message so far.
    """

    def __init__(
        self,
        store: Store,
        queue: Queue,
        now: Callable[[], float],
        try_all: Callable[[], None],
        rules: Callable[[], Sequence[Rule]] = lambda: (),
        last: Callable[[], int] = lambda: _EVER,
    ) -> None:
        self._rules = rules
        self._last = last
        self._store = store
        self._queue = queue
        self._now = now
        self._try_all = try_all

    def ask(self, fields: Fields) -> Deferred[Plain]:
        """The answer; never fails for what an operator can mistake, nor for a store that cannot answer."""
        return Deferred.fromCoroutine(self._answer(fields))

    async def _answer(self, fields: Fields) -> Plain:
        try:
            do = fields.get("do")
            if do == "list":
                return await self._list(fields)
            if do == "show":
                return await self._show(str(fields.get("message")))
            if do == "stats":
                return {"stats": await self._store.stats(self._now(), _number(fields, "top", TOP, MOST_TOP))}
            if do == "ages":
                return await self._ages(fields)
            if do == "drop" or do in _FROM:
                return await self._change(str(do), fields)
            raise Asked(f"the queue cannot {do}")
        except Asked as wrong:
            return {"error": str(wrong), "status": wrong.status}
        except StoreError as failure:
            return {"error": f"the mail queue cannot answer: {failure}", "status": 503}

    async def _list(self, fields: Fields) -> Plain:
        now = self._now()
        limit = _number(fields, "limit", PAGE, PAGE)
        selection, place = self._selection(fields, now), _place(fields)
        entries: list[Entry] = []
        following: Key | None = place
        while following is not None and len(entries) < limit:
            page = await self._store.pick(selection, following, limit - len(entries), now)
            entries += page.entries
            following = page.next
        return {"messages": [as_plain(entry, now) for entry in entries], "next": _written(following)}

    async def _ages(self, fields: Fields) -> Plain:
        found = await self._store.ages(self._now(), _number(fields, "top", TOP, MOST_TOP))
        return {
            "ages": [{"domain": domain, "recipients": counts} for domain, counts in found.domains],
            "total": found.total,
            "minutes": list(AGES),
        }

    async def _show(self, name: str) -> Plain:
        now = self._now()
        number = parse_name(name)
        selection = Selection(messages=(number or 0,))
        page = await self._store.pick(selection, FIRST, PAGE, now)
        if not page.entries:
            raise Asked(f"no message {name}", 404)
        first = page.entries[0]
        message = Message.bare(first.message, spooled=first.spooled)
        try:
            head = header(await self._store.head(message, HEAD))
        except StoreError as failure:
            head = f"cannot be read: {failure}"
        return {
            "message": {
                "message": message.name,
                "session": first.session,
                "sender": first.sender,
                "received": first.received,
                "size": first.size,
                "spool": str(spool_path(self._store.spool, message.id)) if first.spooled else None,
                "recipients": [
                    {name: value for name, value in as_plain(entry, now).items() if name not in _OF_MESSAGE}
                    for entry in page.entries
                ],
                "more": page.next is not None,
                "header": head,
            }
        }

    async def _change(self, do: str, fields: Fields) -> Plain:
        now = self._now()
        selection = self._selection(fields, now)
        following: Key | None = _place(fields)
        last = _last(fields) or self._last()
        word = self._word(do, fields)
        if selection.everything and fields.get("all") is not True:
            raise Asked(f"{do} what? Name messages or a filter, or say that all are meant")
        selection = evolve(selection, last=last)
        changed = 0
        while following is not None and changed < CHANGED:
            page = await self._store.pick(selection, following, PAGE, now)
            states = _FROM.get(do)
            keys = [entry.key for entry in page.entries if states is None or entry.state in states]
            if keys:
                await self._do(do, keys, word)
            changed += len(keys)
            following = page.next
        if selection.messages is not None and not changed and not page.entries and _place(fields) == FIRST:
            raise Asked(f"no message {', '.join(map(str, fields['messages']))}", 404)
        return {"changed": changed, "next": None if following is None else f"{_written(following)}.{last:x}"}

    def _selection(self, fields: Fields, now: float) -> Selection:
        zone = fields.get("zone")
        if not isinstance(zone, str):
            return selection_of(fields, now)
        named = {rule.name: rule.action.zone for rule in self._rules() if isinstance(rule.action, Mta)}
        found = ZoneIs(
            name="" if zone == DEFAULT else zone,
            rules=tuple(name for name, its in named.items() if its == zone),
            others=tuple(name for name, its in named.items() if its not in (None, zone)),
        )
        return evolve(selection_of(fields, now), zone=found)

    def _word(self, do: str, fields: Fields) -> str:
        """What `reroute` and `bounce` want to know besides. Raises Asked."""
        if do == "reroute":
            rule = fields.get("to")
            names = [one.name for one in self._rules()]
            if rule not in names:
                raise Asked(f"to: one of the rules {', '.join(names)}" if names else "to: there are no rules")
            return str(rule)
        if do == "bounce":
            reply = fields.get("reply") or GIVEN_UP
            if not isinstance(reply, str) or _REPLY.fullmatch(reply) is None:
                raise Asked("reply: such as 550 5.7.1 and words, without line breaks")
            return reply
        return ""

    def _do(self, do: str, keys: list[Key], word: str) -> Deferred[None]:
        if do == "drop":
            return self._queue.drop(keys)
        if do == "bounce":
            return self._queue.give_up(keys, _FROM[do], word)
        if do == "reroute":
            return self._queue.reroute(keys, _FROM[do], word)
        if do == "hold":
            return self._queue.hold(keys, _FROM[do], HELD_BY_OPERATOR)
        self._try_all()
        return self._queue.resume(keys, _FROM[do])


_EVER = (1 << 63) - 1
GIVEN_UP = "550 5.7.1 Given up by the operator"
_REPLY = re.compile(r"5[0-9]{2} 5\.[0-9]{1,3}\.[0-9]{1,3} [ -~]{1,400}")

_OF_MESSAGE = ("message", "session", "sender", "received", "size")


def as_plain(entry: Entry, now: float) -> Plain:
    """A recipient as JSON-ready values. `due`: of what is queued; `since` and `why`: of what is not. `notify` and
    `original` (ORCPT): what its sender asked for.
    """
    queued = entry.state == QUEUED
    return {
        "message": f"{entry.message:x}",
        "session": entry.session,
        "sender": entry.sender,
        "received": entry.received,
        "size": entry.size,
        "recipient": entry.address,
        "rule": entry.rule,
        "zone": entry.zone or None,
        "state": entry.word(now),
        "attempts": entry.attempts,
        "due": entry.due if queued else None,
        "since": None if queued else entry.due,
        "why": WHY.get(entry.state),
        "priority": entry.priority,
        "source": entry.source or None,
        "notify": entry.notify or None,
        "original": entry.orcpt or None,
        "reply": entry.reply,
    }


def header(beginning: bytes) -> str:
    """The header block that a message begins with; what is no ASCII and no UTF-8 is shown as such."""
    end = beginning.find(b"\r\n\r\n")
    block = beginning[: end + 2] if end >= 0 else beginning
    return block.decode("utf-8", "replace").replace("\r\n", "\n")


def selection_of(fields: Fields, now: float) -> Selection:
    """What the filters mean. Raises Asked."""
    given = {name: fields[name] for name in _FILTERS if fields.get(name) is not None}
    messages = fields.get("messages")
    ids: tuple[int, ...] | None = None
    if messages is not None:
        if not isinstance(messages, list) or not messages:
            raise Asked("messages: a list of ids")
        # An id that cannot be one is none that is here.
        ids = tuple(parse_name(str(name)) or 0 for name in messages)
    given.pop("zone", None)
    before = None if "older" not in given else now - _seconds(given.pop("older"))
    for name, value in given.items():
        if not isinstance(value, str):
            raise Asked(f"{name}: text")
    if given.get("state", "held") not in WORDS:
        raise Asked(f"state: one of {', '.join(WORDS)}")
    if given.get("sender") == "<>":
        given["sender"] = ""
    return Selection(messages=ids, before=before, **given)


def _seconds(older: object) -> float:
    if isinstance(older, int | float) and not isinstance(older, bool) and older >= 0:
        return float(older)
    try:
        return duration(str(older))
    except ValueError as error:
        raise Asked(f"older: {error}") from error


def _number(fields: Fields, name: str, default: int, most: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Asked(f"{name}: a number from 1")
    return min(value, most)


def _place(fields: Fields) -> Key:
    after = fields.get("after")
    if after is None:
        return FIRST
    message, number = (*str(after).split(".", 2), "")[:2]
    parsed = parse_name(message)
    if parsed is None or not number.isascii() or not number.isdecimal():
        raise Asked("after: what the page before said is next")
    return (parsed, int(number))


def _last(fields: Fields) -> int | None:
    """What `after` says besides, of a change: the highest id that is meant."""
    written = str(fields.get("after")).split(".")
    return parse_name(written[2]) if len(written) == 3 else None


def _written(place: Key | None) -> str | None:
    return None if place is None else f"{place[0]:x}.{place[1]}"
