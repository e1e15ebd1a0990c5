"""How a client opens an SMTP or LMTP session: greeting, EHLO, STARTTLS and EHLO again, AUTH; each reply is a step.

1. `take(reply)` gives what has come of it: None (more is awaited), StartTls, Ready, or Unusable: there is no session.
2. At `StartTls` the caller does the handshake, then says `secured`: all that was announced in clear is forgotten.
3. `output` is what to say now; `phase` which reply is awaited, `tls` while the handshake is the caller's.

A server that refuses STARTTLS is spoken to in clear where TLS is only welcome, and not at all where it is required.
A login goes over TLS only; what a server says of it is repeated without anything that was sent to it.
RFC 5321 3.2, 4.1.1.1; RFC 3207; RFC 4954 (PLAIN: RFC 4616; LOGIN: as everybody does it); RFC 2033.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Literal, NamedTuple

from attrs import field, frozen

from dcrouter.wire.smtp.reply import Reply

Tls = Literal["none", "opportunistic", "required"]
Phase = Literal["greeting", "ehlo", "helo", "starttls", "tls", "auth"]


@frozen(kw_only=True)
class Credentials:
    """Who we are for a server. UTF-8; neither holds a NUL."""

    user: str
    password: str = field(repr=False)


@frozen
class Ready:
    """The session is open: transactions may begin."""


@frozen
class StartTls:
    """220 was given: the next octets are a TLS handshake."""


class Unusable(NamedTuple):
    """There is no session. `reason` in words; `status`: our enhanced code for mail that waits for it; `reply`: the
    server's, where that ended it.
    """

    reason: str
    status: str
    reply: Reply | None = None


REFUSED = "4.3.2"
NO_TLS = "4.7.4"
NO_LOGIN = "4.7.8"
"""An operator must act: it will not go away by itself."""


class Opening:
    """`name`: what we call ourselves. `encrypted`: TLS is on already. `extensions`: keyword -> parameters, upper case,
    as the last EHLO gave them.
    """

    def __init__(self, name: str, *, lmtp: bool, tls: Tls, encrypted: bool, credentials: Credentials | None) -> None:
        self.extensions: dict[str, str] = {}
        self.phase: Phase = "greeting"
        self.output: list[bytes] = []
        self._name = name
        self._hello = "LHLO" if lmtp else "EHLO"
        self._lmtp = lmtp
        self._tls = tls
        self._encrypted = encrypted
        self._credentials = credentials
        self._answers: list[bytes] = []

    def take(self, reply: Reply) -> Ready | StartTls | Unusable | None:
        good = 200 <= reply.code < 300
        if self.phase == "greeting":
            if reply.code != 220:
                return _refused(reply)
            self._say("ehlo", f"{self._hello} {self._name}")
            return None
        if self.phase == "ehlo":
            if good:
                return self._announced(reply)
            if reply.code // 100 != 5 or self._lmtp or self._encrypted:
                return _refused(reply)
            self._say("helo", f"HELO {self._name}")
            return None
        if self.phase == "helo":
            return self._go_on() if good else _refused(reply)
        if self.phase == "starttls":
            if reply.code == 220:
                self.phase = "tls"
                return StartTls()
            if self._tls == "required" or reply.code == 421:
                return Unusable(f"STARTTLS refused: {reply.text}", NO_TLS, reply)
            return self._log_in()
        return self._challenged(reply)

    def secured(self) -> None:
        """The handshake is done: what the server said in clear does not count (RFC 3207 4.2)."""
        self._encrypted = True
        self.extensions = {}
        self._say("ehlo", f"{self._hello} {self._name}")

    def _say(self, phase: Phase, command: str) -> None:
        self.phase = phase
        self.output.append(command.encode("ascii") + b"\r\n")

    def _announced(self, reply: Reply) -> Ready | StartTls | Unusable | None:
        for line in reply.lines[1:]:
            keyword, _, parameters = line.strip().partition(" ")
            self.extensions[keyword.upper()] = parameters.strip()
        if not self._encrypted:
            self.extensions.pop("REQUIRETLS", None)  # nobody may say so in clear (RFC 8689 2)
        return self._go_on()

    def _go_on(self) -> Ready | Unusable | None:
        """TLS, where it is wanted and to be had."""
        if self._tls == "none" or self._encrypted:
            return self._log_in()
        if "STARTTLS" in self.extensions:
            self._say("starttls", "STARTTLS")
            return None
        if self._tls == "required":
            return Unusable("TLS is required, but STARTTLS is not offered", NO_TLS)
        return self._log_in()

    # ------------------------------------------------------------------ AUTH

    def _log_in(self) -> Ready | Unusable | None:
        if self._credentials is None:
            return Ready()
        if not self._encrypted:
            return Unusable("a login needs TLS, which there is not", NO_TLS)
        mechanisms = self.extensions.get("AUTH", "").upper().split()
        user, password = self._credentials.user.encode(), self._credentials.password.encode()
        if "PLAIN" in mechanisms:
            response = b64encode(b"\0" + user + b"\0" + password)
            self._answers = [response]  # for a server that wants it asked for
            self._say("auth", f"AUTH PLAIN {response.decode()}")
            return None
        if "LOGIN" in mechanisms:
            self._answers = [b64encode(user), b64encode(password)]
            self._say("auth", "AUTH LOGIN")
            return None
        offered = " ".join(mechanisms) or "no login at all"
        return Unusable(f"login is not possible: neither PLAIN nor LOGIN, but {offered}", NO_LOGIN)

    def _challenged(self, reply: Reply) -> Ready | Unusable | None:
        if reply.code == 235:
            return Ready()
        if reply.code == 334 and self._answers:
            self._say("auth", self._answers.pop(0).decode())
            return None
        status = "4.7.0" if 400 <= reply.code < 500 else NO_LOGIN
        return Unusable(f"login refused: {self._without_secrets(reply)}", status)

    def _without_secrets(self, reply: Reply) -> str:
        """Some servers repeat the line that they do not understand."""
        assert self._credentials is not None
        user, password = self._credentials.user.encode(), self._credentials.password.encode()
        secrets = (b64encode(b"\0" + user + b"\0" + password), b64encode(password), password)
        if any(secret.decode() in " ".join(reply.lines) for secret in secrets if secret):
            return f"{reply.code} (its text repeats what we sent)"
        return reply.text


def _refused(reply: Reply) -> Unusable:
    return Unusable(f"refused: {reply.text}", REFUSED, reply)
