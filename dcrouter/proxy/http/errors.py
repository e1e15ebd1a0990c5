"""What can go wrong between a request and its response."""

from __future__ import annotations

from dcrouter.errors import DcrouterError


class TargetFailed(DcrouterError):
    """A target has broken off, or said what is no response; `timed_out`: or nothing at all.

    `unheard`: it may have been gone before the request came, and has answered nothing: another connection may do.
    """

    def __init__(self, message: str, *, timed_out: bool = False, unheard: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.unheard = unheard


class FileFailed(DcrouterError):
    """A file that is there cannot be read, or not to the end that was promised."""
