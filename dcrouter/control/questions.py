"""What the parent has asked its children, until they have answered: by an `id`, in one message or in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.errors import Unreachable

ANSWERS = ("status", "queue", "answer")
"""Kinds of messages that answer one of ours, by its `id`; a long answer has come in `part`s before."""

Answer = dict[str, Any]


class Questions:
    """Each ends with its answer, or as Unreachable."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: dict[int, tuple[str, Deferred[Answer]]] = {}
        self._parts: dict[int, dict[str, dict[str, Any]]] = {}
        self._asked = 0

    def ask(self, role: str, send: Callable[[int], None], timeout: float) -> Deferred[Answer]:
        """`send` says it, with the `id` that it gets; the answer's fields."""
        self._asked += 1
        number = self._asked
        answer: Deferred[Answer] = Deferred()
        self._open[number] = (role, answer)
        send(number)

        def forget(result: Any) -> Any:
            self._open.pop(number, None)
            self._parts.pop(number, None)
            return result

        def unanswered(reason: Any, seconds: float) -> Any:
            raise Unreachable(f"the {role} process did not answer within {seconds:g} s")

        return answer.addTimeout(timeout, self._reactor, unanswered).addBoth(forget)

    def heard(self, kind: str, fields: dict[str, Any]) -> bool:
        """Whether that was an answer of ours, or a piece of one."""
        if kind == "part":
            if fields["id"] in self._open:
                self._parts.setdefault(fields["id"], {}).setdefault(fields["of"], {}).update(fields["part"])
            return True
        asked = self._open.pop(fields["id"], None) if kind in ANSWERS and "id" in fields else None
        if asked is None:
            return False
        parts = self._parts.pop(fields["id"], {})
        asked[1].callback({**{name: value for name, value in fields.items() if name != "id"}, **parts})
        return True

    def died(self, role: str) -> None:
        """The process that was asked is gone."""
        for asked, answer in list(self._open.values()):
            if asked == role:
                answer.errback(Unreachable(f"the {role} process has died"))
