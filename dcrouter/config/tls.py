"""What the operator wrote about certificates and TLS: top-level `tls`, `certificates`, and a certificate's place."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.forms import ReadPath, key
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
class Certificates:
    """Certificates for the names that routes and mail ask for with `certificate: auto`."""

    files: tuple[CertificateFiles, ...] = field(
        default=(), metadata=key("Certificates brought by the operator; watched and reloaded.")
    )
