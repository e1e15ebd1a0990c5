"""What became of one recipient in one attempt: values, never exceptions.

`Delivered` leaves the queue, `Deferred` gets a next time, `Failed` is told to the sender, `Held` waits for its rule to
come back, `Postponed` for its turn. `reply`: what the other side said (it begins with a three-digit code), or our own
words where nobody did. `target`: the next hop as `host:port`, of several that could not be reached the first. `tls`:
version and cipher of the session, "" in clear. `address`: the one that was spoken to, "" where none was. `source`: the
address of the pool from which it was, "" where the host chose. `told`: what a sender who wants to hear of success is
told by us, "" nothing, because the next hop does it (RFC 3461 5.2.1). `through`: the proxy, "" straight, `direct` where
none worked.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from dcrouter.wire.smtp.reply import Reply

Success = Literal["", "relayed", "delivered"]


class Peer(NamedTuple):
    """Who is at the other end of a connection. `told`: as of Delivered, for who is taken there."""

    target: str
    tls: str = ""
    address: str = ""
    told: Success = "relayed"
    through: str = ""


class Delivered(NamedTuple):
    reply: str
    target: str
    tls: str = ""
    address: str = ""
    told: Success = "delivered"
    through: str = ""


class Deferred(NamedTuple):
    reply: str
    target: str = ""
    tls: str = ""
    address: str = ""
    source: str = ""
    through: str = ""


class Failed(NamedTuple):
    reply: str
    target: str = ""
    tls: str = ""
    address: str = ""
    through: str = ""


class Held(NamedTuple):
    reply: str


class Postponed(NamedTuple):
    """Nothing was tried, and no attempt counts: it is due again in `seconds`, or when `target` is woken, if that is
    anything.
    """

    reply: str
    target: str = ""
    seconds: float = 0.0


Outcome = Delivered | Deferred | Failed | Held | Postponed


def from_reply(reply: Reply, peer: Peer) -> Outcome:
    """The outcome that a final reply for a recipient means (RFC 5321 4.2.1)."""
    if 200 <= reply.code < 300:
        return Delivered(reply.text, *peer)
    if reply.code >= 500:
        return Failed(reply.text, *peer[:3], through=peer.through)
    return Deferred(reply.text, *peer[:3], through=peer.through)
