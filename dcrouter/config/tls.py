"""What the operator wrote about certificates and TLS: top-level `tls`, `certificates`, and a certificate's place."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.acme import Acme, OnDemand, Word
from dcrouter.config.forms import ReadPath, WrittenPath, key
from dcrouter.config.lines import Ciphers
from dcrouter.config.versions import TlsVersion


@frozen(kw_only=True)
class CertificateFiles:
    """A certificate that the operator brings: PEM chain (leaf first) and its private key."""

    cert: ReadPath = field(metadata=key("PEM file of the certificate, followed by its issuers."))
    key: ReadPath = field(metadata=key("PEM file of the certificate's private key, without a pass phrase."))


@frozen(kw_only=True)
class ClientAuth:
    """What clients must prove with a certificate of their own."""

    ca: ReadPath = field(metadata=key("PEM file of the authorities whose certificates are taken; watched."))
    crl: ReadPath | None = field(
        default=None,
        metadata=key("PEM file of their revocation lists, one of each; watched.", default="nobody is revoked"),
    )
    mode: Literal["require", "request"] = field(
        default="require", metadata=key("Whether a client without a certificate is refused; a bad one always is.")
    )


CertificateChoice = Literal["auto", "internal"] | CertificateFiles


@frozen(kw_only=True)
class TlsProfile:
    """The profile of every TLS session that dcrouter terminates, web and mail."""

    min_version: TlsVersion = field(default="TLSv1.2", metadata=key("The oldest version of TLS that is spoken."))
    ciphers: Ciphers = field(
        default="intermediate",
        metadata=key("`modern` (TLS 1.3 only), `intermediate`, or a list of suites as OpenSSL writes it."),
    )


@frozen(kw_only=True)
class Export:
    """Certificates for other servers on this host, as files."""

    dir: WrittenPath = field(
        metadata=key("Where NAME.pem is written for each name: its key, then its certificate and issuers; 0600.")
    )
    command: tuple[Word, ...] = field(
        default=(),
        metadata=key(
            "What is run when a file has changed: a program and its arguments, without a shell.",
            default="nothing is run",
        ),
    )


@frozen(kw_only=True)
class Dane:
    """TLSA records of the mail server's key (RFC 7672)."""

    rollover: bool = field(
        default=False,
        metadata=key(
            "Keep the key across renewals until the next one's record was in DNS for long enough; `dcrouter dns` "
            "prints both."
        ),
    )


@frozen(kw_only=True)
class Certificates:
    """Certificates for the names that routes and mail ask for with `certificate: auto`."""

    acme: Acme | None = field(
        default=None,
        metadata=key("Who issues the others, by itself.", default="the internal CA issues them"),
    )
    on_demand: OnDemand | None = field(
        default=None,
        metadata=key("Certificates for names that routes match without naming them.", default="none are issued"),
    )
    files: tuple[CertificateFiles, ...] = field(
        default=(), metadata=key("Certificates brought by the operator; watched and reloaded.")
    )
    export: Export | None = field(
        default=None, metadata=key("Certificates as files for other servers.", default="none are written")
    )
    dane: Dane = field(factory=Dane, metadata=key("TLSA records of email.hostname."))
