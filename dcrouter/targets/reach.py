"""How the targets of a route are connected to: from which address, through which proxy, by TLS or in clear.

Decided once for the route; a plain target costs one connect. In this order: the connection, `opening` (what stands
before everything, such as a PROXY header), TLS.
"""

from __future__ import annotations

from collections.abc import Sequence

from dcrouter.net.engine import Task
from dcrouter.net.race import race
from dcrouter.net.stream import Plain, Stream, connect, open_socket, send_all
from dcrouter.targets.target import Candidate
from dcrouter.targets.tls import TargetTls


class Reach:
    """`tls`: how a session with the target is made, None: in clear."""

    def __init__(self, tls: TargetTls | None = None) -> None:
        self.tls = tls

    def speaking(self, tls: TargetTls | None) -> Reach:
        """The same way, with other TLS at its end."""
        return Reach(tls)

    async def open(
        self, task: Task, candidates: Sequence[Candidate], beside: Plain | None = None, opening: bytes = b""
    ) -> tuple[Stream, Candidate]:
        """A connection to one of the places of a target (at least one), and to which; the caller owns it.

        OSError and TlsError say why there is none, ConnectionAbortedError that `beside`, the client, is gone. The
        deadline is the task's own.
        """
        plain: Plain | None = None
        try:
            if len(candidates) == 1:
                candidate = candidates[0]
                plain = open_socket(task, candidate.family)
                await connect(plain, candidate.address, beside)
            else:
                plain, candidate = await race(
                    task, candidates, lambda one: open_socket(task, one.family), _place, beside
                )
            if opening:
                await send_all(plain, opening)
            return (plain if self.tls is None else await self.tls.secure(plain, candidate.host)), candidate
        except BaseException:
            if plain is not None:
                plain.close()
            raise


def _place(candidate: Candidate) -> tuple[str, int] | str:
    return candidate.address
