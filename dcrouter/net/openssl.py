"""What is asked of OpenSSL for every record, straight: a read, a write, a step of the handshake.

pyOpenSSL makes and copies a buffer for each read and raises for each "not yet", which beside a handshake of 0.3 ms is a
tenth of a connection's work. Here each answer is a value. All else stays with pyOpenSSL: its Connection owns the
session, and says in its own exceptions what has broken one.

Contract: a result, or one of the negative numbers below. Of pyOpenSSL the names `_ssl`, `_raise_ssl_error` and what
ServerSession uses are borrowed, of cryptography those of `Binding().lib` (tests/net/test_openssl.py; CI runs it with
the lowest versions too). SSL_read(3), SSL_write(3), SSL_get_error(3).
"""

from __future__ import annotations

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

_library, _ffi = Binding().lib, Binding().ffi
_new, _free, _set_fd = _library.SSL_new, _library.SSL_free, _library.SSL_set_fd
_set_accept_state = _library.SSL_set_accept_state
_do_handshake, _read, _write = _library.SSL_do_handshake, _library.SSL_read, _library.SSL_write
_shutdown, _version = _library.SSL_shutdown, _library.SSL_version
_get_error, _peek_error = _library.SSL_get_error, _library.ERR_peek_error
_reason, clear_errors = _library.ERR_GET_REASON, _library.ERR_clear_error

READ_MORE = -_library.SSL_ERROR_WANT_READ
"""To be tried again when there is more to read."""
WRITE_MORE = -_library.SSL_ERROR_WANT_WRITE
"""To be tried again when there is room to write."""
CUT = -_library.SSL_ERROR_SSL
"""The peer's end came without close_notify: nobody knows whether something is missing (RFC 8446 section 6.1)."""

_RETRY = (READ_MORE, WRITE_MORE)
_END = -_library.SSL_ERROR_ZERO_RETURN
_CUT_OFF = _library.SSL_R_UNEXPECTED_EOF_WHILE_READING

RECORD = 16384
"""The most that a record holds, and one read gives (RFC 8446 section 5.1)."""
_buffer = _ffi.new("char[]", RECORD)
_content = memoryview(_ffi.buffer(_buffer))
"""One for all sessions: its bytes are copied out, or sent on, before the next read."""


class ServerSession(SSL.Connection):
    """The server's side of a session on the descriptor `fd`: pyOpenSSL's, less what only a few need.

    That remembers each Connection, weakly, for callbacks of its context to find it; most contexts have none.
    """

    def __init__(self, context: SSL.Context, fd: int) -> None:
        session = _new(context._context)
        if not session:
            raise MemoryError("OpenSSL has none for a session")
        self._context = context
        self._socket = None
        self._ssl = _ffi.gc(session, _free)
        if context._alpn_select_helper is not None or context._verify_helper is not None:
            self._reverse_mapping[self._ssl] = self
        if _set_fd(session, fd) != 1:
            raise MemoryError("OpenSSL has none for a descriptor")
        _set_accept_state(session)


class Records:
    """The calls on one `connection`, which must not be used from two sides at once."""

    __slots__ = ("_connection", "_ssl")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        self._ssl = connection._ssl

    def handshake(self) -> int:
        """Go on with it: 1 when it is done, READ_MORE, WRITE_MORE; SSL.Error when it has failed."""
        result: int = _do_handshake(self._ssl)
        return result if result == 1 else self._why(result)

    def read(self, size: int) -> bytes | int:
        """At most `size` bytes of a record, b"" after close_notify; READ_MORE, WRITE_MORE, CUT; SSL.Error.

        Less than `size` and RECORD: that was the rest of the record.
        """
        result: int = _read(self._ssl, _buffer, size if size < RECORD else RECORD)
        if result > 0:
            return _content[:result].tobytes()
        return self._why(result) or b""

    def write(self, data: bytes | memoryview) -> int:
        """How many bytes were taken; READ_MORE, WRITE_MORE: the same bytes must be offered again; SSL.Error."""
        result: int = _write(self._ssl, data if type(data) is bytes else _ffi.from_buffer(data), len(data))
        return result if result > 0 else self._why(result)

    def shutdown(self) -> int:
        """Send close_notify: 0 or 1 when it is on its way, WRITE_MORE; SSL.Error."""
        result: int = _shutdown(self._ssl)
        return result if result >= 0 else self._why(result)

    def _why(self, result: int) -> int:
        """0 after close_notify."""
        outcome: int = -_get_error(self._ssl, result)
        if outcome in _RETRY:
            return outcome
        if outcome == _END:
            return 0
        if outcome == CUT and _reason(_peek_error()) == _CUT_OFF:
            clear_errors()
            return outcome
        self._connection._raise_ssl_error(self._ssl, result)
        raise AssertionError("OpenSSL failed without a reason")


def resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake went on with an earlier session (SSL_session_reused(3))."""
    return bool(_library.SSL_session_reused(connection._ssl))


def had_last_word(connection: SSL.Connection) -> bool:
    """Whether a finished handshake ended with the client's flight, unanswered: a session of TLS 1.2 that went on."""
    return bool(_version(connection._ssl) < SSL.TLS1_3_VERSION and _library.SSL_session_reused(connection._ssl))


def names_its_secret(connection: SSL.Connection) -> bool:
    """Whether both sides derived the extended master secret (RFC 7627): without, TLS 1.2's Finished binds little."""
    return int(_library.SSL_get_extms_support(connection._ssl)) == 1
