"""Private keys for new certificates: a fresh one each time, but where a TLSA record says which to expect (DANE).

For such a host the next key exists long before it is used, so that its record can be published beside the one of the
key in use (RFC 7671 section 8.1). Renewals keep the key in use until the next one's record

1. is in DNS on every port of the host that has such records at all, and
2. has been there for as long as the records before it, which do not have it, may be remembered: the longest TTL that
   was seen of them, or ASSUMED where none ever was.

Where a host has no such records at all, nobody can be misled, and the next key waits for ASSUMED only.

In `<state_dir>/dane/HOST` (0700): `current.key` and `next.key` (0600), and what was seen of the next in `next.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from attrs import asdict, define
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from twisted.logger import Logger

from dcrouter.durable import make_directory, sync_directory, write_whole
from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential, PrivateKey, read_key
from dcrouter.tls.names import covers

ASSUMED = 86400.0
"""Seconds: a day is the longest TTL that is common."""

_log = Logger()


def fresh_key(key_type: str = "ecdsa-p256") -> PrivateKey:
    """A new one of a type that `certificates.acme.key_type` knows."""
    family, _, size = key_type.partition("-")
    if family == "rsa":
        return rsa.generate_private_key(65537, int(size))
    return ec.generate_private_key(ec.SECP384R1() if size == "p384" else ec.SECP256R1())


def digest(key: PrivateKey) -> str:
    """What a TLSA record 3 1 1 has of it, in hexadecimal (RFC 6698 section 2.1): of its SubjectPublicKeyInfo."""
    return sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@define(kw_only=True)
class Sight:
    """What was seen in DNS of the key whose digest is `key`. UTC epoch seconds, 0: never.

    `made`: since when it is there; `seen`: since when its record is everywhere; `absent`: since when the host has no
    such records at all; `ttl`: the longest of records without it, seconds.
    """

    key: str
    made: float
    seen: float = 0.0
    absent: float = 0.0
    ttl: float = 0.0

    def ripe_at(self) -> float | None:
        """When it may be used; None while that cannot be told."""
        if self.seen:
            return self.seen + (self.ttl or ASSUMED)
        return max(self.made, self.absent) + ASSUMED if self.absent else None


class KeyRing:
    """`hosts`: those whose keys roll over, lower-case; `key_type`: of their new ones. `clock`: UTC epoch seconds.

    State is on disk alone.
    """

    def __init__(
        self, state_dir: Path, hosts: Collection[str], clock: Callable[[], float], key_type: str = "ecdsa-p256"
    ) -> None:
        self._top = state_dir / "dane"
        self._clock = clock
        self._key_type = key_type
        self.hosts = frozenset(hosts)

    def key_for(self, names: Sequence[str], key_type: str = "ecdsa-p256") -> PrivateKey:
        """What a new certificate for `names` is to use. It is in use when `used` was told so, and not before.

        `key_type`: of a key that is new for each certificate. TlsError where the disk fails.
        """
        host = next((host for host in sorted(self.hosts) if covers(names, host)), None)
        if host is None:
            return fresh_key(key_type)
        try:
            sight = self.next_of(host)
            ripe_at = sight.ripe_at()
            current = self._directory(host) / "current.key"
            if ripe_at is not None and ripe_at <= self._clock():
                return read_key(self._directory(host) / "next.key")
            if not current.exists():
                self._write(current, fresh_key(self._key_type))
            return read_key(current)
        except OSError as error:
            raise _failed(self._top, error) from error

    def used(self, host: str, credential: Credential) -> None:
        """This is what `host` shows now: its key is the current one, unless it is an older one of the internal CA that
        stands in for what is missing. TlsError where the disk fails.
        """
        if host not in self.hosts:
            return
        directory = self._directory(host)
        in_use = digest(credential.private_key())
        try:
            current = self.current_of(host)
            if current == in_use:
                return
            if self.next_of(host).key == in_use:
                (directory / "next.key").replace(directory / "current.key")
                sync_directory(directory)
                _log.info("DANE: {host} uses its next key now, and there is another one to publish", host=host)
            elif current is None or credential.source != "internal":
                # It was in use before anybody asked for a rollover, and its record may be published.
                self._write(directory / "current.key", credential.private_key())
            self.next_of(host)
        except OSError as error:
            raise _failed(self._top, error) from error

    def current_of(self, host: str) -> str | None:
        """The digest of the key in use; None while there is none."""
        path = self._directory(host) / "current.key"
        return digest(read_key(path)) if path.exists() else None

    def next_of(self, host: str) -> Sight:
        """What is known of the next key of one of `hosts`, which is made where it is missing. OSError, TlsError."""
        directory = self._directory(host)
        make_directory(self._top)
        make_directory(directory)
        path = directory / "next.key"
        if not path.exists():
            self._write(path, fresh_key(self._key_type))
        key = digest(read_key(path))
        try:
            sight = Sight(**json.loads((directory / "next.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            sight = Sight(key="", made=0.0)
        if sight.key != key:
            # Records that were seen go on to be remembered, whichever key they are of.
            sight = Sight(key=key, made=self._clock(), ttl=sight.ttl)
            self._save(host, sight)
        return sight

    def looked(self, host: str, found: Mapping[int, tuple[Collection[str], float]]) -> None:
        """What DNS has: port -> (digests of its records 3 1 1 and others, TTL); no digests: no records there.

        TlsError where the disk fails.
        """
        try:
            sight = self.next_of(host)
            before = asdict(sight)
            published = [(digests, ttl) for digests, ttl in found.values() if digests]
            without = [ttl for digests, ttl in published if sight.key not in digests]
            now = self._clock()
            sight.absent = 0.0 if published else sight.absent or now
            sight.seen = (sight.seen or now) if published and not without else 0.0
            sight.ttl = max(sight.ttl, *without) if without else sight.ttl
            if asdict(sight) != before:
                self._save(host, sight)
        except OSError as error:
            raise _failed(self._top, error) from error

    def _directory(self, host: str) -> Path:
        return self._top / host

    def _save(self, host: str, sight: Sight) -> None:
        write_whole(self._directory(host) / "next.json", json.dumps(asdict(sight)).encode(), 0o600)

    def _write(self, path: Path, key: PrivateKey) -> None:
        make_directory(path.parent)
        write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _failed(top: Path, error: OSError) -> TlsError:
    return TlsError(f"the keys in {top} cannot be used: {error.strerror}")
