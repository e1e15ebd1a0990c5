"""A proxy through which targets are reached, as its URL: `socks5://user:password@proxy.example.com:1080`.

User and password are percent-encoded, as in every URL (RFC 3986 section 3.2.1). No error ever shows the text, because a
password is in it.
"""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import unquote

from attrs import field, frozen

from dcrouter.config import names
from dcrouter.config.forms import Form, Secret
from dcrouter.wire.hostport import hostport
from dcrouter.wire.tunnel import Scheme

_SCHEMES: dict[str, Scheme] = {one: one for one in get_args(Scheme)}
LONGEST = 255
"""Octets of a user and a password in SOCKS 5 (RFC 1929)."""


@frozen(kw_only=True)
class Proxy:
    """`http` and `https`: by CONNECT, in clear or by TLS with the proxy."""

    scheme: Scheme
    host: str
    port: int
    user: str | None = None
    password: Secret = field(factory=lambda: Secret(""))

    def __str__(self) -> str:
        """Without the user."""
        return f"{self.scheme}://{hostport(self.host, self.port)}"


def _proxy(text: str) -> Proxy:
    word, _, rest = text.partition("://")
    login, at, place = rest.removesuffix("/").rpartition("@")
    if word == "socks5h":
        raise ValueError("socks5 already leaves names to the proxy: write socks5://")
    scheme = _SCHEMES.get(word)
    if scheme is None or not rest:
        raise ValueError("not a proxy such as socks5://proxy.example.com:1080: socks5, http or https")
    try:
        host, port = names.host_port(place)
        host = names.target_host(host)
    except ValueError:
        raise ValueError("the proxy has no host and port that can be read, such as proxy.example.com:1080") from None
    if port is None:
        raise ValueError("the proxy has no port: a number after its host, such as :1080")
    user, password = None, ""
    if at:
        user, colon, password = (unquote(part, errors="strict") for part in login.partition(":"))
        _check_login(scheme, user, password, bool(colon))
    return Proxy(scheme=scheme, host=host, port=port, user=user, password=Secret(password))


def _check_login(scheme: str, user: str, password: str, colon: bool) -> None:
    if not user or not colon:
        raise ValueError("before the proxy's @ stand a user and a password, with a colon between them")
    if not (user + password).isprintable():
        raise ValueError("the proxy's user or password has characters that cannot be sent")
    if scheme == "socks5" and not (len(user.encode()) <= LONGEST and 1 <= len(password.encode()) <= LONGEST):
        raise ValueError("a user and a password have 1 to 255 octets each in SOCKS 5")
    if scheme != "socks5" and ":" in user:
        raise ValueError("a user with a colon cannot log in by HTTP (RFC 7617)")


ProxyUrl = Annotated[
    Proxy,
    Form(
        name="proxy",
        words="a proxy: `socks5://proxy:1080` `http://proxy:3128` `https://user:password@proxy:443`",
        read=_proxy,
        schema={"type": "string", "pattern": "^(socks5|https?)://"},
    ),
]
