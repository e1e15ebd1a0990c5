"""All that the edge makes of one configuration: routes, tables, limits of all routes together, who introduces clients.

A plan is made beside the traffic of the one before (`made` goes in steps) and put in its place at once (Edge.reload).
What it learns while it is used is not its own but `State`'s, and outlives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from dcrouter.config.actions import MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.security import Security
from dcrouter.config.tls import CertificateFiles
from dcrouter.errors import TlsError
from dcrouter.facts import ConnectionFacts
from dcrouter.match.addresses import Networks
from dcrouter.net.slices import Steps
from dcrouter.proxy.admission import Admission
from dcrouter.proxy.binding import Believer, Binding
from dcrouter.proxy.bound import BoundRoute
from dcrouter.proxy.http.pool import Pool
from dcrouter.proxy.listener import Introducers
from dcrouter.proxy.selection import Selection
from dcrouter.proxy.state import Service, State
from dcrouter.proxy.table import PortTable, tables_in_steps
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.target import Targets
from dcrouter.tls.credential import Credential


class Plan:
    """`routes` in the order of the effective table; `fallback`: defaults.target as a route, if there is one.

    `web`, `mail`: the limits of all routes of each half together. `services`: what acts by itself while this is in use.
    `selections`: those who are asked for targets.
    """

    def __init__(
        self,
        config: Config,
        state: State,
        routes: list[BoundRoute],
        fallback: BoundRoute | None,
        by_port: dict[int, PortTable],
        services: list[Service],
        pool: Pool,
        targets: list[Targets],
        believers: list[Believer],
        selections: list[Selection],
    ) -> None:
        self.config = config
        self.routes = routes
        self.fallback = fallback
        self.services = services
        self.pool = pool
        self._targets = targets
        self._believers = believers
        self.selections = selections
        self.trusted_proxies = Networks(config.http.trusted_proxies)
        self.web = Admission.kept(_of_all(config.defaults.security), state, "all", "web")
        email = config.email
        # All but `max_connections`, as in config/effective.py.
        security = evolve(_of_all(email.security), max_connections=None) if email is not None else Security()
        self.mail = Admission.kept(security, state, "all", "mail")
        self._tables = by_port
        self._handed = {bound.route.name: bound for bound in routes if bound.is_handed}
        self._nothing = PortTable([])

    def believe(self, ca_files: Mapping[str, bytes]) -> None:
        """Authorities and revocation lists as they are now, for sessions that begin from now on."""
        for believer in self._believers:
            believer(ca_files)

    def table(self, port: int) -> PortTable:
        """That of a port; one without routes where nobody wants it."""
        return self._tables.get(port, self._nothing)

    def admission(self, port: int) -> Admission:
        """Who may connect to a port, whatever the route will be."""
        return self.mail if self.table(port).mail else self.web

    def entered(self, role: str, route: str | None) -> list[Admission]:
        """Who counts a connection of that route which the process of `role` has; one that is gone counts no more."""
        found = self._handed.get(route or "")
        return [self.mail if role == "mail" else self.web, *([found.admission] if found is not None else [])]

    def targets(self, now: float, start: int = 0, stop: int | None = None) -> dict[str, dict[str, Any]]:
        """route -> what is known of its targets, of those where there is something to know. JSON-ready.

        `start`, `stop`: of those from one to the other, in the order of the table.
        """
        told = {targets.route: targets.status(now) for targets in self._targets[start:stop]}
        return {name: status for name, status in told.items() if status is not None}

    def introducers(self, port: int) -> Introducers:
        """Who must begin with a PROXY header on a port."""
        return Introducers(self.config.proxy_protocol, port)

    def refusal(self, table: PortTable, facts: ConnectionFacts) -> bytes | None:
        """What a client is told that is not let in: SMTP clients get a 421 (RFC 5321 3.8), others just an end."""
        email = self.config.email
        found = table.find(facts) if email is not None and table.mail else None
        if email is None or not isinstance(found, BoundRoute):
            return None
        action = found.route.action
        if isinstance(action, MailHandover) and action.kind != "smtps":
            return f"421 4.7.0 {email.hostname} Too many connections or not allowed, try again later\r\n".encode(
                "ascii"
            )
        return None


def none_loaded(files: CertificateFiles) -> Credential:
    """For plans that are only looked at."""
    raise TlsError(f"the certificate of {files.cert} is not loaded")


def made(
    config: Config,
    state: State,
    addresses: Addresses,
    ca_files: Mapping[str, bytes],
    credential: Callable[[CertificateFiles], Credential] = none_loaded,
) -> Steps[Plan]:
    """The plan of a configuration. `ca_files`: path -> PEM of every authority and revocation list that it names;
    `credential`: what is loaded of a pair of files at the time. Raises TlsError.
    """
    binding = Binding(config, addresses, ca_files, state, credential)
    routes = yield from binding.routes()
    fallback = binding.fallback()
    yield
    by_port = yield from tables_in_steps(routes)
    return Plan(
        config,
        state,
        routes,
        fallback,
        by_port,
        binding.services,
        binding.pool,
        binding.targets,
        binding.believers,
        binding.selections,
    )


def _of_all(security: Security) -> Security:
    """What holds whatever the route will be, so that nobody is waited for in vain: the counters of all routes together,
    and `block`, to which a route can only add. `allow` has been merged into each route, which may replace it.
    """
    return evolve(security, allow=None)
