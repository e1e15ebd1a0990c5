"""A stream as a socket of its own, for those who can only use a socket: TLS inside TLS needs a descriptor to write to.

The stream is given to a task of its own, which relays between it and one end of a socketpair; the other end is the
caller's.
"""

from __future__ import annotations

import socket
from _socket import socket as RawSocket

from dcrouter.errors import TlsError
from dcrouter.net.engine import IN, OUT, Task
from dcrouter.net.relay import Copied, relay
from dcrouter.net.stream import Plain, Tls


def bridged(task: Task, stream: Tls) -> Plain:
    """A socket for `task` whose other side is `stream`, which is not the caller's any more; closing one closes both."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    near = RawSocket(ours.family, ours.type, ours.proto, ours.detach())
    far = RawSocket(theirs.family, theirs.type, theirs.proto, theirs.detach())

    async def carry(own: Task) -> None:
        end = Plain(own, far, IN | OUT)
        stream.plain.task = own
        forth, back = Copied(end, stream), Copied(stream, end)
        try:
            end.watch()
            await relay(own, forth, back, end, stream, 0, 0)
        except (OSError, TlsError):
            pass  # the close of the socketpair says so: whoever speaks TLS on it misses its end
        finally:
            forth.release()
            back.release()
            end.close()
            stream.close()

    task.engine.spawn(carry)
    plain = Plain(task, near, IN | OUT)
    plain.watch()
    return plain
