"""How long a client that gets nowhere is put up with: counts, and the last words when one is too high."""

from __future__ import annotations

MAX_ERRORS = 20
"""Errors of protocol before 421, counted anew after each message (Postfix: smtpd_hard_error_limit)."""

MAX_REFUSED_RECIPIENTS = 100
"""Refused recipients before 421, counted anew after each message: whoever tries more is reading an address book."""

MAX_IDLE_COMMANDS = 100
"""NOOP, RSET, VRFY, HELP, EHLO and HELO without a message between them, and the recipients of transactions that were
reset; each such command more counts as one error."""

MAX_FAILED_LOGINS = 3
"""Of one session; a mail client asks its user after the first."""


class Conduct:
    """One session's. Each method gives the reply that ends the session, without its CRLF, or None: it goes on."""

    __slots__ = ("_errors", "_failed_logins", "_idle", "_refused")

    def __init__(self) -> None:
        self._errors = self._refused = self._idle = self._failed_logins = 0

    def message(self) -> None:
        """A message was taken: all but failed logins is forgiven."""
        self._errors = self._refused = self._idle = 0

    def error(self) -> bytes | None:
        self._errors += 1
        return b"421 4.7.0 Too many errors" if self._errors >= MAX_ERRORS else None

    def refused_recipient(self) -> bytes | None:
        self._refused += 1
        return b"421 4.7.0 Too many refused recipients" if self._refused > MAX_REFUSED_RECIPIENTS else None

    def failed_login(self) -> bytes | None:
        self._failed_logins += 1
        return b"421 4.7.0 Too many failed logins" if self._failed_logins >= MAX_FAILED_LOGINS else None

    def idle(self, undone: int = 0) -> bytes | None:
        """A command that gets nobody further; `undone`: recipients that were accepted for nothing."""
        self._idle += 1 + undone
        if self._idle > MAX_IDLE_COMMANDS:
            self._errors += 1
        return b"421 4.7.0 Too many commands without a message" if self._errors >= MAX_ERRORS else None
