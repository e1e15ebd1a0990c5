"""What each verb is answered in each state of a session, found by asking the machine: `docs/smtp-states.md`.

`python -m dcrouter.wire.smtp.states` prints the page; a test and CI compare it with the one that is kept.
"""

from __future__ import annotations

import sys

from attrs import evolve

from dcrouter.wire.smtp import events
from dcrouter.wire.smtp.parameters import Offers
from dcrouter.wire.smtp.server import Server

_SMTP = events.Limits(
    hostname="mx.example",
    max_size=1000,
    max_recipients=2,
    starttls=True,
    auth=("PLAIN", "LOGIN"),
    offers=Offers(requiretls=True),
    now=lambda: 0.0,
    strict=True,
)
_SUBMISSION = evolve(_SMTP, tls_required=True, auth_required=True)
_TRUSTED = evolve(_SMTP, xclient=True, strict=False)

_LOGIN = "AUTH PLAIN AGEAYg=="
_MAIL, _RCPT = "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>"
_STATES = (
    ("greeted", ()),
    ("HELO", ("HELO c.example",)),
    ("EHLO", ("EHLO c.example",)),
    ("EHLO, TLS", ("EHLO c.example", "STARTTLS", "EHLO c.example")),
    ("logged in", ("EHLO c.example", "STARTTLS", "EHLO c.example", _LOGIN)),
    ("MAIL", ("EHLO c.example", _MAIL)),
    ("RCPT", ("EHLO c.example", _MAIL, _RCPT)),
    ("BDAT", ("EHLO c.example", _MAIL, _RCPT, "BDAT 0")),
    ("message taken", ("EHLO c.example", _MAIL, _RCPT, "BDAT 0 LAST")),
)
_OF_USERS = tuple(
    (name, lines if name in ("greeted", "HELO", "EHLO", "EHLO, TLS", "logged in") else (*_STATES[4][1], *lines[1:]))
    for name, lines in _STATES
)
_VERBS = (
    ("`HELO`", "HELO c.example"),
    ("`EHLO`", "EHLO c.example"),
    ("`STARTTLS`", "STARTTLS"),
    ("`AUTH`", _LOGIN),
    ("`XCLIENT`", "XCLIENT ADDR=192.0.2.1"),
    ("`MAIL`", _MAIL),
    ("`MAIL` with SIZE too big", f"{_MAIL} SIZE=1001"),
    ("`RCPT`", _RCPT),
    ("`DATA`", "DATA"),
    ("`BDAT 0`", "BDAT 0"),
    ("`BDAT 0 LAST`", "BDAT 0 LAST"),
    ("`RSET`", "RSET"),
    ("`NOOP`", "NOOP"),
    ("`VRFY`", "VRFY someone"),
    ("`HELP`", "HELP"),
    ("`QUIT`", "QUIT"),
    ("`EXPN`, `ETRN`, `TURN`, ...", "EXPN list"),
    ("`GET`, `POST`, ...", "GET / HTTP/1.1"),
    ("a lone LF", "NOOP\n"),
    ("anything else", "FOO"),
    ("a line of 3000 octets", "x" * 3000),
)

_HEAD = """# SMTP: state and verb

Made from the server's machine by `python -m dcrouter.wire.smtp.states`; not written by hand. Each cell is the reply to
a verb in a state, where the rules, the limits and the queue take whatever they are asked about. **end** means that the
connection is closed behind the reply. The states are what the client has last succeeded in; in the columns from `MAIL`
to `BDAT` a transaction is open. RFC 5321 4.1.4 (order), 4.2; RFC 2034; RFC 3030; RFC 3207; RFC 4954.
"""


def page() -> str:
    """The document."""
    parts = [_HEAD]
    for title, limits, states in (
        ("A port of kind `smtp`", _SMTP, _STATES),
        ("A port of kind `submission`, with `require_tls: submission`", _SUBMISSION, _OF_USERS),
        ("For a peer in `xclient_from`", _TRUSTED, _STATES),
    ):
        parts.append(f"## {title}\n\n| | {' | '.join(name for name, _ in states)} |\n|---{'|---' * len(states)}|")
        verbs = _VERBS if limits is not _TRUSTED else tuple(one for one in _VERBS if "XCLIENT" in one[0])
        for name, line in verbs:
            cells = [replied(limits, before, line) for _, before in states]
            parts.append(f"| {name} | {' | '.join(cells)} |")
        parts[-1] += "\n"
    return "\n".join(parts)


def replied(limits: events.Limits, before: tuple[str, ...], line: str) -> str:
    """`250 2.0.0`, or `250` where the reply has no enhanced code, to `line` after the lines of `before`."""
    machine = Server(limits)
    machine.greeting()
    for one in before:
        _send(machine, one)
    text = _send(machine, line).decode("ascii").splitlines()[-1]
    code, _, words = text.partition(" ")
    enhanced = words.split(" ")[0]
    shown = f"{code} {enhanced}" if enhanced.count(".") == 2 and enhanced.replace(".", "").isdigit() else code
    return f"{shown}, **end**" if machine.closed else shown


def _send(machine: Server, line: str) -> bytes:
    machine.receive(line.encode() + (b"" if line.endswith("\n") else b"\r\n"))
    while (event := machine.next_event()) is not None:
        if isinstance(event, events.Auth):
            machine.answer(b"235 2.7.0 OK\r\n")
        elif isinstance(event, events.StartTls | events.XClient):
            machine.answer(b"220 2.0.0 Go\r\n" if isinstance(event, events.StartTls) else machine.greeting())
        elif isinstance(event, events.Mail):
            machine.answer(b"250 2.1.0 OK\r\n")
        elif isinstance(event, events.Recipient):
            machine.answer(b"250 2.1.5 OK\r\n")
        elif isinstance(event, events.EndOfData):
            machine.answer(b"250 2.0.0 Queued\r\n")
    output = machine.take_output()
    if machine.asked == "TLS":
        machine.tls_started()
    return output


if __name__ == "__main__":
    sys.stdout.write(page())
