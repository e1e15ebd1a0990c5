"""Which of several targets comes first, and which next when that one cannot be reached.

Each way of `balance` gives the whole order, the best target first: the caller goes down it as far as `retries` allow.
`live` is never empty and never changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import log
from typing import Protocol, TypeVar

from dcrouter.config.targets import Balance
from dcrouter.match.addresses import count_key
from dcrouter.targets.state import TargetState, Turn


class Live(Protocol):
    """What is chosen among: targets of a route or of a mail rule, proxies. `seed`: of its scores."""

    weight: int
    state: TargetState
    seed: int


T = TypeVar("T", bound=Live)
Order = Callable[[Sequence[T], str], Sequence[T]]
"""(live targets, client's address) -> the same targets in order."""

_MASK = (1 << 64) - 1


def order_of(balance: Balance, weighted: bool, turn: Turn) -> Order[T]:
    """`weighted`: not all weights are equal. `turn`: where the route's balancer stands."""
    match balance:
        case "failover":
            return lambda live, client: live
        case "round-robin":
            return _smooth if weighted else lambda live, client: _turned(live, turn)
        case "least-connections":
            return lambda live, client: sorted(_turned(live, turn), key=_load)
        case "random-two":
            return _random_two
        case "hash-client-ip":
            return _hashed


def _turned(live: Sequence[T], turn: Turn) -> Sequence[T]:
    """Each time one further."""
    start = turn.next % len(live)
    turn.next = start + 1
    return [*live[start:], *live[:start]]


def _smooth(live: Sequence[T], client: str) -> Sequence[T]:
    """Smooth weighted round-robin, as nginx has it: 5, 1, 1 gives a a b a c a a, not a a a a a b c.

    Everybody gains their weight, the richest pays what all have gained.
    """
    best = live[0]
    total = 0
    for target in live:
        total += target.weight
        target.state.current += target.weight
        if target.state.current > best.state.current:
            best = target
    best.state.current -= total
    at = live.index(best)
    return [*live[at:], *live[:at]]


def _load(target: Live) -> float:
    return target.state.active / target.weight


def _random_two(live: Sequence[T], client: str) -> Sequence[T]:
    """Of two at random the one with less to do: close to the best of all, and nobody runs after the same one."""
    if len(live) == 1:
        return live
    first = _drawn(live)
    rest = [target for target in live if target is not first]
    second = _drawn(rest)
    if _load(second) < _load(first):
        first, second = second, first
    return [first, second, *(target for target in rest if target is not first and target is not second)]


def _drawn(live: Sequence[T]) -> T:
    return random.choices(live, [target.weight for target in live])[0]


def _hashed(live: Sequence[T], client: str) -> Sequence[T]:
    """Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights: Schindelhauer and Schomaker 2005): every
    target has a score for the client, and the highest comes first. Where a target leaves, only its own clients move,
    and they come back with it.
    """
    seed = int.from_bytes(blake2b(count_key(client).encode(), digest_size=8).digest(), "big")
    return sorted(live, key=lambda target: log(_mixed(seed ^ target.seed)) / target.weight, reverse=True)


def _mixed(number: int) -> float:
    """64 bits -> evenly between 0 and 1, both excluded (the finaliser of SplitMix64, Steele et al. 2014)."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((number ^ (number >> 31)) + 0.5) / (1 << 64)


def seed_of(label: str) -> int:
    """What a target's score is made of."""
    return int.from_bytes(blake2b(label.encode(), digest_size=8).digest(), "big")
