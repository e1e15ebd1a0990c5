"""One file, two services: what `dcrouter run --only proxy` and `--only mail` make of a routes.yaml with `email.remote`.

proxy   all routes; what comes to a mail port is sent to `email.remote`, with a PROXY header (config/effective.py).
        Of `email` it reads KEPT alone: users, lists and keys of the mail half need not be on this host.
mail    listens on `email.remote` alone, and only for the edges that `from` names. Of the routes it keeps those that
        lead to mail; a certificate of certificates.files that is not on this host is left out. ACME is asked by dns-01,
        for who asks by the other ways comes to the edge; without it `certificate: auto` is what the edge has exported,
        where that is on this host.

The mail half's queue and Maildirs are in `state_dir`, where those of one service are, so that either can go on with
them. All else that it has of its own (certificates, the admin socket, the lock, and logs that would be in `state_dir`)
is in `state_dir`/mail-half, so that both halves can be on one host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from attrs import evolve

from dcrouter.config.actions import MailHandover
from dcrouter.config.admin import Admin, Config
from dcrouter.config.findings import Findings
from dcrouter.config.keys import fields_of
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.match import Match, PortRange
from dcrouter.config.nodes import Mapping as MappingNode
from dcrouter.config.nodes import Node, Scalar
from dcrouter.config.nodes import Sequence as SequenceNode
from dcrouter.config.place import Place
from dcrouter.config.remote import Remote
from dcrouter.config.routes import Defaults, ProxyProtocol, Route
from dcrouter.config.tls import CertificateChoice, CertificateFiles, Certificates, Export

Half = Literal["proxy", "mail"]

DIRECTORY = "mail-half"
"""Under state_dir."""

KEPT = frozenset(("hostname", "ports", "certificate", "remote", "security"))
"""Of `email`, what the edge needs."""

_FORGOTTEN = ("admin", "http", "proxy_protocol")
_FORGOTTEN_CERTIFICATES = ("on_demand",)


def halved(root: Node, half: Half | None, directory: Path, findings: Findings) -> Node:
    """The document without what is the other half's alone. `directory`: of the file."""
    if half is None or not isinstance(root, MappingNode):
        return root
    if half == "proxy":
        strange = frozenset(fields_of(Email)) - KEPT
        return _changed(root, {"email": lambda email: _without(email, strange)})
    certificates = _certificates(directory, Place.root(root, findings))
    return _changed(
        _without(root, _FORGOTTEN),
        {
            "routes": _to_mail,
            "defaults": lambda defaults: _without(defaults, ("target",)),
            "certificates": certificates,
        },
    )


def of_half(config: Config, half: Half | None, root: Place) -> Config:
    """What the service runs; what keeps it from that is told."""
    email = config.email
    remote = email.remote if email is not None else None
    if half is None or root.findings.problems:
        return config
    if email is None and half == "proxy":
        return config
    if email is None or remote is None:
        where = root.at("email")
        where.tell("'remote' is missing: it says where the mail half is" if email else "'email' is missing")
        return config
    if half == "mail":
        return _mail_half(config, email, remote, root)
    if isinstance(email.certificate, CertificateFiles):
        # The files are the mail half's; nobody asks the edge for that name, unless a route has it too.
        email = evolve(email, certificate="internal")
    return evolve(config, email=email)


def certifies_mail(config: Config) -> bool:
    """Whether clients of mail see what this service has for `email.hostname`: of an edge apart from the mail half only
    what it exports, where the mail half cannot have one itself.
    """
    email, certificates = config.email, config.certificates
    if email is None or email.remote is None:
        return email is not None
    by_itself = certificates.acme is not None and "dns-01" in certificates.acme.challenges
    return email.certificate == "auto" and certificates.export is not None and not by_itself


def undecided(config: Config, half: Half | None) -> str | None:
    """Why no service can be made of this without a word more."""
    if half is None and config.email is not None and config.email.remote is not None:
        return "email.remote makes two services of this: start them with --only proxy and --only mail"
    return None


def _mail_half(config: Config, email: Email, remote: Remote, root: Place) -> Config:
    home = config.state_dir
    own = home / DIRECTORY
    ports = tuple(
        MailPort(port=remote.port(one.port), kind=one.kind, max_connections=one.max_connections) for one in email.ports
    )
    outer = tuple(evolve(one, listen=one.listen or config.listen) for one in email.ports)
    certificates = config.certificates
    acme = certificates.acme
    if acme is not None:
        acme = evolve(acme, challenges=("dns-01",)) if "dns-01" in acme.challenges else None
        if acme is None and email.certificate == "auto":
            email = evolve(email, certificate=_exported(certificates.export, email.hostname, root))
    log, access_log = config.log, config.access_log
    if log.file is not None:
        log = evolve(log, file=_moved(log.file, home, own))
    if access_log is not None:
        access_log = evolve(access_log, file=_moved(access_log.file, home, own))
    return evolve(
        config,
        state_dir=own,
        admin=Admin(socket=own / "admin.sock"),
        log=log,
        access_log=access_log,
        listen=(remote.host,),
        certificates=Certificates(acme=acme, files=certificates.files, dane=certificates.dane),
        proxy_protocol=(ProxyProtocol(from_=remote.from_, only=True),),
        defaults=Defaults(timeouts=config.defaults.timeouts, security=config.defaults.security),
        routes=tuple(_between(route, remote) for route in config.routes if isinstance(route.action, MailHandover)),
        email=evolve(email, ports=ports, remote=None, home=home, outer=outer, edges=remote.from_),
    )


def _exported(export: Export | None, hostname: str, root: Place) -> CertificateChoice:
    path = export.dir / f"{hostname.lower()}.pem" if export is not None else None
    if path is not None and path.exists():
        return CertificateFiles(cert=path, key=path)
    wanted = str(path) if path is not None else "what the edge exports (certificates.export)"
    root.at("certificates", "acme").warn(
        f"cannot be used by the mail half without dns-01: until {wanted} is on this host, and a reload, clients see a "
        "certificate of the internal CA"
    )
    return "auto"


def _between(route: Route, remote: Remote) -> Route:
    """A mail route of the file as the mail half has it."""
    ports: list[PortRange] = []
    for given in route.match.ports:
        for outer in range(given.start, given.end + 1):
            inner = remote.port(outer)
            if ports and ports[-1].end == inner - 1:
                ports[-1] = PortRange(start=ports[-1].start, end=inner)
            else:
                ports.append(PortRange(start=inner, end=inner))
    match = Match(ports=tuple(ports), client_ips=route.match.client_ips, time=route.match.time)
    return evolve(route, match=match)


def _moved(path: Path, home: Path, own: Path) -> Path:
    """A file of ours beside that of the other half."""
    return own / path.relative_to(home) if path.is_relative_to(home) else path


# ---------------------------------------------------------------------- nodes


def _without(node: Node, words: Iterable[str]) -> Node:
    if not isinstance(node, MappingNode):
        return node
    left = frozenset(words)
    made = MappingNode(node.line, node.column)
    made.entries = {word: entry for word, entry in node.entries.items() if word not in left}
    return made


def _changed(node: Node, changes: Mapping[str, Callable[[Node], Node]]) -> Node:
    if not isinstance(node, MappingNode):
        return node
    made = MappingNode(node.line, node.column)
    made.entries = {
        word: (key, changes[word](value) if word in changes else value) for word, (key, value) in node.entries.items()
    }
    return made


def _to_mail(routes: Node) -> Node:
    if not isinstance(routes, SequenceNode):
        return routes
    made = SequenceNode(routes.line, routes.column)
    made.items = [route for route in routes.items if _says(_entry(route, "action"), "type", "mail")]
    return made


def _certificates(directory: Path, root: Place) -> Callable[[Node], Node]:
    """Those of `files` that are not on this host are left out."""

    def here(files: Node) -> Node:
        if not isinstance(files, SequenceNode):
            return files
        made = SequenceNode(files.line, files.column)
        for at, one in enumerate(files.items):
            named = _entry(one, "cert")
            if isinstance(named, Scalar) and not (directory / named.text).exists():
                root.at("certificates", "files", at).warn("is not on this host: the mail half does without it")
            else:
                made.items.append(one)
        return made

    return lambda certificates: _changed(_without(certificates, _FORGOTTEN_CERTIFICATES), {"files": here})


def _entry(node: Node | None, word: str) -> Node | None:
    found = node.entries.get(word) if isinstance(node, MappingNode) else None
    return None if found is None else found[1]


def _says(node: Node | None, word: str, text: str) -> bool:
    found = _entry(node, word)
    return isinstance(found, Scalar) and found.text == text
