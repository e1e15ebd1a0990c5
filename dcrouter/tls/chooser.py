"""SNI and ALPN in, a TLS context out: the hot path of every handshake, in the edge and in the mail process.

Names are looked up as they stand, then with their first label as `*` (one label, RFC 9525 6.3). `auto` asks the
operator's certificates first, the internal ones then. Contexts are built when first needed and kept as long as their
credentials stay the same, so that sessions resume across a reload.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field, frozen
from OpenSSL import SSL

from dcrouter.config.tls import CertificateChoice, CertificateFiles, TlsProfile
from dcrouter.errors import TlsError
from dcrouter.net.slices import Steps, finished
from dcrouter.tls.clients import ClientCheck
from dcrouter.tls.credential import Credential
from dcrouter.tls.profile import server_context

DEFAULT_NAME = "localhost"
"""In the internal leaf of routes without domains: what a client gets that names nobody we know (also in tls/store)."""


MOST_CHECKED = 32
"""Contexts of one identity that ask clients for certificates. Each new revocation list makes one, and the oldest go."""


@define(eq=False)
class _Identity:
    """The credentials that stand side by side in one context, and the contexts made of them, by ALPN; `checked`: those
    for clients that must prove something, by ALPN and by what.
    """

    credentials: tuple[Credential, ...]
    contexts: dict[tuple[str, ...], SSL.Context] = field(factory=dict)
    checked: dict[tuple[tuple[str, ...], str], SSL.Context] = field(factory=dict)


_Names = dict[str, _Identity]


@frozen(eq=False)
class Shelf:
    """The certificates of a process, laid out to be found by file and by name."""

    identities: dict[tuple[str, ...], _Identity]
    by_file: dict[str, _Identity]
    from_files: _Names
    internal: _Names


class Chooser:
    """The contexts of one process. `mail_name`, `mail_choice`: email.hostname and email.certificate, with mail."""

    def __init__(
        self, profile: TlsProfile, *, mail_name: str | None = None, mail_choice: CertificateChoice = "auto"
    ) -> None:
        self._profile = profile
        self._mail_name = mail_name
        self._mail_choice = mail_choice
        self._shelf = Shelf({}, {}, {}, {})

    def update(self, credentials: Iterable[Credential]) -> None:
        """From now on these, in their order, and no others; connections that have begun keep theirs."""
        self.use(finished(self.shelf(credentials)))

    def use(self, shelf: Shelf) -> None:
        """As `update`, with what `shelf` has laid out."""
        self._shelf = shelf

    def shelf(self, credentials: Iterable[Credential]) -> Steps[Shelf]:
        """These credentials, and no others, ready to be used; what is in use already stays as it is."""
        everything = tuple(credentials)
        identities: dict[tuple[str, ...], _Identity] = {}

        def identity(*members: Credential) -> _Identity:
            key = tuple(member.id for member in members)
            if key not in identities:
                identities[key] = self._shelf.identities.get(key) or _Identity(members)
            return identities[key]

        def by_name(chosen: Iterable[Credential]) -> Steps[_Names]:
            members: dict[str, dict[str, Credential]] = {}
            for credential in chosen:
                for name in credential.names:
                    members.setdefault(name, {}).setdefault(credential.key_type, credential)
                yield
            names: _Names = {}
            for name, of_type in members.items():
                names[name] = identity(*of_type.values())
                yield
            return names

        by_file: dict[str, _Identity] = {}
        for credential in everything:
            if credential.file is not None:
                by_file[credential.file] = identity(credential)
            yield
        from_files = yield from by_name(one for one in everything if one.source == "file" and one.shared)
        internal = yield from by_name(one for one in everything if one.source == "internal")
        return Shelf(identities, by_file, from_files, internal)

    def credential(self, files: CertificateFiles) -> Credential:
        """What is loaded of a pair that somebody names; TlsError where that is nothing."""
        return self._of_file(files).credentials[0]

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
        if clients is not None:
            return self._checked(identity, alpn, clients)
        return identity.contexts.get(alpn) or self._build(identity, alpn)

    def mail_context(self, sni: str | None) -> SSL.Context:
        """The context of the mail server: for `sni` where we have a certificate for it, else for email.hostname."""
        identity = self._find(self._mail_choice, sni, self._mail_name or DEFAULT_NAME)
        return identity.contexts.get(()) or self._build(identity, ())

    def _find(self, choice: CertificateChoice, sni: str | None, fallback: str) -> _Identity:
        if isinstance(choice, CertificateFiles):
            return self._of_file(choice)
        shelf = self._shelf
        tables = (shelf.internal,) if choice == "internal" else (shelf.from_files, shelf.internal)
        for name in (sni, fallback):
            if name is None:
                continue
            name = name.lower().replace("**.", "*.", 1)
            wildcard = "*." + name.partition(".")[2]
            for table in tables:
                found = table.get(name) or table.get(wildcard)
                if found is not None:
                    return found
        raise TlsError(f"no certificate for {sni or fallback}")

    def _of_file(self, files: CertificateFiles) -> _Identity:
        found = self._shelf.by_file.get(str(files.cert))
        if found is None:
            raise TlsError(f"the certificate of {files.cert} is not loaded")
        return found

    def _checked(self, identity: _Identity, alpn: tuple[str, ...], clients: ClientCheck) -> SSL.Context:
        key = (alpn, clients.id)
        found = identity.checked.get(key)
        if found is None:
            if len(identity.checked) >= MOST_CHECKED:
                del identity.checked[next(iter(identity.checked))]
            found = identity.checked[key] = server_context(identity.credentials, self._profile, alpn, clients)
        return found

    def _build(self, identity: _Identity, alpn: tuple[str, ...]) -> SSL.Context:
        context = identity.contexts[alpn] = server_context(identity.credentials, self._profile, alpn)
        return context
