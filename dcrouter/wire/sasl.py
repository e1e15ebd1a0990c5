"""How a client says who it is: the server's side of SASL PLAIN (RFC 4616) and of LOGIN, without a socket.

1. `Exchange(mechanism)` for one login; `receive(None)` where the client has sent no initial response.
2. Each `receive` gives the next challenge, or the `Credentials`: then the exchange is over, and whether they are good
   is for somebody else to tell.

Responses are octets, base64 removed by `decode`. WireError, with the reply, for what is malformed; nothing that it says
contains any of what the client sent. LOGIN: draft-murchison-sasl-login.
"""

from __future__ import annotations

import binascii
import unicodedata

from attrs import field, frozen

from dcrouter.errors import WireError

_USERNAME = b"Username:"
_PASSWORD = b"Password:"
MALFORMED = b"501 5.5.2 Malformed credentials"


@frozen(kw_only=True)
class Credentials:
    """What a client claims. `authorize_as`: whom it wants to act for, "" for `account` itself."""

    account: str
    password: str = field(repr=False)
    authorize_as: str = ""


def decode(text: str) -> bytes:
    """The octets of one base64 response; WireError where it is none, or not as RFC 4648 3.5 writes it."""
    try:
        octets = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        octets = None
    if octets is None or binascii.b2a_base64(octets, newline=False).decode("ascii") != text:
        raise WireError("bad base64", b"501 5.5.2 Bad base64")
    return octets


def encode(challenge: bytes) -> bytes:
    """The base64 of a challenge, on one line."""
    return binascii.b2a_base64(challenge, newline=False)


def prepare_password(password: str) -> str:
    """The one form of a password that may be typed in several: NFC, any space a space (RFC 8265 4.2.2).

    Hashes are made of it and compared with it, so that a phone and a desk computer mean the same.
    """
    if password.isascii():
        return password
    return unicodedata.normalize(
        "NFC", "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    )


def prepare_account(name: str) -> str:
    """The one form of an account's name: NFC, without case (RFC 8265 3.3, with the wider mapping of case)."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


class Exchange:
    """One login by `mechanism`, PLAIN or LOGIN."""

    __slots__ = ("_account", "_login")

    def __init__(self, mechanism: str) -> None:
        self._login = mechanism == "LOGIN"
        self._account: str | None = None

    def receive(self, response: bytes | None) -> bytes | Credentials:
        """The next challenge for a response, None where there is none yet; or what the client claims."""
        if not self._login:
            return b"" if response is None else _plain(response)
        if response is None:
            return _USERNAME
        if self._account is None:
            self._account = _text(response)
            return _PASSWORD
        return Credentials(account=self._account, password=_text(response))


def _plain(response: bytes) -> Credentials:
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise WireError("not a PLAIN response", MALFORMED)
    authorize_as, account, password = map(_text, parts)
    return Credentials(account=account, password=password, authorize_as=authorize_as)


def _text(octets: bytes) -> str:
    if b"\0" in octets:
        raise WireError("NUL in credentials", MALFORMED)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("credentials beyond UTF-8", MALFORMED) from None
