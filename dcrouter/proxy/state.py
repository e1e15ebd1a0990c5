"""What outlives a reload: counters, limits, balance, health, pools, each kept under the name of what it belongs to.

A table is made anew from each configuration (proxy/plan.py); what its routes and targets have learnt is not. A part of
the new table asks `State.keep` for its memory by name, and gets that of the part it replaces. Sessions keep the route
they began with, and so its memory too, which is the same as the new route's.

`keep` remembers nothing by itself: what no route and no session holds any more is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakValueDictionary

from dcrouter.net.engine import Engine
from dcrouter.net.limits import Memory

T = TypeVar("T")


class State:
    """The memories of one edge.

        self._health = state.keep(Health, route.name, target_label)

    A kind of memory is a class that is made without arguments, holds no settings (they may be others after a reload)
    and can be referred to weakly (`__weakref__` among its slots).
    """

    def __init__(self) -> None:
        self._kept: WeakValueDictionary[tuple[type, tuple[str, ...]], Any] = WeakValueDictionary()

    def keep(self, kind: type[T], *name: str) -> T:
        """The `kind` of that name: the one that is in use, else a new one. Whoever asks must hold it."""
        found = self._kept.get((kind, name))
        if found is None:
            found = self._kept[kind, name] = kind()
        return cast("T", found)


class Service(Protocol):
    """Something of a table that acts by itself as long as the table is in use: health checks, a pool that ages."""

    def begin(self, engine: Engine) -> None:
        """The table is in use from now on; that before it still is, for a moment."""

    def end(self) -> None:
        """It is not any more: let go of everything at once."""


CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""Of HTTP's status codes, by their first digit."""


class RouteCounters:
    """Of one route since the edge began: all that events tell of it. `ends`: termination code -> sessions that did so.

    `requests`: of HTTP; `responses`: class of the status (`2xx`, `none`) -> requests that were answered so; `broken`:
    termination code -> requests that did not end well.
    """

    __slots__ = ("__weakref__", "broken", "bytes_in", "bytes_out", "connections", "ends", "requests", "responses")

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.ends: dict[str, int] = {}
        self.responses: dict[str, int] = {}
        self.broken: dict[str, int] = {}

    def request(self, status: int, termination: str) -> None:
        """One more. `status` 0: it had no answer; `termination`: `done`, or how it was broken off."""
        self.requests += 1
        word = CLASSES[status // 100] if status < 600 else "none"
        self.responses[word] = self.responses.get(word, 0) + 1
        if termination != "done":
            self.broken[termination] = self.broken.get(termination, 0) + 1


class Recent:
    """Who has connected lately, where somebody limits how often."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self) -> None:
        self.memory: Memory = OrderedDict()


class Present:
    """Who is connected now: how many, and from which address, where somebody limits that."""

    __slots__ = ("__weakref__", "connections", "per_ip")

    def __init__(self) -> None:
        self.connections = 0
        self.per_ip: dict[str, int] = {}
