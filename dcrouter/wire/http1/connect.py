"""The client's side of HTTP CONNECT: a proxy is asked for a connection to a host by its name or address.

Contract: as wire/socks5; the target is named at once. The head of the answer is read in steps that cannot go beyond its
end, because what follows belongs to the target. RFC 9110 section 9.3.6 (any 2xx opens the way, and has no body), 11.7.2
(Proxy-Authorization), RFC 7617 (Basic).
"""

from __future__ import annotations

import re
from base64 import b64encode

from dcrouter.errors import ProxyRefusal, WireError
from dcrouter.wire.hostport import hostport

LONGEST = 16384
"""Octets of the answer's head."""

_TARGETS_FAULT = (500, 502, 503, 504)
"""502 and 504: RFC 9110 section 15.6; tinyproxy says 500, Squid 503 of a target that cannot be reached."""

_NO_CONNECT = (400, 405, 426, 501, 505)
"""What is no proxy says so, or one that does not do CONNECT."""

_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r\n")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Connect:
    """One connection to `host`:`port` through the proxy, which resolves a name itself."""

    def __init__(self, host: str, port: int, user: str | None = None, password: str = "") -> None:
        authority = hostport(host, port)
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        if user is not None:
            head += f"Proxy-Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}\r\n"
        self.opening = f"{head}\r\n".encode("ascii")
        self.wants = len(_END)
        self.asked = True
        self._read = b""

    def feed(self, data: bytes) -> bytes | None:
        self._read += data
        there = next(size for size in range(len(_END), -1, -1) if self._read.endswith(_END[:size]))
        self.wants = len(_END) - there
        if self.wants:
            if len(self._read) > LONGEST:
                raise WireError("the proxy's answer has no end")
            if not b"HTTP/1.".startswith(self._read[:7]):
                raise WireError("the proxy does not speak HTTP")
            return b""
        head, self._read = self._read, b""
        found = _STATUS.match(head)
        if found is None:
            raise WireError("the proxy does not speak HTTP")
        status = int(found[1])
        if 100 <= status < 200:
            self.wants = len(_END)
            return b""
        if status in (401, 407):  # tinyproxy says 401 to a wrong password
            raise WireError("the proxy wants a login, or has refused the user or the password")
        if status >= 300:
            words = _UNPRINTABLE.sub("?", (found[2] or b"").decode("ascii", "replace"))[:60]
            said = f"the proxy answered {status} {words}".rstrip()
            if status < 400 or status in _NO_CONNECT:
                raise WireError(said)
            raise ProxyRefusal(said, final=status in _TARGETS_FAULT)
        return None
