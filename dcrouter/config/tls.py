"""What the operator wrote about certificates and TLS: top-level `tls`, `certificates`, and a certificate's place."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from attrs import field, frozen

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]


@frozen(kw_only=True)
class CertificateFiles:
    """A certificate that the operator brings: PEM chain (leaf first) and its private key."""

    cert: Path
    key: Path


CertificateChoice = Literal["auto", "internal"] | CertificateFiles


@frozen(kw_only=True)
class TlsProfile:
    """`tls`: the profile of every TLS session that dcrouter terminates. `ciphers`: modern, intermediate or an OpenSSL string."""

    min_version: TlsVersion = "TLSv1.2"
    ciphers: str = "intermediate"


@frozen(kw_only=True)
class Certificates:
    """`certificates`: what the operator brings for names that routes and mail ask for."""

    files: tuple[CertificateFiles, ...] = field(default=())
