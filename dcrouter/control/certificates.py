"""The certificates that the children hold: loaded before they start, looked at every few seconds, pushed when changed.

A file that is replaced by something unusable is an error in the log, and what was loaded before stays in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.config.rules import MailForward
from dcrouter.errors import StartError, TlsError
from dcrouter.tls.store import CertificateStore

INTERVAL = 5.0
"""Seconds between two looks: a stat of each file."""


class CertificateWatch:
    """`plain`: the credentials as they are now, for the children. `changed` is called when they are new."""

    log = Logger()

    def __init__(self, store: CertificateStore, changed: Callable[[], None], clock: IReactorTime) -> None:
        self.store = store
        self.changed = changed
        self.plain: list[dict[str, Any]] = []
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
        try:
            if not self.store.changed():
                return
            plain = [credential.to_plain() for credential in self.store.load()]
        except (TlsError, OSError) as error:
            self.log.error("certificates: {problem}; those in use stay", problem=str(error))
            return
        if [entry["id"] for entry in plain] != [entry["id"] for entry in self.plain]:
            self.plain = plain
            self.log.info("certificates have changed: {count} in use", count=len(plain))
            self.changed()


def read_ca_files(config: Config) -> dict[str, str]:
    """path -> PEM text of every `ca` of an enabled route and of a mail rule; StartError where one is unreadable.

    The children get the text, so that only the parent needs the right to read the files.
    """
    found: dict[str, str] = {}
    for key, path in _ca_files(config):
        if str(path) not in found:
            try:
                found[str(path)] = path.read_text("utf-8", "replace")
            except OSError as error:
                raise StartError(f"{key}: {path} cannot be read: {error.strerror}") from error
    return found


def _ca_files(config: Config) -> Iterator[tuple[str, Path]]:
    """(key, path) of each."""
    for number, route in enumerate(config.routes):
        if route.enabled and route.tls is not None and route.tls.upstream.ca is not None:
            yield f"routes[{number}].tls.upstream.ca", route.tls.upstream.ca
    for number, rule in enumerate(config.email.rules if config.email is not None else ()):
        if isinstance(rule.action, MailForward) and rule.action.ca is not None:
            yield f"email.rules[{number}].action.ca", rule.action.ca
