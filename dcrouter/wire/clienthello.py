"""The TLS ClientHello, read from the bytes that a connection begins with.

Contract: `parse` takes all bytes received so far, from the first one on (they are peeked, never consumed), and gives
the hello, None (more are needed: `needed` says up to where) or raises WireError, whose reply is a TLS alert record. The
handshake message may be spread over several segments and records.

RFC 8446 sections 4.1.2, 4.2 and 5.1 (TLS 1.3), RFC 5246 section 7.4.1.2 (TLS 1.2), RFC 6066 section 3 (SNI),
RFC 7301 section 3.1 (ALPN), RFC 8701 (GREASE).
"""

from __future__ import annotations

import re
import struct

from attrs import frozen

from dcrouter.errors import WireError
from dcrouter.wire.hostname import host_name

MAX_HELLO = 65536
"""Bytes from the start of the connection to the end of the hello, record headers included: 40 times today's usual one,
and no more than a receive buffer can be made to hold while it is peeked."""

MAX_RECORDS = 2048
"""Records that one hello may be cut into: enough for a usual one byte by byte, and walked in half a millisecond."""

MAX_FRAGMENT = 16384
"""Bytes in one plaintext record (RFC 8446 section 5.1)."""

ALERT_DECODE_ERROR = b"\x15\x03\x03\x00\x02\x02\x32"
ALERT_INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"
ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"

GREASE = frozenset(value << 8 | value for value in range(0x0A, 0x100, 0x10))
"""Values that clients mix in to keep servers tolerant (RFC 8701 section 2); they are left out of what `parse` gives."""

_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43
_TLS12 = b"\x03\x03"
_EAGER_RECORDS = 16

_RECORD = struct.Struct(">BBxH")
_RECORD_AND_HANDSHAKE = struct.Struct(">BBxHBBH")
_BEGINNING = struct.Struct(">H32xB")
"""The legacy version, the random and the length of the session id."""
_U16 = struct.Struct(">H")
_EXTENSION = struct.Struct(">HH")
_NAME_ENTRY = struct.Struct(">HBH")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")


@frozen(kw_only=True)
class ClientHello:
    """What routing needs of a hello, in the client's order and without GREASE.

    `sni`: lower case, no final dot, A-labels; None where none was sent, or an IPv4 literal, which is no name there
    (RFC 6066 section 3). `alpn`: protocol names, one character per byte. `versions`: those of supported_versions, else
    the legacy one; 0x0303 is TLS 1.2. `length`: bytes from the start of the connection to the end of the last record.
    """

    sni: str | None
    alpn: tuple[str, ...]
    length: int
    _versions: bytes

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(number for (number,) in _U16.iter_unpack(self._versions) if number not in GREASE)


def looks_like_tls(first: bytes) -> bool:
    """Whether a connection that begins with `first` (any number of bytes) can be a TLS client's; False for none."""
    return first[:1] == b"\x16" and first[1:2] in (b"\x03", b"") and first[5:6] in (b"\x01", b"")


def parse(data: bytes | memoryview) -> ClientHello | None:
    """The hello at the start of `data`, None while it is incomplete; WireError (reply: an alert record) on all else."""
    raw = data if type(data) is bytes else bytes(data)
    found = _assemble(raw)
    if isinstance(found, int):
        return None
    return _hello(*found)


def needed(data: bytes | memoryview) -> int:
    """How many bytes from the start must be there before `parse` can get further than with `data`.

    That is the end of a record or of a record header; past the first few records, the least in which the rest can come,
    so that a hello dribbled in tiny records is not walked again for each. Never more than len(data) where `parse` has
    its answer, be it an error.
    """
    raw = data if type(data) is bytes else bytes(data)
    try:
        found = _assemble(raw)
    except WireError:
        return len(raw)
    return found if isinstance(found, int) else found[3]


def _broken(why: str) -> WireError:
    return WireError(f"ClientHello: {why}", ALERT_DECODE_ERROR)


def _assemble(raw: bytes) -> tuple[bytes, int, int, int] | int:
    """(buffer, start, end, length), the message's body being buffer[start:end]; an int, as of `needed`, for None."""
    size = len(raw)
    if size >= 9:
        kind, major, length, message, high, low = _RECORD_AND_HANDSHAKE.unpack_from(raw)
        # The usual case: one record that holds the message and nothing else.
        if (
            kind == 0x16
            and major == 3
            and message == 1
            and length == (high << 16 | low) + 4 <= size - 5 <= MAX_HELLO - 5
        ):
            if length > MAX_FRAGMENT:
                raise _broken("a record is too long")
            return raw, 9, length + 5, length + 5
    return _reassemble(raw, size)


def _reassemble(raw: bytes, size: int) -> tuple[bytes, int, int, int] | int:
    """As `_assemble`, for any number of records."""
    begun = b""
    position = collected = records = total = 0  # total: the message with its header, 0 while unknown
    unpack = _RECORD.unpack_from
    while size - position >= 5:
        kind, major, length = unpack(raw, position)
        if kind != 0x16 or major != 3:
            raise _not_a_record(raw, position)
        if not 0 < length <= MAX_FRAGMENT:
            raise _broken("a record is empty or too long")
        if not total:
            begun += raw[position + 5 : position + 5 + min(length, 4)]
            total = _message_size(begun)
        records += 1
        collected += length
        position += 5 + length
        if collected >= total > 0:
            break
    if records > MAX_RECORDS:
        raise _broken("cut into too many records")
    if collected == total > 0:
        return (_joined(raw, position), 4, total, position) if size >= _within_bounds(position) else position
    if collected > total > 0:
        raise _broken("bytes after it in its record")
    least = total - collected if records > _EAGER_RECORDS else 0
    if position > size:
        # Where it is known to go on behind this record, nothing is won before the next one's header.
        return _within_bounds(position + 5 + least if total else position)
    if raw[position : position + 2] not in (b"", b"\x16", b"\x16\x03"):
        raise _not_a_record(raw, position)
    return _within_bounds(position + 5 + least)


def _joined(raw: bytes, end: int) -> bytes:
    """The content of the records that raw[:end] consists of."""
    pieces = []
    position = 0
    while position < end:
        start = position + 5
        position = start + _RECORD.unpack_from(raw, position)[2]
        pieces.append(raw[start:position])
    return b"".join(pieces)


def _not_a_record(raw: bytes, position: int) -> WireError:
    """With a guess, for the log, at what came instead of TLS."""
    if position:
        return _broken("a record of another kind inside it")
    if raw[0] & 0x80 and raw[2:3] == b"\x01":
        return _broken("an SSLv2 hello")
    return _broken("not TLS")


def _within_bounds(end: int) -> int:
    if end > MAX_HELLO:
        raise _broken("too long")
    return end


def _message_size(start: bytes) -> int:
    """The size of the handshake message that begins so, its header of 4 bytes included; 0 while unknown."""
    if start and start[0] != 1:
        raise _broken("another handshake message in its place")
    return _within_bounds(9 + int.from_bytes(start[1:4], "big")) - 5 if len(start) >= 4 else 0


def _hello(raw: bytes, position: int, end: int, length: int) -> ClientHello:
    """Reads raw[position:end], the message without its header (RFC 8446 section 4.1.2)."""
    if end - position < 41:
        raise _broken("too short")
    legacy, session_id = _BEGINNING.unpack_from(raw, position)
    if legacy >> 8 != 3:
        raise _broken("an unknown version")
    versions = min(raw[position : position + 2], _TLS12)
    position += 35 + session_id
    if session_id > 32 or position + 2 > end:
        raise _broken("a bad session id")
    suites = _U16.unpack_from(raw, position)[0]
    position += 2 + suites
    if not suites or suites & 1 or position >= end:
        raise _broken("bad cipher suites")
    methods = position + 1
    position = methods + raw[position]
    if position > end or 0 not in raw[methods:position]:
        raise _broken("bad compression methods")

    sni: str | None = None
    alpn: tuple[str, ...] = ()
    if position < end:  # TLS 1.2 may do without extensions
        starts = _extensions(raw, position, end)
        if (start := starts.get(_SERVER_NAME)) is not None:
            sni = _server_name(_value(raw, start))
        if (start := starts.get(_ALPN)) is not None:
            alpn = _protocols(_value(raw, start))
        if (start := starts.get(_SUPPORTED_VERSIONS)) is not None:
            versions = _versions(_value(raw, start))
    return ClientHello(sni=sni, alpn=alpn, length=length, versions=versions)


def _extensions(raw: bytes, position: int, end: int) -> dict[int, int]:
    """Where each extension in raw[position:end] starts, by its kind (RFC 8446 section 4.2)."""
    if position + 2 > end or position + 2 + _U16.unpack_from(raw, position)[0] != end:
        raise _broken("a bad length of extensions")
    position += 2
    starts: dict[int, int] = {}
    count = 0
    last = end - 4
    unpack = _EXTENSION.unpack_from
    # The longest loop of a connection: some fifteen rounds.
    while position <= last:
        kind, size = unpack(raw, position)
        starts[kind] = position
        position += size + 4
        count += 1
    if position != end:
        raise _broken("an extension is cut off or too long")
    if len(starts) != count:
        raise _broken("an extension comes twice")
    return starts


def _value(raw: bytes, start: int) -> bytes:
    return raw[start + 4 : start + 4 + _EXTENSION.unpack_from(raw, start)[1]]


def _server_name(value: bytes) -> str | None:
    """RFC 6066 section 3: a list of names, of which there is one kind and may be one of a kind."""
    size = len(value)
    if size < 6:
        raise _broken("a bad server name")
    listed, kind, length = _NAME_ENTRY.unpack_from(value)
    if listed != size - 2 or kind != 0 or length != size - 5:
        raise _broken("a bad server name, or several")
    try:
        name = host_name(value[5:])
    except ValueError as error:
        raise _broken(f"a bad server name: {error}") from error
    return None if name[-1].isdigit() and _IPV4.fullmatch(name) else name


def _protocols(value: bytes) -> tuple[str, ...]:
    """RFC 7301 section 3.1: a list of names of 1 to 255 bytes."""
    size = len(value)
    if size < 4 or _U16.unpack_from(value)[0] != size - 2:
        raise _broken("bad ALPN")
    names = []
    position = 2
    while position < size:
        start = position + 1
        position = start + value[position]
        if position > size or position == start:
            raise _broken("bad ALPN")
        name = value[start:position]
        if not (len(name) == 2 and _U16.unpack(name)[0] in GREASE):
            names.append(name.decode("latin-1"))
    return tuple(names)


def _versions(value: bytes) -> bytes:
    """RFC 8446 section 4.2.1: what is behind the length of a list of 16-bit numbers."""
    size = len(value) - 1
    if size < 2 or size & 1 or value[0] != size:
        raise _broken("a bad list of versions")
    return value[1:]
