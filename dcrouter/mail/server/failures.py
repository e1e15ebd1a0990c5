"""What wrong passwords lead to: client addresses are banned, accounts are slowed and never locked.

- `max` failures of one address (of one /64 with IPv6) within `within` seconds ban it for `ban` seconds.
- Bans outlive the process, in a ledger; what led to them does not.
- Failures on one account delay each further answer about it, longer and longer up to LONGEST_DELAY, but only towards
  addresses from which nobody has logged in to it lately: so nobody can lock another one out.

All tables are bounded; what is forgotten for want of room is what was touched the longest ago.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TypeVar

from dcrouter.config.accounts import AuthFailures
from dcrouter.mail.ledger import Ledger, Row
from dcrouter.match.addresses import count_key
from dcrouter.wire.sasl import prepare_account

MAX_ADDRESSES = 10_000
MAX_STAMPS = 200_000
"""Of failures, those of all addresses together; more of them than `max` are never kept of one."""
MAX_BANS = 100_000
BANS = "bans"
"""The ledger's table: key of the address -> since when, until when."""
MAX_ACCOUNTS = 10_000
MAX_ACQUAINTANCES = 100_000

UNDELAYED = 3
"""Failures on one account that have no consequences: typing errors."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 4.0
"""Seconds; a client gives up after some more."""
ACQUAINTED = 7 * 86400.0
"""Seconds for which an address from which somebody has logged in to an account is not slowed there."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Failures:
    """`clock`: seconds that only grow; `now`: UTC epoch seconds. Without a `ledger` bans end with the process."""

    def __init__(
        self,
        config: AuthFailures,
        clock: Callable[[], float],
        ledger: Ledger | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._clock = clock
        self._ledger = ledger
        self._now = now
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()
        self._stamps = 0
        self._bans: OrderedDict[str, float] = OrderedDict()  # until when, about in this order
        self._by_account: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._acquaintances: OrderedDict[tuple[bytes, str], float] = OrderedDict()

    def open(self) -> None:
        """Takes up the bans that an earlier process left; blocks."""
        if self._ledger is not None and self._ledger.exists:
            now, wall = self._clock(), self._now()
            for key, row in self._ledger.table(BANS).rows.items():  # whose ban ends first comes first
                # The clock may have been set back meanwhile: nobody is banned for longer than at first.
                left = min(row.expires - wall, row.expires - row.value)
                self._bans[key.decode("ascii")] = now + left
            while len(self._bans) > MAX_BANS:
                self._bans.popitem(last=False)

    def reload(self, config: AuthFailures) -> None:
        """Other numbers, from now on: who is banned stays so until then."""
        self._config = config

    @property
    def bans(self) -> int:
        """How many addresses are banned now."""
        return len(self.listed())

    def banned(self, address: str) -> bool:
        if not self._bans:
            return False
        self._end_bans()
        return self._bans.get(count_key(address), 0.0) > self._clock()

    def listed(self) -> list[tuple[str, float]]:
        """Who is banned, and for how many more seconds; who was banned first comes first."""
        self._end_bans()
        now = self._clock()
        # A reload may have made bans shorter: then some that have ended stand behind one that has not.
        return [(key, until - now) for key, until in self._bans.items() if until > now]

    def lift(self, address: str | None) -> int:
        """Ends the ban of an address (of its /64, as `listed` shows it, with IPv6), or of all where it is None, and
        forgets what led to it; gives how many bans there were. ValueError where it is no address.
        """
        keys = [key for key, _ in self.listed()]
        if address is not None:
            wanted = count_key(address.removesuffix("/64") if ":" in address else address)
            keys = [wanted] if wanted in keys else []
        for key in keys:
            del self._bans[key]
            if self._ledger is not None:
                self._ledger.table(BANS).forget(key.encode("ascii"))
        return len(keys)

    def failed(self, address: str, account: str, *, bannable: bool = True) -> bool:
        """Notes one; gives whether it is the one that bans the address. `account` "": of nobody who is named."""
        now = self._clock()
        if account:
            name = _name(account)
            count, last = self._by_account.get(name, (0, now))
            _put(self._by_account, name, (count + 1 if now - last < self._config.within else 1, now), MAX_ACCOUNTS)
        if not bannable:
            return False
        key = count_key(address)
        stamps = self._by_address.setdefault(key, deque())
        self._by_address.move_to_end(key)
        while stamps and now - stamps[0] >= self._config.within:
            stamps.popleft()
            self._stamps -= 1
        stamps.append(now)
        self._stamps += 1
        if len(stamps) >= self._config.max:
            self._forget(key)
            self._bans.pop(key, None)
            _put(self._bans, key, now + self._config.ban, MAX_BANS)
            if self._ledger is not None:
                wall = self._now()
                self._ledger.table(BANS).put(key.encode("ascii"), Row(wall, wall + self._config.ban))
            return True
        while len(self._by_address) > MAX_ADDRESSES or self._stamps > MAX_STAMPS:
            self._forget(next(iter(self._by_address)))
        return False

    def succeeded(self, address: str, account: str) -> None:
        _put(self._acquaintances, (_name(account), count_key(address)), self._clock(), MAX_ACQUAINTANCES)

    def acquainted(self, address: str, account: str) -> bool:
        """Whether somebody has logged in to `account` from there lately."""
        when = self._acquaintances.get((_name(account), count_key(address)))
        return when is not None and self._clock() - when < ACQUAINTED

    def delay(self, address: str, account: str) -> float:
        """Seconds that the answer to this login has to wait, whatever it is."""
        count, last = self._by_account.get(_name(account), (0, 0.0))
        if count < UNDELAYED or self._clock() - last >= self._config.within or self.acquainted(address, account):
            return 0.0
        return min(FIRST_DELAY * 2.0 ** min(count - UNDELAYED, 10), LONGEST_DELAY)

    def _end_bans(self) -> None:
        now = self._clock()
        while self._bans and next(iter(self._bans.values())) <= now:
            self._bans.popitem(last=False)

    def _forget(self, key: str) -> None:
        self._stamps -= len(self._by_address.pop(key))


def _name(account: str) -> bytes:
    """Names are what a client sent: of any length, so their digests are kept."""
    return hashlib.blake2b(prepare_account(account).encode("utf-8", "replace"), digest_size=16).digest()


def _put(table: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
