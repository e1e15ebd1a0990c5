"""email.rate_limits: how much mail may come, by who it is from or for; all limits that apply must have room.

1. MAIL asks the limits that it can tell of already, and takes nothing.
2. RCPT asks all, once everything else is in favour, and takes: a message with its first recipient (by recipient_domain
   with the first of each domain), a recipient with each. What is refused uses nothing up.
3. Octets are counted when the message has come, and may then go beyond a rate: the next one waits the longer.

Rates are token buckets in memory (net/limits), quotas are counts of the current period in a ledger. Both are bounded,
and go on over a reload where a limit still counts the same. Enhanced status codes: RFC 3463 3.8.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import NamedTuple

from twisted.logger import Logger

from dcrouter.config.guards import MailLimit
from dcrouter.config.patterns import split
from dcrouter.config.units import written_frequency
from dcrouter.events import LimitReached
from dcrouter.mail.envelope import Client
from dcrouter.mail.ledger import Ledger, Row, Table
from dcrouter.match.addresses import count_key, network_key
from dcrouter.net.limits import Buckets, Memory
from dcrouter.wire.smtp.said import TOO_MUCH_MAIL

MAX_ALERTS = 10_000
"""Remembered, so that each comes once in its time."""

_NEVER = b"550 5.7.1 Too much mail\r\n"

Told = Callable[[LimitReached], None]


class Refusal(NamedTuple):
    """`why` is for the log."""

    reply: bytes
    why: str


class Tally:
    """What has been counted of one message. `size`: octets that the client has announced, 0: none."""

    __slots__ = ("charged", "counted", "session", "size")

    def __init__(self, session: str, size: int) -> None:
        self.session = session
        self.size = size
        self.counted: set[tuple[str, str]] = set()
        self.charged: list[tuple[_Limit, str]] = []


class RateLimits:
    """Those of one process. `clock`: seconds that never go back; `now`: UTC epoch seconds; `told` hears of alerts."""

    _log = Logger()

    def __init__(self, ledger: Ledger, clock: Callable[[], float], now: Callable[[], float], told: Told | None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._now = now
        self._told = told
        self._limits: list[_Limit] = []
        self._alerted: OrderedDict[tuple[str, str], float] = OrderedDict()

    def reload(self, limits: Iterable[MailLimit]) -> None:
        """Others from now on."""
        memories = {limit.name: limit.memory for limit in self._limits}
        seen: Counter[str] = Counter()
        self._limits = []
        for config in limits:
            name = f"{config.key} {config.count}"
            seen[name] += 1
            name = f"{name} {seen[name]}"
            self._limits.append(_Limit(config, name, memories.get(name, OrderedDict()), self._ledger, self._clock))

    def __bool__(self) -> bool:
        return bool(self._limits)

    def sender(self, client: Client, sender: str, tally: Tally) -> Refusal | None:
        """Why MAIL is refused, if it is."""
        for limit in self._limits:
            if limit.config.key != "recipient_domain":
                who = _who(limit.config, client, sender, "")
                if who is not None and limit.is_over(who, tally.size):
                    return self._refuse(limit, who, client, tally)
        return None

    def recipient(self, client: Client, sender: str, address: str, tally: Tally) -> Refusal | None:
        """Why RCPT is refused, if it is; else it is counted."""
        now = self._now()
        found: list[tuple[_Limit, str]] = []
        for limit in self._limits:
            who = _who(limit.config, client, sender, address)
            if who is None or (limit.config.count != "recipients" and (limit.name, who) in tally.counted):
                continue
            if limit.is_over(who, tally.size):
                return self._refuse(limit, who, client, tally)
            found.append((limit, who))
        for limit, who in found:
            if limit.config.count == "bytes":
                tally.charged.append((limit, who))
            else:
                limit.count(who, 1, now)
            tally.counted.add((limit.name, who))
        return None

    def received(self, tally: Tally, size: int) -> None:
        """A message of `size` octets was taken."""
        for limit, who in tally.charged:
            limit.count(who, size, self._now())

    def _refuse(self, limit: _Limit, who: str, client: Client, tally: Tally) -> Refusal:
        if limit.config.alert:
            self._alert(limit, who, client, tally)
        return Refusal(TOO_MUCH_MAIL if limit.config.then is None else _NEVER, f"rate_limits, {limit.words}: {who}")

    def _alert(self, limit: _Limit, who: str, client: Client, tally: Tally) -> None:
        at, now = (limit.name, who), self._clock()
        if self._alerted.get(at, 0.0) > now:
            return
        self._alerted[at] = now + limit.period
        self._alerted.move_to_end(at)
        if len(self._alerted) > MAX_ALERTS:
            self._alerted.popitem(last=False)
        self._log.warn(
            "{session}: {who} has reached a limit: {limit}",
            session=tally.session,
            who=who,
            limit=limit.words,
            peer=client.address,
        )
        if self._told is not None:
            self._told(
                LimitReached(
                    session=tally.session,
                    at=round(time.time(), 3),
                    limit=limit.words,
                    key=limit.config.key,
                    who=who,
                    client=client.address,
                    account=client.account,
                )
            )


class _Limit:
    """One of them, ready. `name`: what it counts, and the how manieth that does; `words`: for people."""

    def __init__(
        self, config: MailLimit, name: str, memory: Memory, ledger: Ledger, clock: Callable[[], float]
    ) -> None:
        self.config = config
        self.name = name
        self.memory = memory
        self._buckets = Buckets(config.rate, clock, memory=memory) if config.rate is not None else None
        self._most = (config.rate.burst or config.rate.rate[0]) if config.rate is not None else 0
        self._quota: Table | None = None
        parts = []
        if config.rate is not None:
            parts.append(written_frequency(config.rate.rate))
        if config.quota is not None:
            self._quota = ledger.table(f"quota {name} {config.quota[1]:g}")
            parts.append(f"quota {written_frequency(config.quota)}")
        self.period = max(one[1] for one in (config.quota, config.rate and config.rate.rate) if one)
        self.words = f"{config.count} by {config.key}, {', '.join(parts)}"

    def is_over(self, who: str, size: int) -> bool:
        """Whether one more is too many; `size`: octets that are coming, as far as they were announced."""
        tokens = max(size, 1) if self.config.count == "bytes" else 1
        if self._buckets is not None and self._buckets.wait(_digest(who), min(tokens, self._most)):
            return True
        if self._quota is None:
            return False
        assert self.config.quota is not None
        row = self._quota.get(_digest(who), self.config.quota[1])
        used = row.value if row is not None else 0.0
        return used + tokens > self.config.quota[0]

    def count(self, who: str, tokens: int, now: float) -> None:
        """What has been taken."""
        key = _digest(who)
        if self._buckets is not None:
            self._buckets.charge(key, tokens)
        if self._quota is not None:
            assert self.config.quota is not None
            period = self.config.quota[1]
            row = self._quota.get(key, period)
            ends = row.expires if row is not None else (now // period + 1) * period
            self._quota.put(key, Row((row.value if row is not None else 0.0) + tokens, ends))


def _digest(who: str) -> bytes:
    """What a client wrote may be of any length: its digest is kept."""
    return blake2b(who.encode("utf-8", "replace"), digest_size=16).digest()


def _who(config: MailLimit, client: Client, sender: str, address: str) -> str | None:
    """Whose mail it is for this limit; None where it does not apply."""
    key = config.key
    if key == "client_ip":
        return count_key(client.address)
    if key == "client_network":
        return network_key(client.address)
    if key == "account":
        return client.account.lower() if client.account is not None else None
    local, domain = split(address if key == "recipient_domain" else sender)
    if key == "sender":
        return f"{local}@{domain}" if sender else None
    return domain or None
