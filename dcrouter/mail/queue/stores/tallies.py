"""Counts of a queue, made by going through it: for a store that has no better way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from dcrouter.mail.queue.store import AGES, FIRST, Ages, Entry, Key, Selection, Store, between, tally
from dcrouter.mail.queue.stores.patterns import domain_of

AT_ONCE = 5000
"""Recipients that are looked at before others may have a turn."""


async def stats(store: Store, now: float, top: int) -> dict[str, Any]:
    """As `Store.stats`."""
    octets = largest = messages = 0
    rules: dict[str, Counter[tuple[int, bool]]] = {}
    domains: Counter[str] = Counter()
    last = 0
    async for entry in _all(store, now):
        if entry.message != last:
            last = entry.message
            messages += 1
            octets += entry.size
            largest = max(largest, entry.size)
        rules.setdefault(entry.rule, Counter())[entry.state, entry.due > now] += 1
        domains[domain_of(entry.address)] += 1
    ranked = sorted(domains.items(), key=lambda one: (-one[1], one[0]))
    return {
        **await store.counts(now),
        "messages": messages,
        "octets": octets,
        "largest": largest,
        "rules": {
            rule: tally((state, later, count) for (state, later), count in counts.items())
            for rule, counts in sorted(rules.items())
        },
        "domains": dict(ranked[:top]),
    }


async def ages(store: Store, now: float, top: int) -> Ages:
    """As `Store.ages`."""
    younger: dict[str, list[int]] = {}
    async for entry in _all(store, now):
        counts = younger.setdefault(domain_of(entry.address), [0] * (len(AGES) + 1))
        for at, minutes in enumerate((*AGES, float("inf"))):
            counts[at] += now - entry.received <= 60 * minutes
    ranked = sorted(younger.items(), key=lambda one: (-one[1][-1], one[0]))
    total = [sum(counts) for counts in zip(*younger.values(), strict=True)] or [0] * (len(AGES) + 1)
    return Ages([(domain, between(counts)) for domain, counts in ranked[:top]], between(total))


async def _all(store: Store, now: float) -> AsyncIterator[Entry]:
    following: Key | None = FIRST
    while following is not None:
        page = await store.pick(Selection(), following, AT_ONCE, now)
        following = page.next
        for entry in page.entries:
            yield entry
