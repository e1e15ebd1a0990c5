"""What a PROXY v2 header says beside addresses: its TLVs, as values and as bytes.

Contract: `read` takes the TLVs of a header and gives a `Told`, `write` the inverse; WireError where one that is known
breaks its form. What is not known is skipped: the format wants it so.

"The PROXY protocol, versions 1 & 2" by HAProxy (proxy-protocol.txt): sections 2.2.1 to 2.2.8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

from dcrouter.errors import WireError

ALPN, AUTHORITY, CRC32C, UNIQUE_ID, SSL = 0x01, 0x02, 0x03, 0x05, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23

MAX_UNIQUE_ID = 128
"""Bytes, by section 2.2.5."""
MAX_NAME = 255
"""Bytes of a name: of SNI and ALPN nothing longer can come; a longer common name is left out."""

_BY_TLS, _CERTIFICATE = 0x01, 0x02
_SHOWED_CERTIFICATE = 0x02 | 0x04
"""On this connection, or earlier in the same session (section 2.2.6)."""

_TLV = struct.Struct(">BH")
_SSL_HEAD = struct.Struct(">BL")

Tlv = tuple[int, bytes]


@frozen(kw_only=True)
class Told:
    """What is known of a client's connection from one who ended its TLS or saw its first bytes.

    `authority`: the name that it asked for (SNI). `alpn`: what was negotiated. `unique_id`: whatever the proxy calls
    the connection. `tls_version`, `cipher`: in the words of OpenSSL, None where the client did not speak TLS.
    `client_name`: the common name of its certificate, `client_verified`: that was shown, and found good.
    """

    authority: str | None = None
    alpn: str | None = None
    unique_id: bytes | None = None
    tls_version: str | None = None
    cipher: str | None = None
    client_name: str | None = None
    client_verified: bool = False


NOTHING_TOLD = Told()


def split(block: bytes, what: str = "TLV") -> Iterator[tuple[int, int, bytes]]:
    """(type, where its value starts in `block`, value) of each, in order; WireError where they do not fill `block`."""
    position, end = 0, len(block)
    while position < end:
        if position + 3 > end:
            raise WireError(f"PROXY header: a {what} is cut off")
        kind, size = _TLV.unpack_from(block, position)
        start = position + 3
        position = start + size
        if position > end:
            raise WireError(f"PROXY header: a {what} is too long")
        yield kind, start, block[start:position]


def read(tlvs: Iterable[Tlv]) -> Told:
    """What `tlvs` say; of several of one type the last counts."""
    said: dict[str, Any] = {}
    for kind, value in tlvs:
        if kind == AUTHORITY:
            said["authority"] = _text(value, "authority")
        elif kind == ALPN:
            said["alpn"] = value.decode("latin-1")  # octets without a meaning as text (RFC 7301 section 3.1)
        elif kind == UNIQUE_ID:
            if len(value) > MAX_UNIQUE_ID:
                raise WireError("PROXY header: a unique id is too long")
            said["unique_id"] = value
        elif kind == SSL:
            said.update(_read_ssl(value))
    return Told(**said) if said else NOTHING_TOLD


def _read_ssl(value: bytes) -> dict[str, str | bool]:
    if len(value) < _SSL_HEAD.size:
        raise WireError("PROXY header: an SSL TLV is too short")
    client, verify = _SSL_HEAD.unpack_from(value)
    said: dict[str, str | bool] = {}
    for kind, _, part in split(value[_SSL_HEAD.size :], "TLV inside of SSL"):
        if kind == _SSL_VERSION and client & _BY_TLS:
            said["tls_version"] = _text(part, "TLS version")
        elif kind == _SSL_CIPHER and client & _BY_TLS:
            said["cipher"] = _text(part, "cipher")
        elif kind == _SSL_CN and client & _SHOWED_CERTIFICATE:
            said["client_name"] = _text(part, "client's name")
    if client & _BY_TLS:
        said.setdefault("tls_version", "TLS")
    said["client_verified"] = bool(client & _SHOWED_CERTIFICATE) and not verify
    return said


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"PROXY header: the {what} is not UTF-8") from error


def write(told: Told) -> list[Tlv]:
    """The TLVs that say it, without a checksum: that is the header's (`build_v2`)."""
    tlvs: list[Tlv] = []
    _add(tlvs, ALPN, told.alpn.encode("latin-1") if told.alpn else None)
    _add(tlvs, AUTHORITY, told.authority.encode() if told.authority else None)
    if told.tls_version is not None:
        tlvs.append((SSL, _ssl(told, told.tls_version)))
    if told.unique_id is not None and len(told.unique_id) <= MAX_UNIQUE_ID:
        tlvs.append((UNIQUE_ID, told.unique_id))
    return tlvs


def _ssl(told: Told, version: str) -> bytes:
    """`verify` is zero only where a certificate was shown and found good (section 2.2.6)."""
    showed = told.client_verified or told.client_name is not None
    parts: list[Tlv] = []
    _add(parts, _SSL_VERSION, version.encode())
    _add(parts, _SSL_CN, told.client_name.encode() if told.client_name else None)
    _add(parts, _SSL_CIPHER, told.cipher.encode() if told.cipher else None)
    head = _SSL_HEAD.pack(_BY_TLS | (_CERTIFICATE if showed else 0), 0 if told.client_verified else 1)
    return head + join(parts)


def _add(tlvs: list[Tlv], kind: int, value: bytes | None) -> None:
    if value is not None and len(value) <= MAX_NAME:
        tlvs.append((kind, value))


def join(tlvs: Iterable[Tlv]) -> bytes:
    """As they stand in a header."""
    return b"".join([_TLV.pack(kind, len(value)) + value for kind, value in tlvs])


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC-32 of `data` (RFC 9260 appendix A), as the checksum TLV carries it."""
    crc = 0xFFFFFFFF
    table = _CRC32C_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
