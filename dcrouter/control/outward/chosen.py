"""Which certificates are shown, as the edge and the mail process choose them (tls/chooser.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dcrouter.config.admin import Config
from dcrouter.config.effective import effective_routes
from dcrouter.config.names import REGEX
from dcrouter.control.incoming import chooser_of
from dcrouter.tls.credential import Credential
from dcrouter.tls.names import as_certified


class Chosen:
    """Of one configuration, with these credentials."""

    def __init__(self, config: Config, credentials: Iterable[Credential]) -> None:
        self._config = config
        self._chooser = chooser_of(config)
        self._chooser.update(credentials)

    def of_mail(self) -> tuple[Credential, ...]:
        """What the mail server shows as email.hostname, one of each key type; nothing without mail."""
        email = self._config.email
        return () if email is None else self._chooser.shown(email.certificate, email.hostname)

    def by_name(self) -> Iterator[tuple[str, tuple[Credential, ...]]]:
        """The names for which `auto` chooses, each once, and what it shows."""
        names: dict[str, None] = {}
        for route in effective_routes(self._config):
            tls = route.tls if route.enabled else None
            if tls is not None and tls.mode != "passthrough" and tls.certificate == "auto":
                names.update(dict.fromkeys(route.match.domains or ()))
        email = self._config.email
        if email is not None and email.certificate == "auto":
            names[email.hostname] = None
        for name in dict.fromkeys(as_certified(name) for name in names if not name.startswith(REGEX)):
            yield name, self._chooser.shown("auto", name)
