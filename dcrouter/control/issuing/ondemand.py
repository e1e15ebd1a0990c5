"""Names that no route spells out: ordered when a client has asked for one and `on_demand.ask` agrees.

1. What the edge tells is a name that a client said, so everything here is bounded: questions at once, orders in a time,
   and names for which No is remembered.
2. 2xx means yes, any other answer no, for DENIED seconds. An asker that cannot be asked is told of once, and the name
   may come again after UNREACHED seconds.
3. A name that has a certificate is asked for again before it is renewed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger

from dcrouter.config.acme import OnDemand
from dcrouter.config.urls import told_url
from dcrouter.net.fetch import Fetcher
from dcrouter.net.limits import Bucket

WITHIN = 5.0
"""Seconds for one answer."""
AT_ONCE = 8
WAITING = 100
"""Questions under way, and names that wait for theirs; more are let go of, for they may come again."""
DENIED, UNREACHED = 600.0, 60.0
REMEMBERED = 10_000

Fetch = Callable[[str], "Deferred[int]"]
"""GET: the status."""


class Asker:
    """`use` says whom to ask. `agreed` gets each name that may be ordered. `clock`: seconds that never go back."""

    log = Logger()

    def __init__(
        self, reactor: Any, agreed: Callable[[str], None], clock: Callable[[], float], fetch: Fetch | None = None
    ) -> None:
        self._reactor = reactor
        self._agreed = agreed
        self._clock = clock
        self._fetch = fetch or _fetching(reactor)
        self._on_demand: OnDemand | None = None
        self._bucket: Bucket | None = None
        self._no: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, Deferred[Any]] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._unreached = False

    def use(self, on_demand: OnDemand | None) -> None:
        """Ask there from now on; None: nobody, and nothing is agreed to."""
        if on_demand == self._on_demand:
            return
        self._on_demand = on_demand
        self._bucket = Bucket(on_demand.rate, self._clock) if on_demand is not None else None
        self._no.clear()
        self.stop()

    def stop(self) -> None:
        """Ask no more."""
        self._waiting.clear()
        asking, self._asking = self._asking, {}
        for one in asking.values():
            one.cancel()

    def wish(self, name: str) -> None:
        """A client has asked for `name`, which has no certificate."""
        if self._on_demand is None or name in self._asking or self._no.get(name, 0.0) > self._clock():
            return
        if len(self._asking) < AT_ONCE:
            self._ask(name)
        elif len(self._waiting) < WAITING:
            self._waiting[name] = None

    async def may(self, name: str) -> bool:
        """Whether a name that has a certificate may have another one: not when the asker says no, or is none."""
        if self._on_demand is None:
            return False
        try:
            return await self._answer(name)
        except Exception:
            return True  # it was said once, and nobody has taken it back

    def _ask(self, name: str) -> None:
        asking = self._asking[name] = Deferred.fromCoroutine(self._decide(name))
        asking.addErrback(self._broken).addBoth(lambda _: self._next(name))

    def _broken(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("a question for a certificate broke", failure)

    def _next(self, name: str) -> None:
        self._asking.pop(name, None)
        if self._waiting and len(self._asking) < AT_ONCE:
            self._ask(self._waiting.popitem(last=False)[0])

    async def _decide(self, name: str) -> None:
        assert self._on_demand is not None and self._bucket is not None
        try:
            agreed = await self._answer(name)
        except CancelledError:
            raise
        except Exception as error:
            self._remember(name, UNREACHED)
            if not self._unreached:
                self._unreached = True
                cause = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                self.log.error(
                    "{url} cannot be asked ({cause}): no certificates on demand until it can",
                    url=told_url(self._on_demand.ask),
                    cause=cause,
                )
            return
        if self._unreached:
            self._unreached = False
            self.log.info("{url} can be asked again", url=told_url(self._on_demand.ask))
        if not agreed:
            url = told_url(self._on_demand.ask)
            self.log.info("{name}: {url} wants no certificate for it", name=name, url=url)
            self._remember(name, DENIED)
        elif self._bucket.take():
            self._agreed(name)
        else:
            self.log.warn("{name}: no certificate now, on_demand.rate is used up", name=name)

    async def _answer(self, name: str) -> bool:
        assert self._on_demand is not None
        ask = self._on_demand.ask
        url = f"{ask}{'&' if '?' in ask else '?'}domain={quote(name)}"
        status = await self._fetch(url).addTimeout(WITHIN, self._reactor)
        return 200 <= status < 300

    def _remember(self, name: str, seconds: float) -> None:
        self._no[name] = self._clock() + seconds
        self._no.move_to_end(name)
        if len(self._no) > REMEMBERED:
            self._no.popitem(last=False)


def _fetching(reactor: Any) -> Fetch:
    fetcher = Fetcher(reactor, WITHIN)
    return lambda url: fetcher.get(url).addCallback(lambda found: found[0])
