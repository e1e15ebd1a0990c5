"""Spool files of an earlier run that no message names are removed, in the background."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.mail.queue.store import Store

_log = Logger()


def sweep(store: Store, stopped: Callable[[], bool]) -> None:
    """Begins. `stopped`: whether nobody cares any more."""

    def swept(count: int) -> None:
        if count:
            _log.info("{count} spool files were removed that no message names", count=count)

    def unswept(failure: Failure) -> None:
        if not stopped():
            reason = failure.getErrorMessage()
            _log.warn("spool files of an earlier run stay until the next start: {reason}", reason=reason)

    store.sweep().addCallbacks(swept, unswept)
