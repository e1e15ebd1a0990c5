"""What became of one recipient in one attempt: values, never exceptions.

`Delivered` leaves the queue, `Deferred` gets a next time, `Failed` stays as failed until an operator drops it, `Held`
waits for its rule to come back. `reply`: what the other side said, or our own words where nobody did.
"""

from __future__ import annotations

from typing import NamedTuple

from dcrouter.wire.smtp.reply import Reply


class Delivered(NamedTuple):
    reply: str
    target: str


class Deferred(NamedTuple):
    reply: str
    target: str = ""


class Failed(NamedTuple):
    reply: str
    target: str = ""


class Held(NamedTuple):
    reply: str


Outcome = Delivered | Deferred | Failed | Held


def from_reply(reply: Reply, target: str) -> Outcome:
    """The outcome that a final reply for a recipient means (RFC 5321 4.2.1)."""
    if 200 <= reply.code < 300:
        return Delivered(reply.text, target)
    if reply.code >= 500:
        return Failed(reply.text, target)
    return Deferred(reply.text, target)
