"""Windows in which authorities want their certificates renewed (ARI, RFC 9773): asked for, and asked for again."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from dcrouter.control.issuing.directories import Directories
from dcrouter.control.issuing.kept import Kept, Record
from dcrouter.errors import AcmeError, TlsError
from dcrouter.tls.credential import Credential
from dcrouter.tls.renewal import soonest, within

AT_ONCE = 5
"""Questions under way."""
UNKNOWN = 86400.0
FAILED = 3600.0
"""Seconds until an authority is asked again that names no windows, or could not be asked for one."""


class Windows:
    """`changed` is called after each answer. `clock`: UTC epoch seconds; `chance`: 0 to 1."""

    log = Logger()

    def __init__(
        self,
        kept: Kept,
        directories: Directories,
        changed: Callable[[], None],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.asking: dict[str, Deferred[None]] = {}
        self._kept = kept
        self._directories = directories
        self._changed = changed
        self._clock = clock
        self._chance = chance

    def see_to(self, names: Iterable[str], busy: Container[str]) -> None:
        """Ask for those of `names` whose time has come, but for those that are ordered just now."""
        now = self._clock()
        for name in names:
            if len(self.asking) >= AT_ONCE:
                return
            record, held = self._kept.records.get(name), self._kept.credentials.get(name)
            if record is None or held is None or name in self.asking or name in busy:
                continue
            if record.ask_again <= now and record.directory in self._directories.urls:
                asking = self.asking[name] = Deferred.fromCoroutine(self._ask(record, held))
                asking.addErrback(self._broken, name).addBoth(self._asked, name)

    def _asked(self, result: object, name: str) -> None:
        self.asking.pop(name, None)
        self._changed()

    def _broken(self, failure: Any, name: str) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("the question when to renew {name} broke", failure, name=name)

    async def _ask(self, record: Record, held: Credential) -> None:
        record.ask_again = self._clock() + FAILED * (1 + self._chance())
        try:
            info = await self._directories.authority(record.directory).renewal_info(held.certificates()[0])
        except (AcmeError, TlsError, OSError) as error:
            self.log.debug("{name}: when to renew is not known: {problem}", name=record.name, problem=str(error))
            return
        if self._kept.credentials.get(record.name) is not held:
            return
        if info is None:
            record.ask_again = self._clock() + UNKNOWN
        else:
            record.ask_again = self._clock() + info.retry_after
            window = (info.start, info.end)
            if record.window != list(window):
                record.window = list(window)
                moment = max(within(*window, self._chance()), soonest(record.issued, held.not_after))
                record.renew = min(moment, held.not_after)
                if info.explanation_url is not None:
                    self.log.info("{name}: why it is renewed: {url}", name=record.name, url=info.explanation_url)
        self._kept.save(record)
