"""Which child processes a configuration needs."""

from __future__ import annotations

from pathlib import Path

from dcrouter.config.admin import Config
from dcrouter.config.code import needs_handlers


def roles(config: Config) -> tuple[str, ...]:
    """In the order in which they are started."""
    mail = ("mail",) if config.email is not None and config.email.remote is None else ()
    return ("edge", *mail, *(("handlers",) if needs_handlers(config.routes, config.email) else ()))


def without_mail(config: Config) -> str:
    """Why there is no mail process."""
    if config.email is None:
        return "the configuration has no `email`"
    return "the mail half is a service of its own (email.remote): ask that one, with --only mail"


def mail_home(config: Config) -> Path | None:
    """The directory of the queue, where that is not state_dir."""
    return config.email.home if config.email is not None else None
