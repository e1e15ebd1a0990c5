"""The proxies that egress rules name: which of them works, and what they did.

1. Failures in a row eject one: it cannot be reached, does not speak its protocol, takes no login. What it says of a
   target is none: that is the target's affair, or its rules. Silence about one target says nothing either; about
   several, with no success between, it does.
2. An ejected one gets no connection, and is asked every PROBE seconds, without any mail, whether it would: when it
   would, it is back, and who waits for it hears so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.config.health import Passive
from dcrouter.config.through import Proxy
from dcrouter.mail.delivery.egress.way import Way
from dcrouter.targets.balance import Order, order_of, seed_of
from dcrouter.targets.state import TargetState, Turn

EJECTED_FOR = Passive(failures=3, within=600.0, eject=30.0)
"""Failures in a row, for a success forgets them; `eject` is for as long as nobody has asked it."""

STALLS = 3
"""Different targets about which it was silent, one after the other."""

PROBE = 5.0
"""Seconds between two probes of an ejected proxy."""

MANY = 1000
"""Proxies that are remembered though no rule names them: code may think of new ones."""


class Counted:
    """What connections of one kind came to. `seconds`: what those took that were made."""

    __slots__ = ("attempts", "connected", "failed", "refused", "seconds")

    def __init__(self) -> None:
        self.attempts = 0
        self.connected = 0
        self.failed = 0
        self.refused = 0
        self.seconds = 0.0

    def made(self, seconds: float) -> None:
        self.connected += 1
        self.seconds += seconds

    def shown(self) -> dict[str, Any]:
        """JSON-ready; `mean`: milliseconds."""
        told: dict[str, Any] = {word: getattr(self, word) for word in ("attempts", "connected", "failed", "refused")}
        told["seconds"] = round(self.seconds, 3)
        if self.connected:
            told["mean_ms"] = round(1000 * self.seconds / self.connected, 1)
        return told


class LiveProxy:
    """One proxy. `label`: its URL without user and password, and a number where there are several of that URL."""

    weight = 1

    def __init__(self, proxy: Proxy, label: str) -> None:
        self.proxy = proxy
        self.label = label
        self.seed = seed_of(label)
        self.state = TargetState()
        self.counted = Counted()
        self.stalled: set[str] = set()
        self.probing: IDelayedCall | Deferred[None] | None = None


class Proxies:
    """Of one mail process. `probe` asks one whether it works; `back` hears of one that is usable again."""

    _log = Logger()

    def __init__(self, clock: Any, probe: Callable[[Proxy], Deferred[None]], back: Callable[[Proxy], None]) -> None:
        self.straight = Counted()
        self.fallbacks = 0
        self._clock = clock
        self._probe = probe
        self._back = back
        self._known: dict[Proxy, LiveProxy] = {}
        self._orders: dict[Way, Order[LiveProxy]] = {}
        self._named: frozenset[Proxy] = frozenset()
        self._closed = False

    def name(self, proxies: Iterable[Proxy]) -> None:
        """Those that the rules name from now on; what is known of others is forgotten."""
        self._named = frozenset(proxies)
        for proxy in self._named:
            self._of(proxy)
        self._forget([proxy for proxy in self._known if proxy not in self._named])

    def order(self, way: Way) -> Sequence[LiveProxy]:
        """Those of a way that may work, best first; empty where all are ejected."""
        usable = self._usable(way)
        if len(usable) < 2:
            return usable
        order = self._orders.get(way)
        if order is None:
            if len(self._orders) >= MANY:
                self._orders.clear()
            order = self._orders[way] = order_of(way.balance, False, Turn())
        return order(usable, "")

    def why_none(self, way: Way) -> str:
        """Of a way whose proxies are all ejected."""
        return ", ".join(f"through {live.label}: {live.state.reason}" for live in map(self._of, way.proxies))

    def down(self, way: Way) -> bool:
        """Whether there is nobody to go through."""
        return bool(way.proxies) and not self._usable(way)

    # What connections tell.

    def made(self, live: LiveProxy, seconds: float) -> None:
        live.counted.made(seconds)
        live.stalled.clear()
        live.state.well()
        live.state.enter()

    def refused(self, live: LiveProxy) -> None:
        """It works, and has no connection with the target."""
        live.counted.refused += 1
        live.stalled.clear()
        live.state.well()

    def stalled(self, live: LiveProxy, target: str, reason: str) -> None:
        """It says nothing about a target."""
        live.counted.refused += 1
        live.stalled.add(target)
        if len(live.stalled) >= STALLS:
            live.stalled.clear()
            for _ in range(EJECTED_FOR.failures):
                self._broken(live, f"says nothing about several targets: {reason}")

    def failed(self, live: LiveProxy, reason: str) -> None:
        """It does not work."""
        live.counted.failed += 1
        self._broken(live, reason)

    def _broken(self, live: LiveProxy, reason: str) -> None:
        if live.state.broken(EJECTED_FOR, reason, self._clock.seconds()):
            self._log.warn("proxy {proxy} is left alone until it works: {reason}", proxy=live.label, reason=reason)
            if live.probing is None:
                self._later(live)

    # Probes.

    def _later(self, live: LiveProxy) -> None:
        if self._closed or self._known.get(live.proxy) is not live:
            live.probing = None
        else:
            live.probing = self._clock.callLater(PROBE, self._ask, live)

    def _ask(self, live: LiveProxy) -> None:
        probing = self._probe(live.proxy)
        live.probing = probing

        def works(_: None) -> None:
            live.probing = None
            live.state.well()
            self._log.info("proxy {proxy} works again", proxy=live.label)
            self._back(live.proxy)

        def not_yet(failure: Any) -> None:
            live.state.ejected_until = self._clock.seconds() + EJECTED_FOR.eject
            live.state.reason = str(failure.value)
            self._later(live)

        probing.addCallbacks(works, not_yet)

    def close(self) -> None:
        """Nobody is asked any more."""
        self._closed = True
        for live in self._known.values():
            self._stop(live)

    def status(self) -> dict[str, Any]:
        """Counters since the start, JSON-ready: `direct` of connections that went straight, `fallbacks` how many of
        them did so because no proxy worked, `proxies` each of them by its label.
        """
        now = self._clock.seconds()
        proxies = {}
        for live in self._known.values():
            health = live.state.status(now, checked=False)
            told: dict[str, Any] = {"health": "ejected" if health["health"] == "ejected" else "up"}
            told |= live.counted.shown()
            proxies[live.label] = told | {word: health[word] for word in ("reason", "ejections") if word in health}
        return {"direct": self.straight.shown(), "fallbacks": self.fallbacks, "proxies": proxies}

    # Inside.

    def _usable(self, way: Way) -> list[LiveProxy]:
        now = self._clock.seconds()
        return [live for live in map(self._of, way.proxies) if live.state.ejected_until <= now]

    def _of(self, proxy: Proxy) -> LiveProxy:
        live = self._known.get(proxy)
        if live is None:
            if len(self._known) >= len(self._named) + MANY:
                self._forget([one for one in self._known if one not in self._named][: MANY // 2])
            live = self._known[proxy] = LiveProxy(proxy, self._label(proxy))
        return live

    def _label(self, proxy: Proxy) -> str:
        taken = {live.label for live in self._known.values()}
        label, number = str(proxy), 1
        while label in taken:
            number += 1
            label = f"{proxy} #{number}"
        return label

    def _forget(self, proxies: Iterable[Proxy]) -> None:
        for proxy in proxies:
            live = self._known.pop(proxy)
            self._stop(live)
            for way in [way for way in self._orders if proxy in way.proxies]:
                del self._orders[way]

    def _stop(self, live: LiveProxy) -> None:
        if isinstance(live.probing, Deferred) or (live.probing is not None and live.probing.active()):
            live.probing.cancel()
        live.probing = None
