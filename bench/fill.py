"""`python -m bench.fill STATE_DIR COUNT SPREAD`: mail for dead destinations into dcrouter's queue, by its own store.

The recipients are due evenly over SPREAD seconds, beginning a minute from now, as after many failed attempts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from bench.mta import DEAD
from dcrouter.mail.envelope import Envelope, Recipient
from dcrouter.mail.message import Ids, Message
from dcrouter.mail.mta import DIRECTORY
from dcrouter.mail.queue.stores.sqlite import SqliteStore

_TOGETHER = 1000


async def fill(directory: Path, count: int, spread: float) -> None:
    """Fires when all are durable."""
    store = SqliteStore(directory / DIRECTORY, reactor)
    ids = Ids.after(store.open())
    now = time.time()
    octets = b"From: <a@example.test>\r\nSubject: bench\r\n\r\n" + (b"x" * 72 + b"\r\n") * 13
    for begin in range(0, count, _TOGETHER):
        group: list[Deferred[None]] = []
        for number in range(begin, min(begin + _TOGETHER, count)):
            name = f"dead{number % DEAD}"
            envelope = Envelope(
                session="bench",
                sender="a@example.test",
                recipients=(Recipient(number=0, address=f"b@{name}.test", rule=name, attempts=3),),
            )
            message = Message(
                id=ids.next(), envelope=envelope, received=now, size=len(octets), eightbit=False, octets=octets
            )
            group.append(store.put(message, round(now + 60.0 + spread * number / count, 3)))
        await gatherResults(group)
    store.close()


def main() -> None:
    """Runs the reactor until done; an error ends the process with its traceback."""
    failures: list[object] = []
    work = ensureDeferred(fill(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
    work.addErrback(failures.append).addBoth(lambda _: reactor.stop())
    reactor.run()
    if failures:
        sys.exit(str(failures[0]))


if __name__ == "__main__":
    main()
