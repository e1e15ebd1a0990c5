"""The ground floor: a TCP connection to an address."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint


def place(reactor: Any, address: str, port: int, *, timeout: float, source: str | None = None) -> IStreamClientEndpoint:
    """`address`: a literal one. `source`: the address of ours that it comes from, None: the kernel's choice."""
    kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
    bound = None if source is None else (source, 0)
    endpoint: IStreamClientEndpoint = kind(reactor, address, port, timeout=timeout, bindAddress=bound)
    return endpoint
