"""SNI and ALPN in, a TLS context out: the hot path of every handshake, in the edge and in the mail process.

Names are looked up as they stand, then with their first label as `*` (one label, RFC 9525 6.3). `auto` asks the
operator's certificates first, then those that ACME brought, then the internal ones. Contexts are built when first
needed and kept as long as their credentials stay the same (tls/contexts.py), so that sessions resume across a reload.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from attrs import field, frozen
from OpenSSL import SSL

from dcrouter.config.tls import CertificateChoice, CertificateFiles, TlsProfile
from dcrouter.errors import TlsError
from dcrouter.net.slices import Steps, finished
from dcrouter.tls.clients import ClientCheck
from dcrouter.tls.contexts import Contexts, Identity
from dcrouter.tls.credential import Credential, Source
from dcrouter.tls.names import as_certified, covers, wildcard_of

DEFAULT_NAME = "localhost"
"""In the internal leaf of routes without domains: what a client gets that names nobody we know (also in tls/store)."""
_SOURCES: tuple[Source, ...] = get_args(Source)


@frozen(eq=False)
class Shelf:
    """The certificates of a process, to be found by file and by name. `auto`: tables in the order of asking."""

    identities: Mapping[tuple[str, ...], Identity] = field(factory=dict)
    by_file: Mapping[str, Identity] = field(factory=dict)
    auto: tuple[Mapping[str, Identity], ...] = ()
    internal: tuple[Mapping[str, Identity], ...] = ()


class Chooser:
    """The contexts of one process. `mail_name`, `mail_choice`: email.hostname and email.certificate, with mail."""

    def __init__(
        self,
        profile: TlsProfile,
        *,
        mail_name: str | None = None,
        mail_choice: CertificateChoice = "auto",
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contexts = Contexts(profile, seconds)
        self._mail_name = mail_name
        self._mail_choice = mail_choice
        self._shelf = Shelf()

    def update(self, credentials: Iterable[Credential]) -> None:
        """From now on these, in their order, and no others; connections that have begun keep theirs."""
        self.use(finished(self.shelf(credentials)))

    def use(self, shelf: Shelf) -> None:
        """As `update`, with what `shelf` has laid out."""
        self._shelf = shelf
        self._contexts.keep(set(shelf.identities.values()))

    def shelf(self, credentials: Iterable[Credential]) -> Steps[Shelf]:
        """These credentials, and no others, ready to be used; what is in use already stays as it is."""
        everything = tuple(credentials)
        identities: dict[tuple[str, ...], Identity] = {}

        def identity(*members: Credential) -> Identity:
            key = tuple(member.id for member in members)
            if key not in identities:
                identities[key] = self._shelf.identities.get(key) or Identity(members)
            return identities[key]

        def by_name(source: Source) -> Steps[dict[str, Identity]]:
            members: dict[str, dict[str, Credential]] = {}
            for credential in everything:
                if credential.source == source and credential.shared:
                    for name in credential.names:
                        members.setdefault(name, {}).setdefault(credential.key_type, credential)
                    yield
            names: dict[str, Identity] = {}
            for name, of_type in members.items():
                names[name] = identity(*of_type.values())
                yield
            return names

        by_file: dict[str, Identity] = {}
        for credential in everything:
            if credential.file is not None:
                by_file[credential.file] = identity(credential)
            yield
        tables = []
        for source in _SOURCES:
            tables.append((yield from by_name(source)))
        # One that is empty would cost every handshake a look.
        auto = tuple(table for table in tables if table)
        return Shelf(identities, by_file, auto, (tables[_SOURCES.index("internal")],))

    def credential(self, files: CertificateFiles) -> Credential:
        """What is loaded of a pair that somebody names; TlsError where that is nothing."""
        return self._of_file(files).credentials[0]

    def shown(self, choice: CertificateChoice, name: str) -> tuple[Credential, ...]:
        """What a client that asks for `name` may be shown, one of each key type; nothing where there is none."""
        try:
            return self._find(choice, name, name).credentials
        except TlsError:
            return ()

    def web_context(
        self,
        choice: CertificateChoice,
        sni: str | None,
        fallback_name: str | None,
        alpn: tuple[str, ...] = (),
        clients: ClientCheck | None = None,
    ) -> SSL.Context:
        """The context of a terminating route. `choice`: its tls.certificate; `alpn`: what it speaks, best first;
        `clients`: what they must prove.

        `fallback_name`: one of the route's domains, as written, for a client without SNI or with a name that only the
        route's pattern covers; None where the route has no domains. Raises TlsError where no credential fits.
        """
        identity = self._find(choice, sni, fallback_name or DEFAULT_NAME)
        return self._contexts.get(identity, alpn, clients)

    def mail_context(self, sni: str | None) -> SSL.Context:
        """The context of the mail server: for `sni` where we have a certificate for it, else for email.hostname."""
        identity = self._find(self._mail_choice, sni, self._mail_name or DEFAULT_NAME)
        return self._contexts.get(identity, ())

    def certified(self, name: str) -> bool:
        """Whether `auto` has a certificate for it that is not the internal CA's."""
        shelf = self._shelf
        return any(
            covers(table, name) for table in shelf.auto if not any(table is internal for internal in shelf.internal)
        )

    def _find(self, choice: CertificateChoice, sni: str | None, fallback: str) -> Identity:
        if isinstance(choice, CertificateFiles):
            return self._of_file(choice)
        shelf = self._shelf
        tables = shelf.internal if choice == "internal" else shelf.auto
        for name in (sni, fallback):
            if name is None:
                continue
            plain = as_certified(name)
            for table in tables:
                found = table.get(plain) or table.get(wildcard_of(plain))
                if found is not None:
                    return found
        raise TlsError(f"no certificate for {sni or fallback}")

    def _of_file(self, files: CertificateFiles) -> Identity:
        found = self._shelf.by_file.get(str(files.cert))
        if found is None:
            raise TlsError(f"the certificate of {files.cert} is not loaded")
        return found
