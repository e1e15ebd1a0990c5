"""The ports between the halves (`email.remote`): one for each mail port, each its own, and none that leads back."""

from __future__ import annotations

from collections.abc import Iterator

from dcrouter.config.actions import MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.effective import effective_routes
from dcrouter.config.place import Place

HIGHEST = 65535


def check_remote(config: Config, root: Place) -> None:
    """`root`: the document."""
    email = config.email
    if email is None or email.remote is None or root.findings.touch(("email",)):
        return
    remote, place = email.remote, root.at("email", "remote")
    if remote.host.is_unspecified:
        place.at("host").tell(f"{remote.host} is no address that the edge could send to")
        return
    outer = dict.fromkeys(_mail_ports(config))
    for port in remote.ports:
        if port not in outer:
            place.at("ports", str(port)).tell(f"{port} is no mail port (email.ports)")
    if len(email.ports) > len({one.port for one in email.ports}):
        root.at("email", "ports").tell("`remote` has one port for each: say each once, with all its addresses")
    taken: dict[int, int] = {}
    for port in outer:
        inner = remote.port(port)
        where = place.at("ports", str(port)) if port in remote.ports else place
        if inner > HIGHEST:
            where.tell(f"port {port} needs another one between the halves (`ports`): {inner} is too high")
        elif inner in taken:
            where.tell(f"ports {taken[inner]} and {port} cannot share {inner} between the halves")
        elif inner in outer and _is_here(config):
            where.tell(f"port {inner} at {remote.host} is the edge's own: its connections would come back to it")
        taken[inner] = port


def _mail_ports(config: Config) -> Iterator[int]:
    for route in effective_routes(config):
        if isinstance(route.action, MailHandover):
            for given in route.match.ports:
                yield from range(given.start, given.end + 1)


def _is_here(config: Config) -> bool:
    """Whether the edge surely listens on the mail half's address."""
    assert config.email is not None and config.email.remote is not None
    host = config.email.remote.host
    wild = any(one.is_unspecified and one.version == host.version for one in config.listen)
    return host in config.listen or (host.is_loopback and wild)
