"""Whom the children believe: authorities and revocation lists, read here, watched, and pushed when they have changed.

The children get the text, so that only the parent needs the right to read the files. A file that is replaced by
something unusable is an error in the log, and what was read before stays in use; so is a revocation list that runs out,
because from then on nobody who needs it is let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.config.htpasswd import users_of
from dcrouter.config.publickey import public_key_of
from dcrouter.config.rules import MailForward
from dcrouter.control.certificates import INTERVAL
from dcrouter.control.regular import Regularly
from dcrouter.errors import ConfigError, StartError, TlsError
from dcrouter.tls.clients import revocations_of
from dcrouter.tls.pairs import file_signature
from dcrouter.tls.trust import certificates_of

_Signature = tuple[int, int, int] | None


@frozen
class Named:
    """A file of the configuration: the key that names it, and whether it holds revocation lists, users or a public
    key, or else certificates.
    """

    key: str
    path: Path
    lists: bool = False
    users: bool = False
    public_key: bool = False

    def check(self, text: str) -> None:
        """TlsError or ConfigError where it cannot be used."""
        data = text.encode()
        if self.users:
            users_of(data, str(self.path))
        elif self.public_key:
            public_key_of(data, str(self.path))
        elif self.lists:
            revocations_of(data)
        else:
            certificates_of(data)


def read_ca_files(config: Config) -> dict[str, str]:
    """path -> PEM text of every file of `named`; StartError where one is unreadable."""
    found: dict[str, str] = {}
    for one in named(config):
        if str(one.path) not in found:
            try:
                found[str(one.path)] = one.path.read_text("utf-8", "replace")
            except OSError as error:
                raise StartError(f"{one.key}: {one.path} cannot be read: {error.strerror}") from error
    return found


def named(config: Config) -> Iterator[Named]:
    """Every `ca`, `crl`, `users_file` and `public_key` of an enabled route, and `ca` of a mail rule."""
    for number, route in enumerate(config.routes):
        tls = route.tls if route.enabled else None
        if tls is not None and tls.upstream.ca is not None:
            yield Named(f"routes[{number}].tls.upstream.ca", tls.upstream.ca)
        if tls is not None and tls.client_auth is not None:
            yield Named(f"routes[{number}].tls.client_auth.ca", tls.client_auth.ca)
            if tls.client_auth.crl is not None:
                yield Named(f"routes[{number}].tls.client_auth.crl", tls.client_auth.crl, lists=True)
        basic = route.security.basic_auth if route.enabled else None
        if basic is not None:
            yield Named(f"routes[{number}].security.basic_auth.users_file", basic.users_file, users=True)
        tokens = route.security.jwt if route.enabled else None
        if tokens is not None and tokens.public_key is not None:
            yield Named(f"routes[{number}].security.jwt.public_key", tokens.public_key, public_key=True)
    for number, rule in enumerate(config.email.rules if config.email is not None else ()):
        if isinstance(rule.action, MailForward) and rule.action.ca is not None:
            yield Named(f"email.rules[{number}].action.ca", rule.action.ca)


class TrustWatch:
    """`files`: path -> text, as the children have it. `changed` gets them when one is new."""

    log = Logger()

    def __init__(
        self, changed: Callable[[dict[str, str]], None], clock: IReactorTime, seconds: Callable[[], float] = time.time
    ) -> None:
        """`seconds`: UTC epoch."""
        self.files: dict[str, str] = {}
        self._changed = changed
        self._seconds = seconds
        self._named: list[Named] = []
        self._signatures: dict[Path, _Signature] = {}
        self._expiries: dict[Path, float] = {}
        self._look = Regularly("authorities and revocation lists", self._check, clock)

    def use(self, config: Config, files: Mapping[str, str]) -> None:
        """Look after what this configuration names; `files`: as `read_ca_files` gave it."""
        self.files = dict(files)
        self._named = list({one.path: one for one in named(config)}.values())
        self._signatures = {one.path: file_signature(one.path) for one in self._named}
        self._expiries = {one.path: _expiry(self.files[str(one.path)]) for one in self._named if one.lists}

    def start(self) -> None:
        """Begin to look."""
        self._look.start(INTERVAL)

    def stop(self) -> None:
        """Look no more."""
        self._look.stop()

    def _check(self) -> None:
        new = [one for one in self._named if self._is_new(one)]
        if new:
            for one in new:
                self.log.info("{key}: {file} has changed", key=one.key, file=str(one.path))
            self._changed(self.files)
        for path, until in self._expiries.items():
            if until <= self._seconds():
                self._expiries[path] = float("inf")  # told once
                self.log.error(
                    "{file}: a revocation list has run out: clients that need it are refused", file=str(path)
                )

    def _is_new(self, one: Named) -> bool:
        """Whether it holds something new that can be used; that is in `files` then."""
        signature = file_signature(one.path)
        if signature == self._signatures[one.path]:
            return False
        self._signatures[one.path] = signature
        try:
            text = one.path.read_text("utf-8", "replace")
            one.check(text)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        except (TlsError, ConfigError) as error:
            problem = str(error)
        else:
            if one.lists:
                self._expiries[one.path] = _expiry(text)
            before, self.files[str(one.path)] = self.files[str(one.path)], text
            return text != before
        self.log.error("{file}: {problem}; what was read before stays in use", file=str(one.path), problem=problem)
        return False


def _expiry(text: str) -> float:
    """When the first of its lists runs out, UTC epoch seconds."""
    try:
        ends = [one.next_update_utc for one in revocations_of(text.encode())]
    except TlsError:
        return float("inf")
    return min((end.timestamp() for end in ends if end is not None), default=float("inf"))
