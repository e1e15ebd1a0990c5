"""How the targets of a route are connected to: from which address, through which proxy, by TLS or in clear.

Decided once for the route; a plain target costs one connect. In this order: the connection, the proxy's consent,
`opening` (what stands before everything, such as a PROXY header), TLS.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from dcrouter.config.match import Address
from dcrouter.net.bridge import bridged
from dcrouter.net.dial import connect, open_socket
from dcrouter.net.engine import Task
from dcrouter.net.race import race
from dcrouter.net.stream import Plain, Stream, Tls, send_all
from dcrouter.targets.target import Candidate, NoAddressYet, is_ours
from dcrouter.targets.through import Through, of_family
from dcrouter.targets.tls import TargetTls

IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7): the port is chosen at connect, so that one local address serves more connections than it has ports."""


class Reach:
    """`tls`: how a session with the target is made, None: in clear."""

    def __init__(
        self, tls: TargetTls | None = None, source: Address | None = None, through: Through | None = None
    ) -> None:
        self.tls = tls
        self._source = source
        self._through = through
        self._straight = source is None and through is None

    def speaking(self, tls: TargetTls | None) -> Reach:
        """The same way, with other TLS at its end."""
        return Reach(tls, self._source, self._through)

    async def open(
        self,
        task: Task,
        candidates: Sequence[Candidate],
        beside: Plain | None = None,
        opening: bytes = b"",
        alpn: tuple[str, ...] = (),
        *,
        speaks: bool = False,
    ) -> tuple[Stream, Candidate]:
        """A connection to one of the places of a target (at least one), and to which; the caller owns it.

        OSError and TlsError say why there is none, ConnectionAbortedError that `beside`, the client, is gone. The
        deadline is the task's own. `alpn`: what is offered where TLS is spoken. `speaks`: as of net.dial.open_socket.
        """
        stream: Stream | None = None
        speaks = speaks or bool(opening) or self.tls is not None
        try:
            if len(candidates) == 1 and self._straight:
                candidate = candidates[0]
                stream = plain = open_socket(task, candidate.family, speaks=speaks)
                await connect(plain, candidate.address, beside)
            elif self._through is None:
                stream, candidate = await self._connect(task, candidates, beside, speaks)
            else:
                candidate = candidates[0]
                stream = await self._lead(self._through, task, candidate, beside)
            if opening:
                await send_all(stream, opening)
            if self.tls is not None:
                if isinstance(stream, Tls):
                    stream = bridged(task, stream)
                stream = await self.tls.secure(stream, candidate.host, alpn)
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        return stream, candidate

    async def _connect(
        self, task: Task, candidates: Sequence[Candidate], beside: Plain | None, speaks: bool
    ) -> tuple[Plain, Candidate]:
        source = self._source
        if source is None:
            return await race(
                task, candidates, lambda one: open_socket(task, one.family, speaks=speaks), _place, beside
            )
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        return await race(
            task, of_family(candidates, family), lambda one: self._bound(task, one, speaks), _place, beside
        )

    def _bound(self, task: Task, candidate: Candidate, speaks: bool) -> Plain:
        plain = open_socket(task, candidate.family, speaks=speaks)
        try:
            with contextlib.suppress(OSError):
                plain.sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            plain.sock.bind((str(self._source), 0))
        except BaseException:
            plain.close()
            raise
        return plain

    async def _lead(self, through: Through, task: Task, candidate: Candidate, beside: Plain | None) -> Stream:
        try:
            plain, _ = await self._connect(task, through.places(), beside, speaks=True)
        except (ConnectionAbortedError, NoAddressYet):
            raise
        except OSError as error:
            if is_ours(error):
                raise
            raise through.unreached(error) from error
        assert isinstance(candidate.address, tuple)
        try:
            return await through.lead(plain, *candidate.address)
        except BaseException:
            plain.close()
            raise


def _place(candidate: Candidate) -> tuple[str, int] | str:
    return candidate.address
