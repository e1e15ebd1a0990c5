"""Messages for the tests of the queue, and waiting for what becomes of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.mail.envelope import PLAIN, Envelope, Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import FIRST, Entry, Selection, Store

TEXT = b"Subject: x\r\n\r\ntext\r\n"


def message(
    number: int,
    *addresses: str,
    octets: bytes | None = TEXT,
    sender: str = "a@x.test",
    rule: str = "r",
    received: float = 0.0,
    **rest: Any,
) -> Message:
    """A message to these, or to b0@y.test; `octets` None: it is spooled. `asked`: more of each Recipient."""
    may_relay, vouched = rest.pop("may_relay", True), rest.pop("vouched", False)
    terms, asked = rest.pop("terms", PLAIN), rest.pop("asked", {})
    recipients = tuple(
        Recipient(number=at, address=address, rule=rule, **asked)
        for at, address in enumerate(addresses or ("b0@y.test",))
    )
    return Message(
        id=number,
        envelope=Envelope(
            session="s", sender=sender, recipients=recipients, may_relay=may_relay, vouched=vouched, terms=terms
        ),
        received=received,
        size=len(octets) if octets is not None else 100_000,
        eightbit=rest.pop("eightbit", False),
        spooled=octets is None,
        octets=octets,
        **rest,
    )


def entries(store: Store, now: float = 5000.0, **selection: Any) -> Deferred[list[Entry]]:
    """The recipients that a store has, or those of a selection."""
    return store.pick(Selection(**selection), FIRST, 1000, now).addCallback(lambda page: page.entries)
