"""What the operator wants of recipients, for as long as an attempt may say otherwise of them.

A wish is for all that are meant, under way or not: an attempt of any of them may begin, or end, before the store has
written it. It is over when it is written and no attempt is under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal

from dcrouter.mail.queue.store import HELD, HELD_BY_OPERATOR, QUEUED, Change, Key

Wish = Literal["hold", "drop"]


class Wishes:
    """By recipient."""

    def __init__(self) -> None:
        self._of: dict[Key, Wish] = {}
        self._unwritten: Counter[Key] = Counter()

    def __len__(self) -> int:
        return len(self._of)

    def get(self, key: Key) -> Wish | None:
        return self._of.get(key)

    def add(self, keys: Collection[Key], wish: Wish) -> None:
        """It is on its way to the store; `written` is to follow."""
        self._of.update(dict.fromkeys(keys, wish))
        self._unwritten.update(keys)

    def written(self, keys: Collection[Key], claims: Collection[Key]) -> None:
        """Or it could not be. `claims`: who is under way."""
        self._unwritten -= Counter(keys)
        self._forget(key for key in keys if key not in claims)

    def ended(self, keys: Iterable[Key]) -> None:
        """An attempt of these, and what became of them is written."""
        if self._of:
            self._forget(keys)

    def release(self, keys: Iterable[Key]) -> None:
        """They are not to be held any more."""
        for key in keys:
            if self._of.get(key) == "hold":
                del self._of[key]

    def amend(self, message: int, gone: list[int], changed: list[Change], now: float) -> None:
        """What is about to be written of an attempt, if the wish is younger than the verdict on it."""
        for at, change in reversed(list(enumerate(changed)) if self._of else []):
            wish = self._of.get((message, change.number))
            if wish == "drop":
                gone.append(changed.pop(at).number)
            elif wish == "hold" and change.state in (QUEUED, HELD):
                changed[at] = change._replace(state=HELD_BY_OPERATOR, due=now)

    def _forget(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key not in self._unwritten:
                self._of.pop(key, None)
