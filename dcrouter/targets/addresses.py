"""The addresses of target names, as the parent last resolved them: the edge looks up, it never asks a resolver."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence


class Addresses:
    """Host -> its addresses. A literal address is its own; a name that is not known (yet) has none."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self.version = 0
        """Counts the updates, for those who keep something made of the answers."""

    def update(self, names: Mapping[str, Sequence[str]]) -> None:
        """Take the parent's answers in place of those before; the parent keeps the last good ones."""
        self._names = {name: tuple(addresses) for name, addresses in names.items()}
        self.version += 1

    def of(self, host: str) -> tuple[str, ...]:
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            return self._names.get(host, ())
