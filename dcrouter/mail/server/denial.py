"""Why a sender or a recipient is not taken."""

from __future__ import annotations

from typing import NamedTuple


class Denial(NamedTuple):
    """The counter that counts it, the reply, and words for the log."""

    counter: str
    reply: bytes
    why: str

    @property
    def temporary(self) -> bool:
        return self.reply.startswith(b"4")
