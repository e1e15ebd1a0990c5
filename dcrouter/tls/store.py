"""The certificates that routes and mail need: read, issued and kept fresh (parent only).

`auto` is the operator's certificate (certificates.files) for every name that one covers, else the one that ACME has
brought (control/issuing), and the internal CA's until then and for the rest; `internal` is the internal CA's; a pair of
files is exactly that pair. Each set of names has one internal leaf, or a few where it is large.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from threading import Thread

from twisted.logger import Logger

from dcrouter.config.actions import MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.names import REGEX
from dcrouter.config.routes import Route
from dcrouter.config.tls import CertificateChoice, CertificateFiles
from dcrouter.errors import TlsError
from dcrouter.tls.chooser import DEFAULT_NAME
from dcrouter.tls.credential import Credential
from dcrouter.tls.internal import InternalCa
from dcrouter.tls.keys import KeyRing
from dcrouter.tls.listed import Listed, listed
from dcrouter.tls.names import as_certified, covers
from dcrouter.tls.pairs import Pair
from dcrouter.tls.renewal import late
from dcrouter.tls.wanted import wanted_names
from dcrouter.wire.hostname import host_name

LARGEST_LEAF = 100
"""Names in a leaf of the internal CA: a client gets all of them at each handshake, and OpenSSL takes 100 KB at most."""

_log = Logger()


class CertificateStore:
    """What the edge and the mail process must be sent, and when it must be sent again. `clock`: UTC epoch seconds.

    `keys`: what new certificates use. Nothing is read before `load`. `before`: the store of the configuration
    before this one, which knows much of it. `acme`: what ACME has brought so far; None: as `before` was told.
    """

    def __init__(
        self,
        config: Config,
        routes: Sequence[Route],
        clock: Callable[[], float],
        before: CertificateStore | None = None,
        acme: Callable[[], tuple[Credential, ...]] | None = None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._choices = [
            (route.tls.certificate, route.match.domains)
            for route in routes
            if route.enabled
            and route.tls is not None
            and route.tls.mode != "passthrough"
            and not isinstance(route.action, MailHandover)
        ]
        self._shown = [
            route.tls.upstream.client_certificate
            for route in routes
            if route.enabled and route.tls is not None and route.tls.upstream.client_certificate is not None
        ]
        own = [choice for choice in self._all_choices() if isinstance(choice, CertificateFiles)]
        shared = dict.fromkeys(config.certificates.files, True)
        known: dict[CertificateFiles, Pair] = before._pairs if before is not None else {}
        self._pairs: dict[CertificateFiles, Pair] = {
            files: known[files].again() if files in known and known[files].shared is common else Pair(files, common)
            for files, common in {**shared, **{files: False for files in own if files not in shared}}.items()
        }
        self.keys = KeyRing(config.state_dir, _rolling(config), clock, _key_type(config))
        self._told: dict[tuple[str, float], int] = before._told if before is not None else {}
        self._internal: tuple[Credential, ...] = ()
        self._acme: Callable[[], tuple[Credential, ...]] = acme or (before._acme if before is not None else tuple)
        self._brought: tuple[Credential, ...] = ()
        self.internal_ca: InternalCa = before.internal_ca if before is not None else InternalCa(config.state_dir, clock)
        self._troubles: dict[tuple[str, ...], str] = {}
        self._issued: dict[tuple[str, ...], Credential] = before._issued if before is not None else {}

    def load(self) -> tuple[Credential, ...]:
        """Every credential that is needed now, operator's first, in the order of the file.

        TlsError, with all that is wrong on a line each, where a pair of files has never been good; a pair that was good
        and is not any more keeps its last good credential, and is reported once.
        """
        now = self._clock()
        for pair in self._pairs.values():
            pair.refresh(now)
            pair.tell_end(now, self._told)
        unusable = [pair.problem or "" for pair in self._pairs.values() if pair.credential is None]
        if unusable:
            raise TlsError("\n".join(unusable))
        from_files = [pair.credential for pair in self._pairs.values() if pair.credential is not None]
        names = self._internal_names()
        self._issued = {one: self._issue(one) for one in names}
        self._internal = tuple(self._issued.values())
        self._brought = self._acme() if self.config.certificates.acme is not None else ()
        return (*from_files, *self._brought, *self._internal)

    def wanted(self) -> tuple[str, ...]:
        """The names for which ACME is to bring certificates, as far as it is configured; `load` comes first."""
        acme = self.config.certificates.acme
        return () if acme is None else wanted_names(acme, self._said(), self._covered())

    def covers(self, name: str) -> bool:
        """Whether a certificate of the operator's is for it, that `auto` may use."""
        return covers(self._covered(), name)

    def _issue(self, names: tuple[str, ...]) -> Credential:
        """Of the internal CA: what it has issued already, while that is fresh, or while it cannot make another."""
        issued = self._issued.get(names)
        if issued is not None and not self.internal_ca.due(issued):
            return issued
        try:
            return self.internal_ca.issue(names, partial(self.keys.key_for, names))
        except TlsError as error:
            if issued is None:
                raise
            if self._troubles.get(names) != str(error):
                self._troubles[names] = str(error)
                _log.error("the certificate in use stays: {problem}", problem=str(error))
            return issued

    def changed(self) -> bool:
        """Whether `load` would give something new: a stat per file, cheap enough for every few seconds."""
        return (
            any(pair.changed() for pair in self._pairs.values())
            or any(map(self.internal_ca.due, self._internal))
            or (self.config.certificates.acme is not None and self._acme() != self._brought)
        )

    def renew(self, name: str) -> None:
        """Make the internal CA's certificates for a name anew; `load` gives them. TlsError where it cannot."""
        for names in [names for names in self._issued if name.lower() in map(as_certified, names)]:
            self._issued[names] = self.internal_ca.issue(names, partial(self.keys.key_for, names), anew=True)

    def listed(self, name: str | None = None) -> Iterator[Listed]:
        """Those of files and of the internal CA, as they are now; of the latter not those in whose place ACME's are
        shown for every name. `name`: only those for it, as it stands in them.
        """
        for pair in self._pairs.values():
            if pair.credential is not None and name in (None, *pair.credential.names):
                yield listed(pair.credential, last_error=pair.problem)
        brought = {one for credential in self._brought for one in credential.names}
        asked_for = {
            frozenset(group)
            for choice, names in self._names_by_choice()
            if choice == "internal"
            for group in _groups(_uncovered(choice, names, set()))
        }
        for names, credential in self._issued.items():
            if name not in (None, *credential.names):
                continue
            if frozenset(names) not in asked_for and all(covers(brought, one) for one in names):
                continue
            due = self.internal_ca.due(credential)
            yield listed(
                credential,
                next_renewal=self.internal_ca.renewal(credential),
                last_error=self._troubles.get(names) if due else None,
            )

    def tell_ends(self) -> None:
        """Log, once each, that certificates of the operator's end soon, or have ended, and that one of the internal CA
        should have been made anew long ago.
        """
        now = self._clock()
        for pair in self._pairs.values():
            pair.tell_end(now, self._told)
        for credential in self._internal:
            if self.internal_ca.due(credential):
                self._tell_late(credential, now)

    def _tell_late(self, credential: Credential, now: float) -> None:
        due = late(self.internal_ca.renewal(credential), credential.not_after, now)
        key = (credential.id, credential.not_after)
        if due > self._told.get(key, 0):
            self._told[key] = due
            _log.warn(
                "the certificate of the internal CA for {names} cannot be made anew, and ends in {days} days",
                names=", ".join(credential.names),
                days=round((credential.not_after - now) / 86400, 1),
            )

    def _all_choices(self) -> Iterator[CertificateChoice]:
        yield from (choice for choice, _ in self._choices)
        if self.config.email is not None:
            yield self.config.email.certificate
        yield from self._shown

    def _covered(self) -> set[str]:
        """What the operator's certificates are for, that `auto` may use."""
        loaded = (pair.credential for pair in self._pairs.values() if pair.credential is not None)
        return {name for credential in loaded if credential.shared for name in credential.names}

    def _internal_names(self) -> list[tuple[str, ...]]:
        """The sets of names for which the internal CA must vouch, each once: those that ACME is to bring too, for it
        may take its time.
        """
        covered = self._covered()
        wanted: dict[frozenset[str], tuple[str, ...]] = {}
        for choice, names in self._names_by_choice():
            for group in _groups(_uncovered(choice, names, covered)):
                wanted.setdefault(frozenset(group), group)
        return list(wanted.values())

    def _names_by_choice(self) -> Iterator[tuple[CertificateChoice, tuple[str, ...]]]:
        email = self.config.email
        for choice, domains in self._choices:
            # No certificate is for a regular expression: its names are looked for among the others.
            names = tuple(name for name in domains or () if not name.startswith(REGEX))
            yield choice, names or self._default_names()
        if email is not None:
            yield email.certificate, (email.hostname,)

    def _said(self) -> Iterator[tuple[CertificateChoice, tuple[str, ...]]]:
        """The names that are written somewhere, as they are."""
        yield from ((choice, domains or ()) for choice, domains in self._choices)
        if self.config.email is not None:
            yield self.config.email.certificate, (self.config.email.hostname,)

    def _default_names(self) -> tuple[str, ...]:
        """Of routes without domains: whatever a client on this host or beside it may call us."""
        email = self.config.email
        return (DEFAULT_NAME, "127.0.0.1", "::1", *_host_names(), *([email.hostname] if email else []))


def _rolling(config: Config) -> tuple[str, ...]:
    """The hosts whose keys roll over: mail's, where the certificate is ours to make."""
    email = config.email
    if email is None or not config.certificates.dane.rollover or isinstance(email.certificate, CertificateFiles):
        return ()
    return (email.hostname.lower(),)


def _key_type(config: Config) -> str:
    acme = config.certificates.acme
    return acme.key_type if acme is not None else "ecdsa-p256"


def _uncovered(choice: CertificateChoice, names: Sequence[str], covered: set[str]) -> tuple[str, ...]:
    """Those of `names` that `choice` leaves to the internal CA."""
    if isinstance(choice, CertificateFiles):
        return ()
    plain = dict.fromkeys(map(as_certified, names))
    if choice == "internal":
        return tuple(plain)
    return tuple(name for name in plain if not covers(covered, name))


def _groups(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Those of one leaf each, of the internal CA."""
    for start in range(0, len(names), LARGEST_LEAF):
        yield names[start : start + LARGEST_LEAF]


@cache
def _host_names() -> tuple[str, ...]:
    """This host's own name, in full if the resolver says so at once: one that does not answer delays no start."""
    found = [socket.gethostname()]
    asking = Thread(target=lambda: found.append(socket.getfqdn()), daemon=True)
    asking.start()
    asking.join(2.0)
    names = []
    for name in found:
        with contextlib.suppress(ValueError):
            names.append(host_name(name.encode()))
    return tuple(names)
