"""Who the client is, told to targets: X-Forwarded-For, -Proto, -Host, and Forwarded (RFC 7239).

What a client says of this by itself is taken away, unless it is one of `http.trusted_proxies`: then ours is added
behind its own. Fields whose names differ from these only in an underscore go too: many a target takes one for the other
(RFC 3875 section 4.1.18).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from dcrouter.match.addresses import Networks
from dcrouter.wire.http1.fields import HOP_BY_HOP, KEPT, Line, value
from dcrouter.wire.http1.head import RequestHead

_NOT_PASSED = HOP_BY_HOP | {"content-length"}


def _is_about_the_client(name: str) -> bool:
    return name == "forwarded" or (name[:1] == "x" and name.replace("_", "-").startswith("x-forwarded-"))


class Introducer:
    """What targets are told of the client of one connection.

    `trusted`: the client itself is one of `http.trusted_proxies`. `reached`: what it has connected to, a name or an
    address with a port: the Host of requests that have none (RFC 9112 section 3.3), which no target would take as 1.1.
    """

    __slots__ = ("_peer", "_reached", "_scheme", "_trusted")

    def __init__(self, peer: str, scheme: str, trusted: bool, reached: str) -> None:
        self._peer = peer
        self._scheme = scheme
        self._trusted = trusted
        self._reached = reached

    def lines(self, head: RequestHead) -> list[Line]:
        """The fields of `head` that a target gets, framing and Upgrade left out."""
        block = head.block
        away = _NOT_PASSED
        if block.connection:
            away = away | (block.connection - KEPT)
        lines: list[Line] = []
        told: list[Line] = []
        host = b""
        for line in block.lines:
            name = line[0]
            if name == "host":
                host = line[1][5:].strip(b" \t")
                if not head.absolute:
                    lines.append(line)
            elif _is_about_the_client(name):
                told.append(line)
            elif name not in away:
                lines.append(line)
        if head.absolute:
            assert head.host is not None
            host = head.host.encode() if head.port is None else b"%b:%d" % (head.host.encode(), head.port)
            lines.insert(0, ("host", b"Host: " + host))
        elif head.host is None:
            lines.insert(0, ("host", b"Host: " + self._reached.encode()))
        lines += self._told(told, host) if self._trusted and told else self._ours(host)
        return lines

    def _ours(self, host: bytes) -> list[Line]:
        peer, scheme = self._peer.encode(), self._scheme.encode()
        element = _element(peer, host, scheme)
        lines: list[Line] = [
            ("x-forwarded-for", b"X-Forwarded-For: " + peer),
            ("x-forwarded-proto", b"X-Forwarded-Proto: " + scheme),
        ]
        if host:
            lines.append(("x-forwarded-host", b"X-Forwarded-Host: " + host))
        lines.append(("forwarded", b"Forwarded: " + element))
        return lines

    def _told(self, told: list[Line], host: bytes) -> list[Line]:
        """A proxy that is believed: the lists grow by it, and what it says once stays."""
        lines: list[Line] = []
        for name, line in self._ours(host):
            before = _text(told, name)
            if not before:
                lines.append((name, line))
            elif name in ("x-forwarded-for", "forwarded"):
                title, _, ours = line.partition(b": ")
                lines.append((name, title + b": " + before.encode("latin-1") + b", " + ours))
            else:
                lines.append((name, line.partition(b": ")[0] + b": " + before.encode("latin-1")))
        said = {name for name, _ in lines}
        return lines + [line for line in told if line[0] not in said and "_" not in line[0]]


def client_of(peer: str, head: RequestHead, trusted: Networks) -> str:
    """The address of the client behind trusted proxies: of X-Forwarded-For the last one that none of them is.

    An element that is no address ends the search: nobody knows who was before it.
    """
    client = peer
    for element in reversed(_text(head.block.lines, "x-forwarded-for").split(",")):
        address = _address(element.strip())
        if address is None or not trusted.covers(client):
            break
        client = address
    return client


def _text(lines: Iterable[Line], name: str) -> str:
    return ", ".join(text for found, line in lines if found == name and (text := value(line)))


def _element(peer: bytes, host: bytes, scheme: bytes) -> bytes:
    """RFC 7239 section 4: IPv6 in brackets, and whatever is no token in quotes."""
    who = b'"[%b]"' % peer if b":" in peer else peer
    if not host:
        return b"for=%b;proto=%b" % (who, scheme)
    name = b'"%b"' % host if b":" in host or b"[" in host else host
    return b"for=%b;host=%b;proto=%b" % (who, name, scheme)


def _address(text: str) -> str | None:
    """An address of X-Forwarded-For, in its one form; some proxies add a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
