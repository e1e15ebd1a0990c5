"""Which target a connection is sent to, and which one next when that cannot be reached."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from attrs import frozen

from dcrouter.config.targets import Balance, Target
from dcrouter.targets.addresses import Addresses

ADDRESSES_PER_TARGET = 4
"""A name with many addresses is one target: so many of them are tried before the next target has its turn."""


@frozen
class Candidate:
    """One address to connect to. `label` is for logs, `host` the name to verify a certificate against (None: unix)."""

    family: int
    address: tuple[str, int] | str
    label: str
    host: str | None


class Targets:
    """The targets of one action. Round-robin starts each connection one target further, failover always at the
    first.
    """

    def __init__(self, targets: Sequence[Target], balance: Balance, retries: int, addresses: Addresses) -> None:
        self._targets = tuple(targets)
        self._rotate = balance == "round-robin" and len(targets) > 1
        self._tries = 1 + retries
        self._addresses = addresses
        self._next = 0
        self._made: dict[int, list[list[Candidate]]] = {}
        self._version = -1

    def candidates(self, incoming_port: int) -> list[Candidate]:
        """Where to try, in order: at most 1 + retries targets. Empty where no name among them is resolved.

        `incoming_port` stands in for `port: preserve`.
        """
        if self._version != self._addresses.version:
            self._made.clear()
            self._version = self._addresses.version
        targets = self._made.get(incoming_port)
        if targets is None:
            targets = self._made[incoming_port] = [self._of(target, incoming_port) for target in self._targets]
        if len(targets) == 1:
            return targets[0]
        start = 0
        if self._rotate:
            start = self._next
            self._next = (start + 1) % len(targets)
        order = targets[start:] + targets[:start]
        return [candidate for target in order[: self._tries] for candidate in target]

    def _of(self, target: Target, incoming_port: int) -> list[Candidate]:
        if target.unix is not None:
            path = str(target.unix)
            return [Candidate(socket.AF_UNIX, path, f"unix:{path}", None)]
        assert target.host is not None
        port = target.port or incoming_port
        return [
            Candidate(
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                (address, port),
                label(address, port),
                target.host,
            )
            for address in self._addresses.of(target.host)[:ADDRESSES_PER_TARGET]
        ]


def label(address: str, port: int) -> str:
    """`192.0.2.1:443` or `[2001:db8::1]:443`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
