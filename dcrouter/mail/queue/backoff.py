"""How long a deferred recipient waits: exponential, with jitter, until it is too old."""

from __future__ import annotations

from collections.abc import Callable

from dcrouter.config.queue import Retry


def next_attempt(
    retry: Retry, *, attempts: int, received: float, now: float, random: Callable[[], float]
) -> float | None:
    """When to try again after `attempts` attempts (1 or more), UTC epoch seconds; None: it is given up.

    The wait is min(base * 2**(attempts-1), max), times 1 +- jitter; `random` gives 0 to 1. The last attempt comes when
    the message reaches its maximal age, so that none is given up early.
    """
    if now - received >= retry.max_age:
        return None
    wait = min(retry.base * 2.0 ** min(attempts - 1, 60), retry.max)
    wait *= 1.0 + retry.jitter * (2.0 * random() - 1.0)
    return min(now + wait, max(received + retry.max_age, now + 1.0))
