"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side, without a socket. RFC 5802, 7677; bindings: RFC 5929, 9266.

1. `Scram(...)` for one login; `first(message)` gives the account that the client names.
2. `challenge(verifier)` is the answer to it, for the verifier of that account or of an impostor.
3. `final(message)` gives a `Proof`: whether it is good is told by `Proof.fits(verifier)`, and to the client, then, by
   `Proof.signature(verifier)`.

WireError, with the reply, for what is malformed, and for a client that was led to believe that we bind no channels
(5802 6); nothing that it says contains any of what the client sent. A server keeps verifiers, never passwords.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress

from attrs import field, frozen

from dcrouter.errors import WireError
from dcrouter.wire.sasl import MALFORMED
from dcrouter.wire.saslprep import saslprep

SCRAM = "SCRAM-SHA-256"
PLUS = "SCRAM-SHA-256-PLUS"

ITERATIONS = 15_000
"""Of new verifiers: RFC 7677 4 asks for 4 096 at least. It is the client that computes them, a telephone perhaps."""
FEWEST_ITERATIONS, MOST_ITERATIONS = 4096, 10_000_000
SALT = 16
"""Octets."""
_SIZE = hashlib.sha256().digest_size

_REFUSED = b"535 5.7.8 Authentication credentials invalid"
_PRINTABLE = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,256}")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{3,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


@frozen(kw_only=True)
class Verifier:
    """What a server needs of a password to check a proof: with it alone nobody can log in (RFC 5802 3)."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __str__(self) -> str:
        """`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as RFC 5803 has it and PostgreSQL writes it."""
        return f"{SCRAM}${self.iterations}:{_b64(self.salt)}${_b64(self.stored_key)}:{_b64(self.server_key)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Of that form; ValueError, which never shows the text."""
        found = _VERIFIER.fullmatch(text)
        if found is None:
            raise ValueError("not a SCRAM-SHA-256 verifier: make one with `dcrouter passwd`")
        try:
            salt, stored, server = (b64decode(part, validate=True) for part in found.groups()[1:])
        except binascii.Error:
            raise ValueError("the verifier holds bad base64") from None
        iterations = int(found[1])
        if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
            raise ValueError(f"the verifier's {iterations} iterations are not {FEWEST_ITERATIONS} to {MOST_ITERATIONS}")
        if len(stored) != _SIZE or len(server) != _SIZE or not 8 <= len(salt) <= 64:
            raise ValueError("the verifier's salt or keys have a length that they cannot have")
        return cls(iterations=iterations, salt=salt, stored_key=stored, server_key=server)

    @classmethod
    def make(cls, password: str, *, iterations: int = ITERATIONS, salt: bytes | None = None) -> Verifier:
        """A new one. A password that SASLprep does not allow is taken as it is, which is what clients do with it."""
        with suppress(ValueError):
            password = saslprep(password)
        salt = salt or secrets.token_bytes(SALT)
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
        stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        return cls(iterations=iterations, salt=salt, stored_key=stored, server_key=_hmac(salted, b"Server Key"))

    @classmethod
    def impostor(cls, name: str, secret: bytes, iterations: int) -> Verifier:
        """One for a name that nobody has: the same for the same name and secret, so that it looks like any other; no
        password fits it.
        """
        salt = _hmac(secret, name.encode("utf-8", "replace"))[:SALT]
        nobody = secrets.token_bytes(_SIZE)
        return cls(iterations=iterations, salt=salt, stored_key=nobody, server_key=nobody)


@frozen(kw_only=True)
class Proof:
    """What a client has shown of its password. `bound`: to this very channel, or it did not have to be."""

    account: str
    authorize_as: str
    bound: bool
    message: bytes = field(repr=False)
    proof: bytes = field(repr=False)

    def fits(self, verifier: Verifier) -> bool:
        """Whether the client knows the password that the verifier was made of (RFC 5802 3)."""
        signature = _hmac(verifier.stored_key, self.message)
        key = bytes(a ^ b for a, b in zip(self.proof, signature, strict=True))
        return hmac.compare_digest(hashlib.sha256(key).digest(), verifier.stored_key) and self.bound

    def signature(self, verifier: Verifier) -> bytes:
        """The server's last message: it proves to the client that the server knows the verifier."""
        return b"v=" + b64encode(_hmac(verifier.server_key, self.message))


class Scram:
    """One login. `plus`: by SCRAM-SHA-256-PLUS. `bindings`: what this channel can be bound to, type -> data; `offered`:
    whether the client was offered to. `nonce`: the server's part, random unless told.
    """

    def __init__(
        self, *, plus: bool, bindings: Mapping[str, bytes], offered: bool = False, nonce: str | None = None
    ) -> None:
        self._plus = plus
        self._bindings = bindings
        self._offered = offered
        self._nonce = nonce or secrets.token_urlsafe(18)
        self._account = self._authorize_as = ""
        self._gs2 = b""
        self._binding: bytes = b""
        self._first = self._challenge = b""

    def first(self, message: bytes) -> str:
        """`gs2-header client-first-message-bare`: the account, as the client writes it."""
        text = _decoded(message)
        flag, comma, rest = text.partition(",")
        authorize_as, comma2, bare = rest.partition(",")
        parts = bare.split(",")
        if not comma or not comma2 or len(parts) < 2 or parts[0][:2] != "n=" or parts[1][:2] != "r=":
            raise _malformed()
        if authorize_as:
            if authorize_as[:2] != "a=":
                raise _malformed()
            self._authorize_as = _name(authorize_as[2:]) if authorize_as[2:] else ""  # gsasl says a= for nobody
        self._account = _name(parts[0][2:])
        nonce = parts[1][2:]
        if _PRINTABLE.fullmatch(nonce) is None:
            raise _malformed()
        self._bind(flag)
        self._nonce = nonce + self._nonce
        self._first = bare.encode()
        self._gs2 = text[: len(text) - len(bare)].encode()
        return self._account

    def _bind(self, flag: str) -> None:
        """What the client says of channel binding (RFC 5802 6): n can not, y can but was not offered it, p does."""
        if self._plus != flag.startswith("p=") or (not self._plus and flag not in ("n", "y")):
            raise _malformed()
        if flag == "y" and self._offered:
            raise WireError("somebody took SCRAM-SHA-256-PLUS out of what we offer", _REFUSED)
        if self._plus:
            if flag[2:] not in self._bindings:
                raise WireError("a channel binding that this channel does not have", _REFUSED)
            self._binding = self._bindings[flag[2:]]

    def challenge(self, verifier: Verifier) -> bytes:
        """The server's first message."""
        self._challenge = f"r={self._nonce},s={_b64(verifier.salt)},i={verifier.iterations}".encode()
        return self._challenge

    def final(self, message: bytes) -> Proof:
        """`c=.. r=.. [extensions] p=..`."""
        text = _decoded(message)
        without, comma, proof = text.rpartition(",p=")
        parts = without.split(",")
        if not comma or len(parts) < 2 or parts[0][:2] != "c=" or parts[1][:2] != "r=":
            raise _malformed()
        shown, bound = _octets(proof), _octets(parts[0][2:])
        if len(shown) != _SIZE or not bound.startswith(self._gs2):
            raise _malformed()
        if not hmac.compare_digest(parts[1][2:].encode(), self._nonce.encode()):
            raise WireError("a nonce that is not of this exchange", _REFUSED)
        return Proof(
            account=self._account,
            authorize_as=self._authorize_as,
            bound=hmac.compare_digest(bound, self._gs2 + self._binding),
            message=b",".join((self._first, self._challenge, without.encode())),
            proof=shown,
        )


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _b64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _octets(text: str) -> bytes:
    try:
        return b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _malformed() from None


def _decoded(message: bytes) -> str:
    try:
        text = message.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed() from None
    if "\0" in text:
        raise _malformed()
    return text


def _name(text: str) -> str:
    """A saslname: `=2C` and `=3D` stand for a comma and an equals sign, and = for nothing else."""
    if not text or re.search("=(?!2C|3D)", text) is not None:
        raise _malformed()
    return text.replace("=2C", ",").replace("=3D", "=")


def _malformed() -> WireError:
    return WireError("not a SCRAM message", MALFORMED)
