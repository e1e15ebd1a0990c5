"""What a child is told when it begins, before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcrouter.config.code import of_handlers
from dcrouter.control.children import Message
from dcrouter.control.credentials import order_of, pieces
from dcrouter.tls.credential import Credential

if TYPE_CHECKING:
    from dcrouter.control.parent import Parent

LISTENERS_PER_MESSAGE = 64


def configuration(
    role: str,
    plain: Mapping[str, Any],
    credentials: Sequence[Credential],
    ca_files: Mapping[str, str],
    source: Path,
) -> Iterator[Message]:
    """A whole configuration, read from the file `source`, for a fresh child of this role."""
    for fields in pieces(credentials):
        yield "credentials", fields, ()
    fields = {"config": plain, "order": order_of(credentials), "ca_files": ca_files}
    if role == "handlers":
        fields["config"] = {**plain, "routes": of_handlers(plain.get("routes", ()))}
        fields["folder"] = str(source.absolute().parent)
    yield "config", fields, ()


def greeting(parent: Parent, role: str) -> Iterator[Message]:
    """All that holds now, for a child of this role."""
    yield from configuration(role, parent.plain, parent.certificates.credentials, parent.trust.files, parent.source)
    if parent.log_level != parent.config.log.level:
        yield "log_level", {"level": parent.log_level}, ()
    if role == "edge":
        for start in range(0, len(parent.sockets.listeners), LISTENERS_PER_MESSAGE):
            some = parent.sockets.listeners[start : start + LISTENERS_PER_MESSAGE]
            places = [{"address": listener.address, "port": listener.port} for listener in some]
            yield "listener", {"listeners": places}, [listener.sock.fileno() for listener in some]
        if parent.office.responder.sockets:
            yield "responder", *parent.office.responding()
        if parent.office.answers:
            yield "challenges", parent.office.shown(), ()
        yield "addresses", {"names": parent.names.known}, ()
    if role in ("edge", "mail") and parent.key_sets.known:
        yield "key_sets", {"sets": parent.key_sets.known}, ()
