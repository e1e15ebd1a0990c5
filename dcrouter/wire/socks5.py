"""The client's side of SOCKS 5: one CONNECT to a host by its name or address, with a user's password or without.

Contract: `opening` is said first. `wants` is how many bytes may be read now and not one more, because what follows the
last reply belongs to the target; `feed` takes what came (at most that many) and gives what to say next (b"" for
nothing), or None: the way is open. `asked`: whether the target has been named, so that what is waited for is the
proxy's connection with it. ProxyRefusal: there is none, and why; other WireErrors: the proxy is of no use.
RFC 1928 (section 6: the replies); passwords RFC 1929.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, ip_address

from dcrouter.errors import ProxyRefusal, WireError

LONGEST = 255
"""Octets of a name, a user and a password: each has one octet for its length."""

_NO_LOGIN, _PASSWORD, _NONE_OF_THEM = 0, 2, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_TARGETS_FAULT = (3, 4, 5, 6)
_REFUSALS = {
    1: "the proxy has failed",
    2: "the proxy's rules do not allow it",
    3: "the proxy finds the network unreachable",
    4: "the proxy finds the host unreachable",
    5: "the target has refused the proxy's connection",
    6: "the proxy's connection took too long",
    7: "the proxy does not do CONNECT",
    8: "the proxy does not do this kind of address",
}


class Socks5:
    """One connection to `host`:`port` through the proxy, which resolves a name itself."""

    def __init__(self, host: str, port: int, user: str | None = None, password: str = "") -> None:
        """ValueError where something is longer than SOCKS can say."""
        self._request = b"\x05\x01\x00" + _address(host) + port.to_bytes(2, "big")
        self._login = None
        if user is not None:
            self._login = b"\x01" + _counted("user", user) + _counted("password", password)
        self.opening = b"\x05\x01\x00" if user is None else b"\x05\x02\x00\x02"
        self.wants = 2
        self.asked = False
        self._read = b""
        self._step: Callable[[bytes], bytes | None] = self._method

    def feed(self, data: bytes) -> bytes | None:
        self._read += data
        self.wants -= len(data)
        if self.wants:
            return b""
        read, self._read = self._read, b""
        return self._step(read)

    def _method(self, reply: bytes) -> bytes:
        if reply[0] != 5:
            raise WireError("the proxy does not speak SOCKS 5")
        if reply[1] == _PASSWORD and self._login is not None:
            self.wants, self._step = 2, self._logged_in
            return self._login
        if reply[1] == _NO_LOGIN:
            return self._asked()
        raise WireError(
            "the proxy wants a login" if self._login is None else "the proxy takes no login by user and password"
        )

    def _logged_in(self, reply: bytes) -> bytes:
        if reply[1] != 0:
            raise WireError("the proxy has refused the user or the password")
        return self._asked()

    def _asked(self) -> bytes:
        self.asked = True
        self.wants, self._step = 4, self._answered
        return self._request

    def _answered(self, reply: bytes) -> bytes:
        if reply[0] != 5:
            raise WireError("the proxy does not speak SOCKS 5")
        code = reply[1]
        if code == 7:
            raise WireError(_REFUSALS[code])
        if code != 0:
            words = _REFUSALS.get(code, f"the proxy refuses with code {code}")
            raise ProxyRefusal(words, final=code in _TARGETS_FAULT)
        kind = reply[3]
        if kind not in (_IPV4, _NAME, _IPV6):
            raise WireError("the proxy's reply has an address of no kind")
        if kind == _NAME:
            self.wants, self._step = 1, self._named
        else:
            self.wants, self._step = (4 if kind == _IPV4 else 16) + 2, self._done
        return b""

    def _named(self, reply: bytes) -> bytes:
        self.wants, self._step = reply[0] + 2, self._done
        return b""

    def _done(self, reply: bytes) -> None:
        """The address that the proxy has connected from is of no use to anybody."""


def _address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        return bytes((_NAME,)) + _counted("name", host)
    return bytes((_IPV4 if isinstance(address, IPv4Address) else _IPV6,)) + address.packed


def _counted(what: str, text: str) -> bytes:
    octets = text.encode()
    if not 1 <= len(octets) <= LONGEST:
        raise ValueError(f"a {what} has 1 to {LONGEST} octets in SOCKS 5")
    return bytes((len(octets),)) + octets
