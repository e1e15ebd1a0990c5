"""What is kept of automatic certificates: in `<state_dir>/acme` (0700), every file whole or not at all, keys 0600.

    accounts/HASH.key         of each directory, the account's key; HASH.next.key: the one that it is to have
    directories.json          URL -> how it was found, and when it was asked
    certificates/NAME.pem     key and chain together, so that they are replaced as one
    certificates/NAME.json    what is known of the name: failures, back-off, when to renew

Failures and orders are written before they happen: whoever is killed in the middle of an order finds it as one that has
failed, so that no crash loop can run into a limit of an authority.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, fields
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.logger import Logger

from dcrouter.durable import make_directory, sync_directory, write_whole
from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential, read, read_key

LONGEST_NAME = 200
"""Characters of a name that a file is called after; longer ones by their hash."""
FORGOTTEN = 30 * 86400.0
"""Seconds after which a name that nobody wants is forgotten."""
LONGEST_WAIT = 8 * 86400.0
"""Seconds, more than any back-off or Retry-After lasts: what is kept of a later moment was written by a wrong clock."""
LATEST = 253402300799.0
"""The end of the year 9999, UTC epoch seconds, which is as late as a certificate can end."""


@define(kw_only=True)
class Record:
    """What is known of a name. `failures`: in a row; `error`: the last one's reason; `until`: no sooner, because of it.

    `directory`: who has issued what is in use, at `issued`; `renew`: when that is to be renewed; `window`: named by the
    authority, who is to be asked for it again at `ask_again`; `late`: how much of renewal.LATE was told.
    `kind`: the challenge that worked; `shown`: the last one that was tried. `on_demand`: a client asked for it, and no
    route names it.
    """

    name: str
    failures: int = 0
    error: str = ""
    until: float = 0.0
    directory: str = ""
    issued: float = 0.0
    renew: float = 0.0
    window: list[float] | None = None
    ask_again: float = 0.0
    late: int = 0
    kind: str = ""
    shown: str = ""
    on_demand: bool = False


@define(kw_only=True)
class Found:
    """How a directory was found. `until`: it rests; `orders`: when the last ones began."""

    until: float = 0.0
    failures: int = 0
    error: str = ""
    orders: list[float] = field(factory=list)


class Kept:
    """Of one state directory, of which this is the only writer (its lock sees to that). `clock`: UTC epoch seconds.

    `credentials`: name -> what is held; `records`: name -> what is known. OSError where the disk cannot be written.
    """

    log = Logger()

    def __init__(self, state_dir: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._top = state_dir / "acme"
        self._certificates = self._top / "certificates"
        self._accounts = self._top / "accounts"
        self.credentials: dict[str, Credential] = {}
        self.records: dict[str, Record] = {}
        self.found: dict[str, Found] = {}

    def load(self) -> None:
        """Read all that there is; what cannot be read is told, and made anew."""
        if not self._top.exists():
            return
        for url, plain in self._json(self._top / "directories.json").items():
            self.found[url] = self._possible(_made(Found, plain), url)
        if not self._certificates.is_dir():
            return
        for path in sorted(self._certificates.glob("*.json")):
            record = _made(Record, {"name": "", **self._json(path)})
            if record.name and _stem(record.name) == path.stem:
                self.records[record.name] = self._possible(record, record.name)
        for path in sorted(self._certificates.glob("*.pem")):
            self._read(path)

    def record(self, name: str) -> Record:
        """What is known of `name`, be it nothing yet."""
        if name not in self.records:
            self.records[name] = Record(name=name)
        return self.records[name]

    def save(self, record: Record) -> None:
        """Remember it across a crash."""
        if self.records.get(record.name) is record:
            self._write(self._certificates / f"{_stem(record.name)}.json", _text(asdict(record)))

    def hold(self, name: str, credential: Credential) -> None:
        """From now on this is the certificate of `name`."""
        self._write(self._certificates / f"{_stem(name)}.pem", credential.key + credential.chain)
        self.credentials[name] = credential

    def drop(self, name: str) -> None:
        """Forget all of `name`."""
        self.records.pop(name, None)
        self.credentials.pop(name, None)
        for ending in ("pem", "json"):
            (self._certificates / f"{_stem(name)}.{ending}").unlink(missing_ok=True)

    def sweep(self, wanted: set[str]) -> None:
        """Forget what nobody has wanted for long: certificates that have expired, and back-offs that are over."""
        for name in {*self.records, *self.credentials} - wanted:
            credential, record = self.credentials.get(name), self.records.get(name)
            last = max(credential.not_after if credential else 0.0, record.until if record else 0.0)
            if last + FORGOTTEN < self._clock():
                self.drop(name)

    def directory(self, url: str) -> Found:
        return self.found.setdefault(url, Found())

    def save_directories(self) -> None:
        """Remember how they were found across a crash."""
        self._write(self._top / "directories.json", _text({url: asdict(one) for url, one in self.found.items()}))

    def account_key(self, url: str) -> ec.EllipticCurvePrivateKey:
        """Of our account at a directory; made where there is none. TlsError where it is spoilt: an account is not
        given up by itself.
        """
        return self._account_key(self._account(url)) or self._new_account_key(self._account(url))

    def next_account_key(self, url: str, *, make: bool = False) -> ec.EllipticCurvePrivateKey | None:
        """That our account there is to have, or has already where we were killed meanwhile; None: there is none, and
        none is to be made.
        """
        path = self._account(url, ".next")
        return self._account_key(path) or (self._new_account_key(path) if make else None)

    def account_key_changed(self, url: str) -> None:
        """The next one is the one in use."""
        self._account(url, ".next").replace(self._account(url))
        sync_directory(self._accounts)

    def has_account(self, url: str) -> bool:
        return self._account(url).exists()

    def _account(self, url: str, which: str = "") -> Path:
        return self._accounts / f"{sha256(url.encode()).hexdigest()[:32]}{which}.key"

    def _account_key(self, path: Path) -> ec.EllipticCurvePrivateKey | None:
        if not path.exists():
            return None
        try:
            key = read_key(path)
        except TlsError as error:
            raise TlsError(f"{error}; {_MEND_ACCOUNT}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TlsError(f"key file {path} is not an account's; {_MEND_ACCOUNT}")
        return key

    def _new_account_key(self, path: Path) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key

    def _possible(self, made: Any, of: str) -> Any:
        """Without a wait that nobody can have meant: it would last for years, and nothing be ordered."""
        if made.until > self._clock() + LONGEST_WAIT:
            self.log.warn("{of}: it was to wait until a time that is too far away; it does not", of=of)
            made.until = 0.0
        return made

    def _read(self, path: Path) -> None:
        try:
            credential = read(path, path, source="acme")
        except TlsError as error:
            self.log.warn("{problem}; it is ordered anew", problem=str(error))
            return
        name = next((one for one in credential.names if _stem(one) == path.stem), None)
        if name is not None:
            self.credentials[name] = credential

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            self.log.warn("{path} is left aside: {problem}", path=str(path), problem=str(error))
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, path: Path, content: bytes) -> None:
        make_directory(self._top)  # by itself, for directories above the one that is asked for are made for everybody
        make_directory(path.parent)
        write_whole(path, content, 0o600)


def _stem(name: str) -> str:
    plain = name.replace("*", "_")
    return plain if len(plain) <= LONGEST_NAME else sha256(name.encode()).hexdigest()


def _text(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, indent=1).encode()


def _made(cls: Any, plain: Any) -> Any:
    """A value of what a file says, as far as it says what it should."""
    made = cls(**({"name": ""} if cls is Record else {}))
    for one in fields(cls):
        value = plain.get(one.name) if isinstance(plain, dict) else None
        if isinstance(value, _TYPES[one.type]) and _is_sound(value):
            setattr(made, one.name, value)
    return made


_TYPES: dict[Any, Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": int | float,
    "list[float]": list,
    "list[float] | None": list,
}


_MEND_ACCOUNT = "restore it from a backup, or remove it: another account is made then"


def _is_sound(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, int | float) and _is_sound(one) for one in value)
    if isinstance(value, float):
        return math.isfinite(value) and 0 <= value <= LATEST
    return not isinstance(value, int) or 0 <= value <= LATEST
