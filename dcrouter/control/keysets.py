"""Key sets of the issuers of tokens (`jwks_url`): fetched by the parent, kept fresh, told to edge and mail.

1. Each is fetched at the start, and again every REFRESH seconds. Who misses a key in one may ask for it earlier.
2. The last good answer stays while there is no other; a failure is logged once, and so is the recovery.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.config.admin import Config
from dcrouter.config.urls import told_url
from dcrouter.errors import Unreachable
from dcrouter.net.fetch import Fetcher
from dcrouter.tls.keysets import keys_of

REFRESH = 600.0
AGAIN = 2.0
AGAIN_AT_MOST = 60.0
"""Seconds until the next try after a failure: twice as long each time, up to so much."""
WITHIN = 10.0
"""Seconds for one answer."""
SOONEST = 10.0
"""Seconds between two fetches of one set, however often somebody misses a key in it."""
LARGEST = 256 * 1024
"""Octets of a set."""

Fetch = Callable[[str], "Deferred[bytes]"]


def key_set_urls(config: Config) -> tuple[str, ...]:
    """Of all its routes and accounts, each once."""
    found = [route.security.jwt.jwks_url for route in config.routes if route.enabled and route.security.jwt is not None]
    if config.email is not None and config.email.auth.oauth2 is not None:
        found.append(config.email.auth.oauth2.jwks_url)
    return tuple(dict.fromkeys(url for url in found if url is not None))


class KeySetWatch:
    """`known`: URL -> JSON text, those that were fetched. `changed` gets all of them when one is new."""

    log = Logger()

    def __init__(self, reactor: Any, changed: Callable[[dict[str, str]], None], fetch: Fetch | None = None) -> None:
        self.known: dict[str, str] = {}
        self._reactor = reactor
        self._changed = changed
        self._fetch = fetch or fetching(reactor)
        self._wanted: tuple[str, ...] = ()
        self._calls: dict[str, IDelayedCall] = {}
        self._asking: dict[str, Deferred[Any]] = {}
        self._asked: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def use(self, urls: Iterable[str]) -> None:
        """Look after these from now on, and no others. What is known of those before stays with those who have it."""
        self._wanted = tuple(urls)
        for url in {*self._calls, *self._asking} - set(self._wanted):
            self._forget(url)
        for url in self._wanted:
            if url not in self._calls and url not in self._asking:
                self._ask(url)

    def also(self, urls: Iterable[str]) -> None:
        """Look after these too."""
        self.use(dict.fromkeys((*self._wanted, *urls)))

    def missed(self, url: str) -> None:
        """Somebody misses a key in that set."""
        if url in self._calls and self._reactor.seconds() - self._asked[url] >= SOONEST:
            self._calls.pop(url).cancel()
            self._ask(url)

    def stop(self) -> None:
        """Ask no more."""
        self.use(())

    def _forget(self, url: str) -> None:
        call = self._calls.pop(url, None)
        if call is not None:
            call.cancel()
        asking = self._asking.pop(url, None)
        if asking is not None:
            asking.cancel()
        self.known.pop(url, None)
        self._failures.pop(url, None)

    def _ask(self, url: str) -> None:
        self._calls.pop(url, None)
        self._asked[url] = self._reactor.seconds()
        asking = self._asking[url] = maybeDeferred(self._fetch, url)
        asking.addTimeout(WITHIN, self._reactor)
        asking.addCallback(self._answered, url).addErrback(self._failed, url)

    def _answered(self, data: bytes, url: str) -> None:
        text = data.decode("utf-8")
        if not keys_of(text):
            raise Unreachable("it holds no key that could be used")
        if self._asking.pop(url, None) is None:
            return
        if self._failures.pop(url, 0):
            self.log.info("{url}: the keys are there again", url=told_url(url))
        self._later(url, REFRESH)
        if self.known.get(url) != text:
            self.known[url] = text
            self._changed(dict(self.known))

    def _failed(self, failure: Failure, url: str) -> None:
        if self._asking.pop(url, None) is None:
            return
        failures = self._failures.get(url, 0)
        self._failures[url] = failures + 1
        if not failures:
            self.log.warn(
                "{url}: no keys ({cause}): {effect}",
                url=told_url(url),
                cause="no answer in time" if failure.check(CancelledError) else failure.getErrorMessage(),
                effect="those from before stay" if url in self.known else "no token of that issuer is taken until then",
            )
        self._later(url, min(AGAIN * 2 ** min(failures, 10), AGAIN_AT_MOST))

    def _later(self, url: str, seconds: float) -> None:
        self._calls[url] = self._reactor.callLater(seconds * random.uniform(1, 1.1), self._ask, url)


def fetching(reactor: Any) -> Fetch:
    """The body of a 200; Unreachable where there is none."""
    fetcher = Fetcher(reactor, WITHIN)

    def body(found: tuple[int, bytes]) -> bytes:
        if found[0] != 200:
            raise Unreachable(f"it was answered with {found[0]}")
        return found[1]

    return lambda url: fetcher.get(url, "application/json", LARGEST).addCallback(body)
