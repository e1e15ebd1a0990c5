"""The PROXY protocol header, versions 1 and 2: what a proxy in front of us says about its client.

Contract: `parse` takes all bytes received so far, from the first one on, and gives the header, None (more bytes are
needed) or raises WireError without a reply, for no peer of this protocol reads one. The caller peeks and then consumes
exactly `length` bytes: what follows them belongs to the connection. `build_v1` and `build_v2` write one,
`speaking_for_ourselves` that of a connection without a client.

"The PROXY protocol, versions 1 & 2" by HAProxy (proxy-protocol.txt): sections 2.1 (v1), 2.2 (v2); TLVs in proxytlvs.py.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.mapped import unmapped
from dcrouter.wire.proxytlvs import CRC32C, NOTHING_TOLD, Tlv, Told, crc32c, join, read, split, write

MAX_V1 = 107
"""Bytes of a v1 line, its CRLF included: the longest that section 2.1 allows."""

MAX_V2 = 4096
"""Bytes of a v2 header. The format would allow 65551, but is made to fit one segment; what is met in practice (names of
client certificates, endpoint ids of clouds, unique ids of 128 bytes) stays far below 4 KiB."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

Version = Literal["v1", "v2"]

_LOCAL, _PROXY = 0, 1
_STREAM = 1
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_ADDRESS_SIZE = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}

_V2_HEAD = struct.Struct(">12sBBH")
_V2_INET = struct.Struct(">4s4sHH")
_V2_INET6 = struct.Struct(">16s16sHH")
_PORTS = struct.Struct(">HH")
_CHECKSUM_HEAD = join([(CRC32C, bytes(4))])[:3]
_CHECKSUM_SIZE = 7

_V1_LINE = re.compile(rb"PROXY (TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n")
_V1_UNFINISHED = re.compile(rb"PROXY (?:TCP(?:4[0-9. ]*|6[0-9a-fA-F.: ]*)\r?|UNKNOWN(?:\r|[ ][^\n]*)?)")
_V1_PREFIXES = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN\r")


@frozen(kw_only=True)
class ProxyHeader:
    """`source` and `destination`: (address as text, port) of the client and of where it connected to, IPv4 mapped into
    IPv6 written as IPv4; both None where the header names none (UNKNOWN, LOCAL, UNSPEC, unix sockets).
    `tlvs`: (type, value) in order; `told`: what those that are known say. `length`: bytes that the header took.
    """

    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    tlvs: tuple[Tlv, ...] = ()
    told: Told = NOTHING_TOLD
    length: int


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the start of `data`, None while it is incomplete; WireError as soon as it cannot become one."""
    if data[:1] == b"P":
        return _parse_v1(data)
    if not SIGNATURE.startswith(data[:12]):
        raise WireError("PROXY header: neither version's signature")
    return _parse_v2(data)


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, MAX_V1) + 1
    if not end:
        if len(data) >= MAX_V1:
            raise WireError("PROXY header: the v1 line is too long")
        if not any(prefix.startswith(data) for prefix in _V1_PREFIXES) and not _V1_UNFINISHED.fullmatch(data):
            raise WireError("PROXY header: not a v1 line")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN\r\n" or (line.startswith(b"PROXY UNKNOWN ") and line.endswith(b"\r\n")):
        return ProxyHeader(source=None, destination=None, length=end)
    found = _V1_LINE.fullmatch(line)
    if found is None:
        raise WireError("PROXY header: a malformed v1 line")
    family, source, destination, source_port, destination_port = (part.decode("ascii") for part in found.groups())
    kind = IPv4Address if family == "TCP4" else IPv6Address
    try:
        addresses = [kind(source), kind(destination)]
    except ValueError as error:
        raise WireError(f"PROXY header: {error}") from error
    ports = int(source_port), int(destination_port)
    if max(ports) > 65535:
        raise WireError("PROXY header: a port beyond 65535")
    return ProxyHeader(
        source=(unmapped(str(addresses[0])), ports[0]),
        destination=(unmapped(str(addresses[1])), ports[1]),
        length=end,
    )


def _parse_v2(data: bytes) -> ProxyHeader | None:
    # Each byte of the fixed part is judged as soon as it is there.
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise WireError("PROXY header: an unknown v2 version or command")
    if len(data) > 13 and (data[13] >> 4 not in _ADDRESS_SIZE or data[13] & 15 > 2):
        raise WireError("PROXY header: an unknown v2 address family or transport")
    if len(data) < 16:
        return None
    _, command, family, size = _V2_HEAD.unpack_from(data)
    end = 16 + size
    if end > MAX_V2:
        raise WireError("PROXY header: the v2 header is too long")
    if command & 15 == _LOCAL:
        # Section 2.2: the proxy speaks for itself; whatever follows is skipped.
        return ProxyHeader(source=None, destination=None, length=end) if len(data) >= end else None
    family >>= 4
    start = 16 + _ADDRESS_SIZE[family]
    if start > end:
        raise WireError("PROXY header: the v2 addresses are cut off")
    if len(data) < end:
        return None
    source = destination = None
    # The transport does not matter here: DGRAM tells of a client that came over QUIC.
    if family == _INET:
        from_, to, from_port, to_port = _V2_INET.unpack_from(data, 16)
        source, destination = (str(IPv4Address(from_)), from_port), (str(IPv4Address(to)), to_port)
    elif family == _INET6:
        from_, to, from_port, to_port = _V2_INET6.unpack_from(data, 16)
        source, destination = (unmapped(str(IPv6Address(from_))), from_port), (unmapped(str(IPv6Address(to))), to_port)
    elif family == _UNSPEC:
        return ProxyHeader(source=None, destination=None, length=end)
    tlvs = _tlvs(data[:end], start)
    return ProxyHeader(source=source, destination=destination, tlvs=tlvs, told=read(tlvs), length=end)


def _tlvs(header: bytes, start: int) -> tuple[Tlv, ...]:
    """Section 2.2.1; the checksum (2.2.3) is verified where it is present."""
    if start == len(header):
        return ()
    found = []
    checksum_at = 0
    for kind, at, value in split(header[start:]):
        if kind == CRC32C:
            if len(value) != 4 or checksum_at:
                raise WireError("PROXY header: a bad checksum TLV, or several")
            checksum_at = start + at
        found.append((kind, value))
    if checksum_at:
        told = int.from_bytes(header[checksum_at : checksum_at + 4], "big")
        if crc32c(header[:checksum_at] + bytes(4) + header[checksum_at + 4 :]) != told:
            raise WireError("PROXY header: the checksum is wrong")
    return tuple(found)


def build_v1(source: tuple[str, int] | None, destination: tuple[str, int] | None) -> bytes:
    """The v1 line for a client at `source` that connected to `destination`; UNKNOWN where either is None."""
    if source is None or destination is None:
        return b"PROXY UNKNOWN\r\n"
    family, addresses = _one_family(source[0], destination[0])
    name = "TCP4" if family == _INET else "TCP6"
    return f"PROXY {name} {addresses[0]} {addresses[1]} {_port(source[1])} {_port(destination[1])}\r\n".encode("ascii")


def build_v2(source: tuple[str, int] | None, destination: tuple[str, int] | None, told: Told = NOTHING_TOLD) -> bytes:
    """The v2 header likewise, with `told` and a checksum as TLVs; LOCAL, which tells nothing, where either is None."""
    if source is None or destination is None:
        return _V2_HEAD.pack(SIGNATURE, 0x20 | _LOCAL, _UNSPEC, 0)
    inet, (from_, to) = _one_family(source[0], destination[0])
    block = from_.packed + to.packed + _PORTS.pack(_port(source[1]), _port(destination[1]))
    more = join(write(told))
    size = len(block) + _CHECKSUM_SIZE + len(more)
    # The checksum comes first among the TLVs, so its place is known; it is computed with zeros there (section 2.2.3).
    before = _V2_HEAD.pack(SIGNATURE, 0x20 | _PROXY, inet << 4 | _STREAM, size) + block + _CHECKSUM_HEAD
    return before + crc32c(before + bytes(4) + more).to_bytes(4, "big") + more


def speaking_for_ourselves(version: Version) -> bytes:
    """The header of a connection that has no client, such as a health check: UNKNOWN, or LOCAL (section 2.2)."""
    return build_v1(None, None) if version == "v1" else build_v2(None, None)


def _one_family(
    source: str, destination: str
) -> tuple[int, tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]]:
    """Both addresses in one family, as the format wants it: an IPv4 one beside an IPv6 one is mapped."""
    from_, to = _address(source), _address(destination)
    if from_.version == to.version == 4:
        return _INET, (from_, to)
    return _INET6, (_mapped(from_), _mapped(to))


@lru_cache(1024)
def _address(text: str) -> IPv4Address | IPv6Address:
    """Parsed once: where clients connect to is always the same, and clients come again."""
    return ip_address(unmapped(text))


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    # Through the packed form, which leaves out a zone index: it means nothing to the other side.
    return IPv6Address(address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed)


def _port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is not a port")
    return port
