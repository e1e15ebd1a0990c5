"""What the operator wrote about mail that waits: where it is kept, how long it is tried, who is told that it failed."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.forms import Duration, Share, Size, counted, key
from dcrouter.config.patterns import MailAddress


@frozen(kw_only=True)
class Retry:
    """Wait before attempt n: min(base * 2**(n-1), max), times 1 +- jitter; given up after `max_age`."""

    base: Duration = field(default=300.0, metadata=key("Before the second attempt; doubled each time."))
    max: Duration = field(default=14400.0, metadata=key("The longest wait."))
    max_age: Duration = field(default=432000.0, metadata=key("When a message is given up."))
    jitter: Share = field(default=0.2, metadata=key("By which share a wait may be shorter or longer."))
    delay_notice: Duration = field(
        default=14400.0, metadata=key("When a sender is told, once, that the message still waits; `0s`: never.")
    )


@frozen(kw_only=True)
class Queue:
    """Mail that was taken and not yet passed on."""

    store: Literal["sqlite", "memory"] = field(
        default="sqlite",
        metadata=key("`sqlite`: on disk, in `state_dir`; `memory`: gone with the process, for tests and relays of it."),
    )
    max_size: Annotated[int, counted(1, 100_000_000)] = field(
        default=1_000_000, metadata=key("Messages; then 452 4.3.1.")
    )
    min_free_disk: Size = field(default=1 << 30, metadata=key("Space left in `state_dir`; below it 452 4.3.1."))
    retry: Retry = field(factory=Retry, metadata=key("When a message is tried again."))


@frozen(kw_only=True)
class SoftBounces:
    """`count` messages that were given up within `for_` seconds: no more for as long."""

    count: Annotated[int, counted(1, 1000)] = field(
        default=5, metadata=key("Messages given up, none delivered in between.")
    )
    for_: Duration = field(
        default=604800.0, metadata=key("The time in which they count, and for which it is suppressed.", name="for")
    )


@frozen(kw_only=True)
class Suppress:
    """Addresses of the world to which nothing is sent any more, as they have failed."""

    hard: Duration = field(
        default=0.0, metadata=key("How long, after a reply that they will never take mail; `0s`: for ever.")
    )
    soft: SoftBounces = field(factory=SoftBounces, metadata=key("After other failures."))


@frozen(kw_only=True)
class Bounces:
    """What comes back: delivery status notifications (RFC 3464), and what is learnt of failures."""

    dsn: bool = field(default=True, metadata=key("Whether senders are told of failures and delays."))
    return_: Literal["headers", "full"] = field(
        default="headers", metadata=key("How much of the message goes back.", name="return")
    )
    suppress: Suppress | None = field(
        default=None,
        metadata=key("How long addresses are suppressed that have failed.", default="they are not"),
    )
    verp: bool = field(
        default=False,
        metadata=key(
            "Whether mail to the world has a sender of its own for each recipient, `user+mark@domain`, by which what "
            "comes back is known; mail to such an address is for `user@domain`."
        ),
    )
    feedback: tuple[MailAddress, ...] = field(
        default=(),
        metadata=key(
            "Our addresses to which others send feedback reports (RFC 5965); rules must accept them.", default="none"
        ),
    )
