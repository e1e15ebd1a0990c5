"""`python -m dcrouter.service ROLE` runs a child."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys

from dcrouter.control.worker import Worker
from dcrouter.net.reactor import install

CONTROL = 3
"""The descriptor of the channel to the parent."""
NICE = 2
"""Beside a busy edge the mail process gets two thirds of its share then. With 4 the edge has little more, and p99 of a
message is twice as long.
"""


def worker_of(role: str) -> type[Worker]:
    """Imported here: a process is smaller, and there sooner, without the code of the others."""
    if role == "edge":
        from dcrouter.service.edge import EdgeWorker

        return EdgeWorker
    if role == "mail":
        from dcrouter.service.mail import MailWorker

        return MailWorker
    if role == "handlers":
        from dcrouter.service.handlers import HandlersWorker

        return HandlersWorker
    raise ValueError(f"there is no process {role!r}")


def give_way() -> None:
    """Where processors are short the edge goes first: it has somebody waiting, mail is kept and sent a moment later. A
    process of this policy (sched(7), SCHED_BATCH) interrupts nobody when it wakes up, and finds more to do at once: at
    300 messages a second one costs a tenth less, at 2 000 the same. A policy that the operator has chosen stays.
    """
    with contextlib.suppress(OSError):  # a sandbox may forbid it: nothing depends on it
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            os.nice(NICE)


def main(role: str) -> None:
    """Run the child `role`, with the channel to its parent as descriptor 3."""
    gc.disable()  # until `go`: what is made before lives for ever, and a tenth of the start is looking at it
    if role == "mail":
        give_way()
    install()
    from twisted.internet import reactor

    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    worker_of(role)(reactor, control).run()


if __name__ == "__main__":
    main(sys.argv[1])
