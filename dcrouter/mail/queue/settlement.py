"""What is written of an attempt when it has ended."""

from __future__ import annotations

from attrs import define

from dcrouter.mail.message import Message
from dcrouter.mail.queue.store import Change


@define(eq=False)
class Settlement:
    """What is written of an attempt. `whole`: it was all that was left of the message, and everybody has it."""

    message: Message
    gone: list[int]
    changed: list[Change]
    targets: dict[int, str]
    whole: bool
    notices: tuple[Message, ...] = ()
