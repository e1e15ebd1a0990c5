"""The server's side of an SMTP session, without a socket: bytes in, events and replies out.

How it is driven:

1. `greeting()` gives the bytes of the banner.
2. `receive(data)` takes bytes, in any pieces; then `next_event()` until it gives None. `Data` is the only event that
   carries message octets; they are the caller's.
3. Events that ask (`Mail`, `Recipient`, `EndOfData`, `Auth`, `StartTls`) stop the machine until `answer(reply)`; after
   a 220 to `StartTls` it stands still until `tls_started()`. What the client pipelined behind them waits meanwhile; the
   caller stops reading, or it grows.
4. `take_output()` gives all replies that have gathered, in order, to be written at once. After `closed` is true there
   will be no more of them, and the connection ends once they are written.

Laws: replies in the order of the commands; nothing is read past STARTTLS, and whatever was pipelined behind it ends
the session; a second EHLO is a RSET; DATA is read to its true end whatever is wrong with it; AUTH is neither offered
nor taken in clear. RFC 5321, 1870, 2034, 2920, 3207, 4954, 6152.
"""

from __future__ import annotations

from collections.abc import Callable

from dcrouter.errors import WireError
from dcrouter.wire.sasl import Credentials, Exchange, encode
from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.command import (
    FOREIGN,
    KNOWN_ELSEWHERE,
    MAX_AUTH_LINE,
    MAX_COMMAND_LINE,
    Sender,
    parse_auth,
    parse_greeting,
    parse_mail,
    parse_recipient,
    parse_response,
)
from dcrouter.wire.smtp.conduct import Conduct
from dcrouter.wire.smtp.data import Unstuffer
from dcrouter.wire.smtp.events import Event, Limits
from dcrouter.wire.smtp.input import Input
from dcrouter.wire.smtp.reply import reply

_OK = b"250 2.0.0 OK\r\n"
_GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
_BAD_SEQUENCE = b"503 5.5.1 Bad sequence of commands"
_NO_ARGUMENT = b"501 5.5.4 This command takes no argument"
_FLAWS = {
    "stray": b"550 5.5.2 Lone CR, LF or NUL in the message; lines end with CRLF",
    "long-line": b"554 5.6.0 A line of the message is longer than 65536 octets",
}
_TOO_BIG = b"552 5.3.4 Message too big"
_TOO_LONG = b"500 5.5.2 Line too long"
_TLS_FIRST = b"530 5.7.0 Must issue a STARTTLS command first"
_EHLO_FIRST = b"503 5.5.1 EHLO first"


class Server:
    """One session. `helo`: the client's name, "" before it said one; `esmtp`: it said it with EHLO; `tls`: after
    `tls_started`; `authenticated`: after a 235.
    """

    def __init__(self, limits: Limits, *, tls: bool = False) -> None:
        self.helo = ""
        self.esmtp = False
        self.tls = tls
        self.authenticated = False
        self.closed = False
        self.last_words = ""
        self.draining = False
        self._limits = limits
        self._input = Input()
        self._output: list[bytes] = []
        self._asked: str | None = None
        self._sender: Sender | None = None
        self._recipients = 0
        self._data: Unstuffer | None = None
        self._exchange: Exchange | None = None
        self._size = 0
        self._conduct = Conduct()

    def greeting(self) -> bytes:
        return f"220 {self._limits.hostname} {self._limits.banner}\r\n".encode("ascii", "replace")

    @property
    def waiting(self) -> bool:
        """Whether an answer or the TLS handshake is awaited."""
        return self._asked is not None

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way: the moment at which a draining server may close."""
        return self._sender is None

    @property
    def in_data(self) -> bool:
        """Whether message octets are what comes next."""
        return self._data is not None

    def receive(self, data: bytes) -> None:
        if not self.closed:
            self._input.add(data)

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        return output

    def next_event(self) -> Event | None:
        """The next thing the caller must do, or None: more bytes, an answer or the end are awaited."""
        while self._asked is None and not self.closed:
            if self._data is not None:
                if self._input.empty:
                    return None
                event = self._read_data()
            else:
                longest = MAX_AUTH_LINE if self.tls and self._auth_comes_next() else MAX_COMMAND_LINE
                line = self._input.line(longest)
                if line is None:
                    return None
                event = self._run(line, longest)
            if event is not None:
                return event
        return None

    def answer(self, reply: bytes) -> None:
        """The reply, CRLF included, to the event that asked. 421 ends the session."""
        asked, self._asked = self._asked, None
        accepted = reply.startswith(b"2")
        last: bytes | None = None
        if asked == "MAIL":
            if not accepted:
                self._sender = None
        elif asked == "RCPT":
            if accepted:
                self._recipients += 1
            else:
                last = self._conduct.refused_recipient()
        elif asked == "DATA":
            self._sender = None
            self._recipients = 0
            if accepted:
                self._conduct.message()
        elif asked == "AUTH":
            self.authenticated = accepted
            if not accepted:
                last = self._conduct.failed_login()
        elif asked == "STARTTLS":
            self._asked = "TLS" if accepted else None
        else:
            raise RuntimeError("nothing was asked")
        self._output.append(reply)
        if reply.startswith(b"421"):
            self.last_words = reply.decode("ascii").rstrip()
            self._end()
        elif last is not None:
            self.close(last)

    def tls_started(self) -> None:
        """The handshake is done: no state of the clear session survives (RFC 3207 4.2)."""
        self.tls = True
        self.helo = ""
        self.esmtp = False
        self.authenticated = False
        self._sender = None
        self._recipients = 0
        self._exchange = None
        self._asked = None

    def close(self, reply: bytes) -> None:
        """The last reply (without its CRLF): whatever the client sends from now on is not read."""
        self.last_words = reply.decode("ascii")
        self._output.append(reply + b"\r\n")
        self._end()

    # ------------------------------------------------------------------ message octets

    def _read_data(self) -> Event | None:
        assert self._data is not None
        octets, rest = self._data.receive(self._input.take())
        if rest:
            self._input.put_back(rest)
        self._size += len(octets)
        too_big = self._size > self._limits.max_size
        if not self._data.ended:
            return events.Data(octets) if octets and not too_big else None
        flaw, dotless = self._data.flaw, self._data.dotless
        self._data = None
        self._asked = "DATA"
        if flaw is not None:
            self._conduct.error()
            return events.EndOfData(b"", _FLAWS[flaw])
        return events.EndOfData(b"", _TOO_BIG) if too_big else events.EndOfData(octets, None, dotless)

    # ------------------------------------------------------------------ commands

    def _auth_comes_next(self) -> bool:
        """Whether a line of up to MAX_AUTH_LINE octets may come under TLS: RFC 4954 4 gives it to AUTH alone."""
        return self._exchange is not None or self._input.begins_with(b"AUTH ")

    def _run(self, line: bytes, longest: int) -> Event | None:
        exchange, self._exchange = self._exchange, None
        if len(line) > longest:
            return self._error(_TOO_LONG if longest == MAX_COMMAND_LINE else b"500 5.5.6 Authentication line too long")
        if not line.endswith(b"\r"):
            return self._leave(b"500 5.5.2 Lines end with CRLF, not with a lone LF")
        text = line[:-1].decode("utf-8", "replace")
        try:
            return self._obey(text) if exchange is None else self._proceed(exchange, parse_response(text))
        except WireError as error:
            return self._error(error.reply or b"501 5.5.4 Syntax error")

    def _obey(self, line: str) -> Event | None:
        verb, _, argument = line.partition(" ")
        if "\r" in argument or "\0" in argument:
            return self._error(b"500 5.5.2 Lone CR or NUL in a command")
        command = _COMMANDS.get(verb) or _COMMANDS.get(verb.upper() if verb.isascii() else "")
        return command(self, argument.rstrip(" ")) if command is not None else self._unknown(verb.upper())

    def _unknown(self, verb: str) -> Event | None:
        if verb in FOREIGN:
            return self._leave(b"502 5.5.1 This is a mail server")
        if verb in KNOWN_ELSEWHERE:
            return self._error(b"502 5.5.1 Command not implemented")
        return self._error(b"500 5.5.2 Command not recognized")

    def _ehlo(self, argument: str) -> Event | None:
        self.helo = parse_greeting(argument)
        self.esmtp = True
        return self._restart(
            reply(250, f"{self._limits.hostname} greets {self.helo}", *self._limits.keywords(self.tls))
        )

    def _helo(self, argument: str) -> Event | None:
        self.helo = parse_greeting(argument)
        self.esmtp = False
        return self._restart(reply(250, self._limits.hostname))

    def _mail(self, argument: str) -> Event | None:
        if self.draining:
            return self._leave(b"421 4.3.2 This server is closing")
        if not self.helo or self._sender is not None:
            return self._error(_BAD_SEQUENCE)
        if self._limits.tls_required and not self.tls:
            return self._error(_TLS_FIRST)
        if self._limits.auth_required and not self.authenticated:
            return self._error(b"530 5.7.0 Authentication required")
        sender = parse_mail(argument)
        if sender.size is not None and sender.size > self._limits.max_size:
            return self._error(_TOO_BIG)
        self._sender = sender
        self._recipients = 0
        self._asked = "MAIL"
        return events.Mail(sender)

    def _rcpt(self, argument: str) -> Event | None:
        if self._sender is None:
            return self._error(_BAD_SEQUENCE)
        address = parse_recipient(argument)
        if self._recipients >= self._limits.max_recipients:
            return self._say(b"452 4.5.3 Too many recipients\r\n")
        self._asked = "RCPT"
        return events.Recipient(address)

    def _start_data(self, argument: str) -> Event | None:
        if self._sender is None:
            refusal = _BAD_SEQUENCE
        elif argument:
            refusal = _NO_ARGUMENT
        elif not self._recipients:
            refusal = b"554 5.5.1 No valid recipients"
        else:
            self._data = Unstuffer()
            self._size = 0
            self._say(_GO_AHEAD)
            return events.DataStart()
        if not self._input.empty and self._input.word() not in _COMMANDS:
            # What was pipelined behind it is no next command (RFC 2920) but the message itself.
            return self._leave(b"554 5.5.0 Message sent without waiting for 354")
        return self._error(refusal)

    def _rset(self, argument: str) -> Event | None:
        if argument:
            return self._error(_NO_ARGUMENT)
        return self._restart(_OK)

    def _noop(self, argument: str) -> Event | None:
        return self._idle(_OK)

    def _vrfy(self, argument: str) -> Event | None:
        if not argument:
            return self._error(b"501 5.5.4 Expected an address")
        return self._idle(b"252 2.5.0 Cannot verify, but will accept a message and try to deliver it\r\n")

    def _help(self, argument: str) -> Event | None:
        return self._idle(b"214 2.0.0 See RFC 5321\r\n")

    def _quit(self, argument: str) -> Event | None:
        if argument:
            return self._error(_NO_ARGUMENT)
        return self._leave(b"221 2.0.0 Bye")

    def _starttls(self, argument: str) -> Event | None:
        if self.tls:
            return self._error(b"503 5.5.1 TLS is active already")
        if not self._limits.starttls:
            return self._error(b"502 5.5.1 STARTTLS is not offered")
        if argument:
            return self._error(_NO_ARGUMENT)
        if not self.esmtp:
            return self._error(_EHLO_FIRST)
        if not self._input.empty:
            return self._leave(b"554 5.5.0 Nothing may follow STARTTLS before the TLS handshake")
        self._asked = "STARTTLS"
        return events.StartTls()

    # ------------------------------------------------------------------ AUTH

    def _auth(self, argument: str) -> Event | None:
        if not self._limits.auth:
            return self._error(b"502 5.5.1 AUTH is not offered")
        if not self.esmtp:
            return self._error(_EHLO_FIRST)
        if not self.tls:
            return self._error(
                _TLS_FIRST if self._limits.tls_required else b"538 5.7.11 Encryption is required: STARTTLS first"
            )
        if self.authenticated:
            return self._error(b"503 5.5.1 Already authenticated")
        if self._sender is not None:
            return self._error(b"503 5.5.1 Not within a transaction")
        mechanism, initial = parse_auth(argument)
        if mechanism not in self._limits.auth:
            return self._error(b"504 5.5.4 Unrecognized authentication type")
        return self._proceed(Exchange(mechanism), initial)

    def _proceed(self, exchange: Exchange, response: bytes | None) -> Event | None:
        """The exchange's next step: a challenge, or what the caller must judge."""
        step = exchange.receive(response)
        if isinstance(step, Credentials):
            self._asked = "AUTH"
            return events.Auth(step)
        self._exchange = exchange
        return self._say(b"334 " + encode(step) + b"\r\n")

    # ------------------------------------------------------------------ replies

    # What answers a command gives None for an event, so that a command can end with it.

    def _say(self, line: bytes) -> Event | None:
        self._output.append(line)
        return None

    def _restart(self, line: bytes) -> Event | None:
        began, undone = self._sender is not None, self._recipients
        self._sender = None
        self._recipients = 0
        self._idle(line, undone)
        return events.Reset() if began else None

    def _idle(self, line: bytes, undone: int = 0) -> Event | None:
        """A reply to a command that gets nobody further."""
        self._say(line)
        return self._last(self._conduct.idle(undone))

    def _error(self, line: bytes) -> Event | None:
        self._say(line + b"\r\n")
        return self._last(self._conduct.error())

    def _last(self, words: bytes | None) -> Event | None:
        return self._leave(words) if words is not None else None

    def _leave(self, line: bytes) -> Event | None:
        self.close(line)
        return None

    def _end(self) -> None:
        self.closed = True
        self._sender = None
        self._data = None
        self._exchange = None
        self._asked = None
        self._input.clear()


_COMMANDS: dict[str, Callable[[Server, str], Event | None]] = {
    "EHLO": Server._ehlo,
    "HELO": Server._helo,
    "MAIL": Server._mail,
    "RCPT": Server._rcpt,
    "DATA": Server._start_data,
    "RSET": Server._rset,
    "NOOP": Server._noop,
    "VRFY": Server._vrfy,
    "HELP": Server._help,
    "QUIT": Server._quit,
    "STARTTLS": Server._starttls,
    "AUTH": Server._auth,
}
