"""`python -m dcrouter.service ROLE` runs a child."""

from __future__ import annotations

import socket
import sys

from dcrouter.control.worker import Worker
from dcrouter.net.reactor import install

CONTROL = 3
"""The descriptor of the channel to the parent."""


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


def main(role: str) -> None:
    """Run the child `role`, with the channel to its parent as descriptor 3."""
    install()
    from twisted.internet import reactor

    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    worker_of(role)(reactor, control).run()


if __name__ == "__main__":
    main(sys.argv[1])
