"""The certificates that the children hold: loaded before they start, looked at every few seconds, pushed when changed.

A file that is replaced by something unusable is an error in the log, and what was loaded before stays in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dcrouter.control.credentials import order_of, pieces
from dcrouter.errors import StartError, TlsError
from dcrouter.tls.store import CertificateStore

INTERVAL = 5.0
"""Seconds between two looks: a stat of each file."""


class CertificateWatch:
    """`plain`: the credentials as they are now, for the children. `tell_all` tells the children, when they are new."""

    log = Logger()

    def __init__(
        self, store: CertificateStore, tell_all: Callable[[str, dict[str, Any]], None], clock: IReactorTime
    ) -> None:
        self.store = store
        self.tell_all = tell_all
        self.plain: list[dict[str, Any]] = []
        self._trouble = ""
        self._look = LoopingCall(self._check)
        self._look.clock = clock

    def load(self) -> None:
        """Load all of them for the first time; StartError, a line for each that cannot be used."""
        try:
            self.plain = [credential.to_plain() for credential in self.store.load()]
        except (TlsError, OSError) as error:
            raise StartError(f"certificates: {error}") from error

    def use(self, store: CertificateStore, plain: list[dict[str, Any]]) -> None:
        """Look after what another configuration needs; `plain`: all of it, as `load` of its store gave it."""
        self.store = store
        self.plain = plain

    def start(self) -> None:
        """Begin to look."""
        self._look.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._look.running:
            self._look.stop()

    def _check(self) -> None:
        self.store.tell_ends()
        try:
            if not self.store.changed():
                return
            plain = [credential.to_plain() for credential in self.store.load()]
        except (TlsError, OSError) as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                self.log.error("certificates: {problem}; those in use stay", problem=str(error))
            return
        self._trouble = ""
        order = order_of(plain)
        if order != order_of(self.plain):
            before, self.plain = self.plain, plain
            self.log.info("certificates have changed: {count} in use", count=len(plain))
            for fields in pieces(plain, before):
                self.tell_all("credentials", fields)
            self.tell_all("shelve", {"order": order})
