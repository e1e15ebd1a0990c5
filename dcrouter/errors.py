"""Every exception that crosses a module's border, on one page.

The text for the peer is apart from the private cause: `str(error)` goes to logs, `reply` (where there is one) to the
peer.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Of an OSError: there are no more descriptors, or buffers; nobody else is to blame."""


class DcrouterError(Exception):
    """The root: whatever dcrouter raises on purpose."""


class ConfigError(DcrouterError):
    """A configuration that cannot be used: every problem of it at once, one line each in `problems`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartError(DcrouterError):
    """The service cannot start (a port is taken, the state directory is locked ...): one line for the operator."""


class ReloadError(DcrouterError):
    """Another configuration cannot take the place of the one in use: one line for each thing that is wrong."""


class WireError(DcrouterError):
    """Bytes that break their protocol. `reply` is what the peer may be told, in its protocol's words, or None."""

    def __init__(self, message: str, reply: bytes | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class ProxyRefusal(WireError):
    """A proxy that works has no connection with the target, and says why. `final`: the target is to blame, so that
    another proxy would hear the same.
    """

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


class Refused(DcrouterError):
    """The peer is not let in, or not further: `reply` is what it is told, or None for a plain close."""

    def __init__(self, message: str, reply: bytes | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class NotAdmitted(Refused):
    """The peer is not let in by a limit or a list; without a `reply` its connection is reset."""


class Misdirected(Refused):
    """A request whose Host leads to a route that another TLS session belongs to: 421, RFC 9110 section 15.5.20."""


class Unreachable(DcrouterError):
    """No target could be reached; `temporary` tells whether trying again later makes sense."""

    def __init__(self, message: str, *, temporary: bool = True) -> None:
        super().__init__(message)
        self.temporary = temporary


class NoSuchName(Unreachable):
    """DNS says that a name does not exist: asking again soon is of no use."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=False)


class NoAddress(Unreachable):
    """A name that exists and has no address, or none of the families that are wanted."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=False)


class TimedOut(DcrouterError):
    """A deadline passed; `phase` is the word of the configuration for it (hello, connect, idle ...)."""

    def __init__(self, phase: str) -> None:
        super().__init__(f"{phase} timeout")
        self.phase = phase


class TlsError(DcrouterError):
    """A certificate, key or handshake that cannot be used."""


class NameProblem(NamedTuple):
    """What a certificate authority has against one name, in its words."""

    name: str
    type: str | None
    detail: str


class AcmeError(DcrouterError):
    """A certificate authority has not done what it was asked for.

    `type`: the last word of its problem's type (rateLimited, rejectedIdentifier ...; RFC 8555 section 6.7), None where
    it gave none. `detail`: its own words. `names`: what is wrong with which name, where it said so. `retry_after`:
    seconds until it wants to be asked again, None where it said nothing. `status`: of HTTP, None where there was none.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str | None = None,
        detail: str = "",
        names: Sequence[NameProblem] = (),
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.detail = detail
        self.names = tuple(names)
        self.retry_after = retry_after
        self.status = status

    @property
    def rate_limited(self) -> bool:
        """The CA wants fewer requests, or fewer certificates of these names."""
        return self.type == "rateLimited" or self.status == 429

    @property
    def temporary(self) -> bool:
        """The same request may well succeed a little later, without anybody doing anything."""
        return self.type == "badNonce" or (self.status is not None and self.status >= 500)


class AcmeUnreachable(AcmeError):
    """A certificate authority could not be asked, or has not answered: down, slow, not believed, no ACME."""

    @property
    def temporary(self) -> bool:
        return True


class StoreError(DcrouterError):
    """The mail store could not keep or read what it was asked to; nothing was acknowledged."""


class StoreFull(StoreError):
    """There is no room for the message: disk, or the queue's own limit; the client is told 452 and comes back."""


def reason_of(error: BaseException) -> str:
    """What went wrong, in the system's own words where it has some."""
    words: str | None = getattr(error, "strerror", None)
    return words or str(error)
