"""What the server's side says of itself: replies to all that is not asked of its caller. RFC 5321 4.2, RFC 3463.

Those without a CRLF are errors and last words; `Session` adds it.
"""

from __future__ import annotations

OK = b"250 2.0.0 OK\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
CANNOT_VERIFY = b"252 2.5.0 Cannot verify, but will accept a message and try to deliver it\r\n"
HELP = b"214 2.0.0 See RFC 5321\r\n"
TOO_MANY_RECIPIENTS = b"452 4.5.3 Too many recipients\r\n"
TOO_MUCH_MAIL = b"451 4.7.1 Too much mail, try again later\r\n"
FULL = b"452 4.3.1 Insufficient system storage\r\n"

BYE = b"221 2.0.0 Bye"
CLOSING = b"421 4.3.2 This server is closing"
BUSY = b"421 4.3.2 Too many connections, try again later"

NOT_RECOGNIZED = b"500 5.5.2 Command not recognized"
NOT_IMPLEMENTED = b"502 5.5.1 Command not implemented"
NOT_MAIL = b"502 5.5.1 This is a mail server"
SYNTAX = b"501 5.5.4 Syntax error"
NO_ARGUMENT = b"501 5.5.4 This command takes no argument"
NO_ADDRESS = b"501 5.5.4 Expected an address"
LINE_TOO_LONG = b"500 5.5.2 Line too long"
AUTH_LINE_TOO_LONG = b"500 5.5.6 Authentication line too long"
LONE_LF = b"500 5.5.2 Lines end with CRLF, not with a lone LF"
STRAY_IN_COMMAND = b"500 5.5.2 Lone CR or NUL in a command"

BAD_SEQUENCE = b"503 5.5.1 Bad sequence of commands"
IN_TRANSACTION = b"503 5.5.1 Not within a transaction"
EHLO_FIRST = b"503 5.5.1 EHLO first"
TLS_FIRST = b"530 5.7.0 Must issue a STARTTLS command first"
LOGIN_FIRST = b"530 5.7.0 Authentication required"
NO_RECIPIENTS = b"554 5.5.1 No valid recipients"
BAD_CHUNK = b"501 5.5.4 Expected BDAT size [LAST]"
DATA_AND_BDAT = b"503 5.5.1 DATA and BDAT are not mixed"
BINARY_BY_BDAT = b"503 5.5.1 BODY=BINARYMIME comes by BDAT"
NOT_WAITED = b"554 5.5.0 Message sent without waiting for 354"
NOT_PIPELINED = b"554 5.5.0 Commands sent without waiting for the reply (RFC 2920)"

TLS_ACTIVE = b"503 5.5.1 TLS is active already"
NO_STARTTLS = b"502 5.5.1 STARTTLS is not offered"
AFTER_STARTTLS = b"554 5.5.0 Nothing may follow STARTTLS before the TLS handshake"

NO_AUTH = b"502 5.5.1 AUTH is not offered"
AUTH_IN_CLEAR = b"538 5.7.11 Encryption is required: STARTTLS first"
AUTH_AGAIN = b"503 5.5.1 Already authenticated"
UNKNOWN_MECHANISM = b"504 5.5.4 Unrecognized authentication type"

TOO_BIG = b"552 5.3.4 Message too big"
CHUNK = b"250 2.0.0 %d octets received\r\n"
FLAWS = {
    "stray": b"550 5.5.2 Lone CR, LF or NUL in the message; lines end with CRLF",
    "long-line": b"554 5.6.0 A line of the message is longer than 65536 octets",
}
