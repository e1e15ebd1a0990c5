"""The files that the configuration names: there, readable, and what they should be. Each is looked at once per run.

PEM: RFC 7468. A key belongs to a certificate when their public keys are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from dcrouter.config.checks.values import Within
from dcrouter.config.place import Place
from dcrouter.config.routes import UpstreamTls
from dcrouter.config.tls import CertificateFiles

LARGEST = 1024 * 1024
"""A chain is a few KB, a bundle of authorities a few hundred; a log or a device named by mistake gets a sentence."""


class Files:
    """`within`: what must hold within values that name files. Made anew for each run, because files change."""

    def __init__(self) -> None:
        self.within: Mapping[type, Within] = {CertificateFiles: self._pair, UpstreamTls: self._authorities}
        self._certificates: dict[Path, list[x509.Certificate] | str] = {}
        self._keys: dict[Path, PrivateKeyTypes | str] = {}

    def _pair(self, files: CertificateFiles, place: Place) -> CertificateFiles:
        if files.cert not in self._certificates:
            self._certificates[files.cert] = _certificates(files.cert)
        if files.key not in self._keys:
            self._keys[files.key] = _key(files.key)
        chain, key = self._certificates[files.cert], self._keys[files.key]
        if isinstance(chain, str):
            place.at("cert").tell(chain)
        if isinstance(key, str):
            place.at("key").tell(key)
        if isinstance(chain, str) or isinstance(key, str):
            return files
        try:
            matches = _public(chain[0]) == _public(key)
        except (UnsupportedAlgorithm, ValueError):
            place.at("cert").tell(f"{files.cert} has a key of a kind that is not supported")
            return files
        if not matches:
            place.at("key").tell(f"{files.key} is not the key of {files.cert}")
        elif chain[0].not_valid_after_utc.timestamp() < time.time():
            place.at("cert").warn(f"{files.cert} expired on {chain[0].not_valid_after_utc:%Y-%m-%d}")
        return files

    def _authorities(self, upstream: UpstreamTls, place: Place) -> UpstreamTls:
        if upstream.ca is not None:
            if upstream.ca not in self._certificates:
                self._certificates[upstream.ca] = _certificates(upstream.ca)
            found = self._certificates[upstream.ca]
            if isinstance(found, str):
                place.at("ca").tell(found)
            elif not upstream.verify:
                place.at("ca").warn("nothing is verified against it: verify is false")
        return upstream


def _read(path: Path) -> bytes | str:
    """Its bytes, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        return f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
    return data if len(data) <= LARGEST else f"{path} is larger than 1 MB"


def _certificates(path: Path) -> list[x509.Certificate] | str:
    data = _read(path)
    if isinstance(data, str):
        return data
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        return f"{path} is not a PEM certificate"


def _key(path: Path) -> PrivateKeyTypes | str:
    data = _read(path)
    if isinstance(data, str):
        return data
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        return f"{path} is encrypted: dcrouter needs the key without a pass phrase"
    except (ValueError, UnsupportedAlgorithm):
        return f"{path} is not a PEM private key"


def _public(owner: x509.Certificate | PrivateKeyTypes) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
