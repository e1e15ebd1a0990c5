"""What is different between two configurations: for the log, and for what only a restart can change."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import fields, frozen

from dcrouter.config.admin import Config
from dcrouter.config.routes import Route

RESTART: tuple[tuple[str, Callable[[Config], object]], ...] = (
    ("state_dir", lambda config: config.state_dir),
    ("user", lambda config: config.user),
    ("group", lambda config: config.group),
    ("resolver", lambda config: config.resolver),
    ("admin.socket", lambda config: config.admin.socket),
    ("log.file", lambda config: config.log.file),
    ("log.format", lambda config: config.log.format),
    ("email", lambda config: config.email is not None),
    ("email.hostname", lambda config: config.email and config.email.hostname),
    ("email.queue.store", lambda config: config.email and config.email.queue.store),
)
"""Keys that hold from the start to the end of the service: what they name is open, or stands for the service itself."""


@frozen(kw_only=True)
class Changes:
    """Routes by name, in the order of their file. `keys`: the top-level keys whose value is another one."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    keys: tuple[str, ...]

    def __str__(self) -> str:
        """`routes: 1 added, 2 changed; defaults changed`, or `nothing`."""
        counts = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        routes = ", ".join(f"{len(names)} {word}" for word, names in counts if names)
        parts = [f"routes: {routes}"] if routes else []
        others = [key for key in self.keys if key != "routes"]
        if others:
            parts.append(f"{', '.join(others)} changed")
        return "; ".join(parts) or "nothing"


def changes(before: Config, after: Config) -> Changes:
    """From `before` to `after`. A route that has only moved within the file is no change of it, but of `routes`."""
    old, new = _by_name(before), _by_name(after)
    return Changes(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name, route in new.items() if name in old and old[name] != route),
        keys=tuple(_keys(before, after)),
    )


def needs_restart(before: Config, after: Config) -> tuple[str, ...]:
    """The keys of RESTART whose values differ, as the operator writes them."""
    found = [key for key, value in RESTART if value(before) != value(after)]
    if "email" in found:
        found = [key for key in found if not key.startswith("email.")]
    return tuple(found)


def _by_name(config: Config) -> dict[str, Route]:
    return {route.name: route for route in config.routes}


def _keys(before: Config, after: Config) -> Iterator[str]:
    for one in fields(Config):
        if getattr(before, one.name) != getattr(after, one.name):
            yield one.name
