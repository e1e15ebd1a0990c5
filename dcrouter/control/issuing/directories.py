"""The authorities that are asked, in their order, and how much each is asked.

1. One that cannot be had, or has had enough of us, rests: as long as it says, else longer each time. The next in the
   order is asked meanwhile, and nobody where all rest.
2. Orders to one begin at most ORDERS in PERIOD, whatever happens to this process: when they began is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from dcrouter.config.acme import KNOWN, Acme, hmac_key
from dcrouter.control.issuing.kept import Found, Kept
from dcrouter.errors import AcmeError, AcmeUnreachable, TlsError
from dcrouter.tls.acme.external import ExternalAccount

if TYPE_CHECKING:
    from dcrouter.tls.acme.authority import Authority
    from dcrouter.tls.acme.jws import AccountKey

ORDERS, PERIOD = 20, 10.0
"""Orders in so many seconds. Let's Encrypt takes 300 in three hours and tells when it is enough."""
FIRST_REST, LAST_REST = 30.0, 3600.0
"""Seconds for which a directory rests that does not say how long: twice as long each time."""

CHANGING = 1.0
"""Seconds until another look, while keys of accounts are changed."""

_OF_ACCOUNT = frozenset(
    ("accountDoesNotExist", "externalAccountRequired", "invalidProfile", "unauthorized", "userActionRequired")
)
"""Types of problems that every name would have (RFC 8555 section 6.7), where the authority names none."""
_NOT_PROVED = frozenset((None, "connection", "dns", "incorrectResponse", "tls", "unauthorized"))
"""Types of problems with a name that is not proved: with another authority it would not be either."""


@frozen
class _Way:
    """How a directory is asked; another one, and the authority is made anew."""

    url: str
    email: str | None
    trust: bytes | None
    external: ExternalAccount | None
    profile: str | None


class _KeyChange:
    """Of our account at one directory."""

    def __init__(self, kept: Kept, url: str) -> None:
        self._kept = kept
        self._url = url

    def next(self) -> AccountKey | None:
        try:
            return self._kept.next_account_key(self._url)
        except TlsError as error:
            raise AcmeError(str(error)) from error

    def done(self) -> None:
        try:
            self._kept.account_key_changed(self._url)
        except OSError as error:
            raise AcmeError(f"{error.filename}: {error.strerror}") from error


def word_of(url: str) -> str:
    """What people call a directory."""
    return next((word for word, known in KNOWN.items() if known == url), urlsplit(url).netloc)


def not_proved(error: AcmeError) -> bool:
    """Whether the authority has looked at the name, and not found what it should."""
    return bool(error.names) and error.type in _NOT_PROVED and not isinstance(error, AcmeUnreachable)


class Directories:
    """Of one configuration after the other. `urls`: in their order. `clock`: UTC epoch seconds."""

    def __init__(self, reactor: Any, kept: Kept, clock: Callable[[], float]) -> None:
        self._reactor = reactor
        self._kept = kept
        self._clock = clock
        self._acme: Acme | None = None
        self.urls: tuple[str, ...] = ()
        self._authorities: dict[_Way, Authority] = {}
        self._changing = False

    def use(self, acme: Acme | None) -> None:
        """Ask these from now on; orders that run go on with what they have."""
        self._acme = acme
        self.urls = acme.directories if acme is not None else ()

    def close(self) -> None:
        """Let go of all connections."""
        authorities, self._authorities = self._authorities, {}
        for one in authorities.values():
            one.close()

    def ready(self) -> list[str]:
        """Those that may be asked now, in their order."""
        now = self._clock()
        return [url for url in self.urls if self._found(url).until <= now]

    def rest_until(self) -> float:
        """When the first of them may be asked; 0.0: now."""
        if self._changing:
            return self._clock() + CHANGING
        until = min((self._found(url).until for url in self.urls), default=0.0)
        return until if until > self._clock() else 0.0

    def rests_because(self) -> str:
        """What is wrong with those that rest."""
        now = self._clock()
        found = ((url, self._found(url)) for url in self.urls)
        return "; ".join(f"{word_of(url)}: {one.error}" for url, one in found if one.until > now)

    def authority(self, url: str) -> Authority:
        """AcmeError where what it needs cannot be read."""
        from dcrouter.tls.acme.authority import Authority  # see tap.py

        acme = self._acme
        assert acme is not None
        try:
            trust = acme.ca_file.read_bytes() if acme.ca_file is not None else None
        except OSError as error:
            raise AcmeError(f"{acme.ca_file} cannot be read: {error.strerror}") from error
        account = acme.external_account
        external = None
        if account is not None:
            external = ExternalAccount(key_id=account.key_id, hmac_key=hmac_key(account.hmac_key))
        way = _Way(url, acme.email, trust, external, acme.profile)
        if way not in self._authorities:
            for other in [one for one in self._authorities if one.url == url]:
                self._authorities.pop(other).close()
            self._authorities[way] = Authority(
                self._reactor,
                url,
                self._kept.account_key(url),
                email=way.email,
                trust=trust,
                external_account=external,
                profile=way.profile,
                change=_KeyChange(self._kept, url),
            )
        return self._authorities[way]

    async def change_keys(self) -> tuple[list[str], dict[str, str]]:
        """Give our account at each directory another key: (where that is done, where not -> why). No order begins
        meanwhile.
        """
        done, problems = [], {}
        self._changing = True
        try:
            for url in self.urls:
                if not self._kept.has_account(url):
                    continue
                try:
                    self._kept.next_account_key(url, make=True)
                    await self.authority(url).change_key()
                    done.append(word_of(url))
                except (AcmeError, TlsError, OSError) as error:
                    problems[word_of(url)] = str(error)
        finally:
            self._changing = False
        return done, problems

    async def turn(self, url: str) -> None:
        """When it returns, an order may begin there, and is written down."""
        found = self._found(url)
        while (seconds := self._wait(found.orders)) > 0:
            await _later(self._reactor, seconds)
        found.orders = [*found.orders[1 - ORDERS :], self._clock()]
        self._kept.save_directories()

    def answered(self, url: str) -> None:
        """It has done what it was asked for."""
        found = self._found(url)
        if found.failures or found.until:
            found.until, found.failures, found.error = 0.0, 0, ""
            self._kept.save_directories()

    def failed(self, url: str, error: AcmeError, name: str) -> bool:
        """Whether it is the directory that has failed, and not this name: then it rests."""
        if not_proved(error) or not _is_of_directory(error, name):
            return False
        found = self._found(url)
        found.failures += 1
        rest = min(FIRST_REST * 2 ** min(found.failures - 1, 20), LAST_REST)
        found.until = self._clock() + (rest if error.retry_after is None else max(error.retry_after, 1.0))
        found.error = str(error)
        self._kept.save_directories()
        return True

    def _found(self, url: str) -> Found:
        return self._kept.directory(url)

    def _wait(self, orders: Iterable[float]) -> float:
        """Seconds; a clock that was set back makes nobody wait for longer than PERIOD."""
        lately = [began for began in orders if abs(self._clock() - began) < PERIOD]
        return min(lately) + PERIOD - self._clock() if len(lately) >= ORDERS else 0.0


def _is_of_directory(error: AcmeError, name: str) -> bool:
    if isinstance(error, AcmeUnreachable):
        return True
    if error.rate_limited:
        return not (error.names or _mentions(error, name))
    return error.temporary or (error.type in _OF_ACCOUNT and not error.names)


def _mentions(error: AcmeError, name: str) -> bool:
    """Whether a limit is one of this name or its domain, in the authority's words: it harms no other then."""
    said = f"{error} {error.detail}".lower()
    labels = name.removeprefix("*.").split(".")
    domains = [".".join(labels[start:]) for start in range(max(len(labels) - 1, 1))]
    return "exact set" in said or any(domain in said for domain in domains)


def _later(reactor: Any, seconds: float) -> Deferred[None]:
    return deferLater(reactor, max(seconds, 0.01), lambda: None)
