"""The certificates that the children hold: loaded before they start, looked at every few seconds, pushed when changed.

A file that is replaced by something unusable is an error in the log, and what was loaded before stays in use. Whoever
else is shown something of them (control/outward) hears of each change too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dcrouter.control.credentials import order_of, pieces
from dcrouter.control.outward.chosen import Chosen
from dcrouter.control.outward.dane import Dane, Source
from dcrouter.control.outward.export import Exports
from dcrouter.control.regular import Regularly
from dcrouter.errors import StartError, TlsError
from dcrouter.tls.credential import Credential
from dcrouter.tls.store import CertificateStore

INTERVAL = 5.0
"""Seconds between two looks: a stat of each file."""
SOON = 0.2
"""Seconds until a look that somebody asks for."""


class CertificateWatch:
    """`credentials`: as they are now. `tell_all` tells the children, when they are new. `source`: of TLSA records.
    `loaded` hears of each time that the store has loaded anew.
    """

    log = Logger()

    def __init__(
        self, store: CertificateStore, tell_all: Callable[[str, dict[str, Any]], None], reactor: Any, source: Source
    ) -> None:
        self.store = store
        self.tell_all = tell_all
        self.credentials: tuple[Credential, ...] = ()
        self.dane = Dane(reactor, source)
        self.exports = Exports(reactor)
        self._trouble = ""
        self._look = Regularly("certificates", self._check, reactor)
        self._reactor = reactor
        self._soon: IDelayedCall | None = None
        self.loaded: Callable[[CertificateStore], None] = lambda store: None

    def load(self) -> None:
        """Load all of them for the first time; StartError, a line for each that cannot be used."""
        try:
            self.credentials = self.store.load()
        except (TlsError, OSError) as error:
            raise StartError(f"certificates: {error}") from error
        self._show()

    def use(self, store: CertificateStore, credentials: tuple[Credential, ...]) -> None:
        """Look after what another configuration needs; `credentials`: all of it, as `load` of its store gave it."""
        self.store = store
        self.credentials = credentials
        self._show()

    def start(self) -> None:
        """Begin to look."""
        self._look.start(INTERVAL)
        self.dane.start()

    def stop(self) -> None:
        """Look no more."""
        self._look.stop()
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self.dane.stop()

    def look_soon(self) -> None:
        """There is something new: many at once are pushed together."""
        if self._look.running and (self._soon is None or not self._soon.active()):
            self._soon = self._reactor.callLater(SOON, self._look.act)

    def close(self) -> None:
        """End for good."""
        self.stop()
        self.exports.stop()

    def renew(self, name: str) -> None:
        """Have the internal CA make its certificates for a name anew. TlsError where it cannot."""
        self.store.renew(name)
        self._refresh()

    def _show(self) -> None:
        chosen = Chosen(self.store.config, self.credentials)
        self.dane.use(self.store.config, self.store.keys, chosen)
        self.exports.use(self.store.config, chosen)

    def _check(self) -> None:
        self.store.tell_ends()
        try:
            if self.store.changed():
                self._refresh()
        except (TlsError, OSError) as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                self.log.error("certificates: {problem}; those in use stay", problem=str(error))
        else:
            self._trouble = ""

    def _refresh(self) -> None:
        credentials = self.store.load()
        self.loaded(self.store)
        order = order_of(credentials)
        if order != order_of(self.credentials):
            before, self.credentials = self.credentials, credentials
            self.log.info("certificates have changed: {count} in use", count=len(credentials))
            for fields in pieces(credentials, before):
                self.tell_all("credentials", fields)
            self.tell_all("shelve", {"order": order})
            self._show()
