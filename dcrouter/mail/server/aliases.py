"""Whom an address stands for, by `email.aliases_file`, which may change at any time (`Watched`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from dcrouter.config.aliases import Aliases, load_aliases
from dcrouter.errors import ConfigError
from dcrouter.mail.server.watched import InThread, Unusable, Watched


class AliasesFile(Watched[Aliases]):
    """`hostname`: whose names are those without a domain."""

    def __init__(
        self,
        path: Path,
        hostname: str,
        in_thread: InThread,
        clock: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path

        def read(path: Path) -> Aliases:
            try:
                return load_aliases(path, hostname)
            except ConfigError as error:
                raise Unusable(str(error)) from error

        super().__init__(path, read, in_thread, clock, now, contents="aliases", without="no recipient is accepted")
