"""What a child is told when it begins, before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dcrouter.control.children import Message
from dcrouter.control.credentials import order_of, pieces

if TYPE_CHECKING:
    from dcrouter.control.parent import Parent

LISTENERS_PER_MESSAGE = 64


def greeting(parent: Parent, role: str) -> Iterator[Message]:
    """All that holds now, for a child of this role."""
    credentials = parent.certificates.credentials
    for fields in pieces(credentials):
        yield "credentials", fields, ()
    yield "config", {"config": parent.plain, "order": order_of(credentials), "ca_files": parent.trust.files}, ()
    if parent.log_level != parent.config.log.level:
        yield "log_level", {"level": parent.log_level}, ()
    if role == "edge":
        for start in range(0, len(parent.listeners), LISTENERS_PER_MESSAGE):
            some = parent.listeners[start : start + LISTENERS_PER_MESSAGE]
            places = [{"address": listener.address, "port": listener.port} for listener in some]
            yield "listener", {"listeners": places}, [listener.sock.fileno() for listener in some]
        yield "addresses", {"names": parent.names.known}, ()
        if parent.key_sets.known:
            yield "key_sets", {"sets": parent.key_sets.known}, ()
