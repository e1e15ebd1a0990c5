"""One role of the children: the life it has now, how often it was started again, and what is planned for it."""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from dcrouter.control.child import Child

FIRST_WAIT = 0.1
LAST_WAIT = 30.0
RAN_WELL = 30.0
"""Seconds after which a death is a new trouble and not the old one."""
FIRST_TRIES = 3


@define
class Post:
    """`excused`: it has been ready once, or has said that it cannot begin for now; its deaths do not fail the start."""

    child: Child | None = None
    restarts: int = 0
    wait: float = FIRST_WAIT
    was_ready: bool = False
    excused: bool = False
    tries: int = 0
    later: IDelayedCall | None = None
    silent: IDelayedCall | None = None
    added: Deferred[None] | None = None

    @property
    def began(self) -> bool:
        """Whether nobody needs to wait for it any more."""
        return self.excused or (self.child is not None and self.child.state == "ready")

    @property
    def hopeless(self) -> bool:
        """Whether it has died too often without ever having been of use."""
        return not self.excused and self.tries >= FIRST_TRIES

    def next_wait(self, ran: float) -> float:
        """Seconds until it is started again, after a life of `ran`: twice as many each time."""
        if ran >= RAN_WELL:
            self.wait = FIRST_WAIT
        wait = self.wait
        self.wait = min(wait * 2, LAST_WAIT)
        return wait
