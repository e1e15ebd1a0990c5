"""Which child processes a configuration needs."""

from __future__ import annotations

from dcrouter.config.admin import Config
from dcrouter.config.code import needs_handlers


def roles(config: Config) -> tuple[str, ...]:
    """In the order in which they are started."""
    mail = ("mail",) if config.email is not None else ()
    return ("edge", *mail, *(("handlers",) if needs_handlers(config.routes) else ()))
