"""Names for which `certificates.acme` is to issue and cannot: wildcards without dns-01, and names of no public DNS; and
challenges of which none can ever be shown.

A name is left to the internal CA, with a warning, where the directory is one of the public authorities and the name is
none of the public DNS: one label, an address, or under a top-level name that is reserved for something else (RFC 2606,
6761, 6762, 7686, 8375, 9476; ICANN's `internal`).
"""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.config.admin import Config
from dcrouter.config.checks.covers import covers
from dcrouter.config.names import REGEX
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.routes import Route

RESERVED = ("alt", "example", "home.arpa", "internal", "invalid", "local", "localhost", "onion", "test")
"""No public authority certifies what is under them."""


def is_public(name: str) -> bool:
    """Whether an authority of the public web could certify a name (`*.` before it or not)."""
    plain = name.removeprefix("*.")
    return "." in plain and not any(plain == one or plain.endswith(f".{one}") for one in RESERVED)


def certified(route: Route) -> bool:
    """Whether the route shows certificates that `auto` chooses."""
    tls = route.tls
    return route.enabled and tls is not None and tls.mode != "passthrough" and tls.certificate == "auto"


def check_certified(config: Config, root: Place, reader: Reader) -> None:
    """Of routes and of email.hostname; `root`: the document."""
    certificates = config.certificates
    acme = certificates.acme
    if acme is None:
        if certificates.on_demand is not None and not root.findings.touch(("certificates", "acme")):
            root.at("certificates", "on_demand").tell("nobody would issue them: it needs certificates.acme")
        return
    if acme.challenges == ("tls-alpn-01",) and not any(_listens_on(route, 443) for route in config.routes):
        root.at("certificates", "acme", "challenges").warn(
            "authorities look for tls-alpn-01 on port 443, where no route listens: no name can be proved"
        )
    known: set[str] = set()
    for files in certificates.files:
        known |= reader.files.names(files.cert) or frozenset()
    names = frozenset(known)
    needs_dns = "dns-01" not in acme.challenges and certificates.on_demand is None
    for route in config.routes:
        if certified(route) and route.match.domains is not None:
            place = reader.place(route).at("match", "domains")
            _check(route.match.domains, place, names, needs_dns, acme.is_public)
    email = config.email
    if email is not None and email.certificate == "auto" and not root.findings.touch(("email", "hostname")):
        _check((email.hostname,), root.at("email", "hostname"), names, needs_dns, acme.is_public)


def _listens_on(route: Route, port: int) -> bool:
    return route.enabled and any(port in given for given in route.match.ports)


def _check(domains: Iterable[str], place: Place, names: frozenset[str], needs_dns: bool, public: bool) -> None:
    for at, name in enumerate(domains):
        if name.startswith(REGEX) or covers(names, name):
            continue
        if public and not is_public(name.lstrip("*.")):
            place.at(at).warn(f"no public authority certifies {name}: the internal CA does")
        elif name.startswith("*") and needs_dns:
            place.at(at).tell(
                f"a certificate for {name} needs dns-01 among certificates.acme.challenges, or certificates.on_demand, "
                "or a file among certificates.files that covers it; or say `certificate: internal`"
            )
