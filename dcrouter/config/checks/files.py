"""The files that the configuration names: there, readable, and what they should be. Each is looked at once per run.

PEM: RFC 7468. A key belongs to a certificate when their public keys are the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dcrouter.config.acme import Acme
from dcrouter.config.checks.acme import check_acme
from dcrouter.config.checks.mail import MAIL
from dcrouter.config.checks.values import Within
from dcrouter.config.named import read_named
from dcrouter.config.pem import is_whole
from dcrouter.config.place import Place
from dcrouter.config.publickey import public_der
from dcrouter.config.rules import MailForward
from dcrouter.config.targets import UpstreamTls
from dcrouter.config.tls import CertificateFiles, ClientAuth

LARGEST = 1024 * 1024
"""A chain is a few KB, a bundle of authorities a few hundred; a log or a device named by mistake gets a sentence."""

LARGEST_LIST = 16 * 1024 * 1024
"""A revocation list names every certificate that is revoked."""
_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\n?", re.DOTALL)
_DER = " (openssl crl -inform DER -in FILE makes one of a binary one)"


class Files:
    """`within`: what must hold within values that name files. Made anew for each run, because files change."""

    def __init__(self) -> None:
        self.within: Mapping[type, Within] = {
            Acme: self._acme,
            CertificateFiles: self._pair,
            ClientAuth: self._client_auth,
            UpstreamTls: self._upstream,
            MailForward: self._forward,
        }
        self._certificates: dict[Path, list[x509.Certificate] | str] = {}
        self._keys: dict[Path, PrivateKeyTypes | str] = {}

    def names(self, cert: Path) -> frozenset[str] | None:
        """What a certificate of a pair that was read is for, in lower case; None where it could not be read."""
        chain = self._certificates.get(cert)
        if chain is None or isinstance(chain, str):
            return None
        try:
            found = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            return frozenset()
        return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))

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
            matches = public_der(chain[0]) == public_der(key)
        except (UnsupportedAlgorithm, ValueError):
            place.at("cert").tell(f"{files.cert} has a key of a kind that is not supported")
            return files
        if not matches:
            place.at("key").tell(f"{files.key} is not the key of {files.cert}")
        elif chain[0].not_valid_after_utc.timestamp() < time.time():
            place.at("cert").warn(f"{files.cert} expired on {chain[0].not_valid_after_utc:%Y-%m-%d}")
        return files

    def _acme(self, acme: Acme, place: Place) -> Acme:
        self._authorities(acme.ca_file, place.at("ca_file"), unused=None)
        return check_acme(acme, place)

    def _client_auth(self, auth: ClientAuth, place: Place) -> ClientAuth:
        self._authorities(auth.ca, place.at("ca"), unused=None)
        if auth.crl is None:
            return auth
        lists = _revocations(auth.crl)
        if isinstance(lists, str):
            place.at("crl").tell(lists)
            return auth
        for one in lists:
            until = one.next_update_utc
            if until is not None and until.timestamp() < time.time():
                place.at("crl").warn(
                    f"the list of {one.issuer.rfc4514_string()} has run out on {until:%Y-%m-%d}: "
                    "clients that need it are refused"
                )
        authorities = self._certificates[auth.ca]
        listed = {one.issuer for one in lists}
        for authority in authorities if not isinstance(authorities, str) else ():
            if authority.subject not in listed:
                place.at("crl").warn(
                    f"holds no list of {authority.subject.rfc4514_string()}: clients that it has signed are refused"
                )
        return auth

    def _upstream(self, upstream: UpstreamTls, place: Place) -> UpstreamTls:
        self._authorities(upstream.ca, place.at("ca"), unused=None if upstream.verify else "verify is false")
        return upstream

    def _forward(self, forward: MailForward, place: Place) -> MailForward:
        checked: MailForward = MAIL[MailForward](forward, place)
        unused = None if checked.tls == "required" else f"tls is {checked.tls}"
        self._authorities(checked.ca, place.at("ca"), unused=unused)
        return checked

    def _authorities(self, path: Path | None, place: Place, *, unused: str | None) -> None:
        """`unused`: why nothing is verified."""
        if path is None:
            return
        if path not in self._certificates:
            self._certificates[path] = _certificates(path)
        found = self._certificates[path]
        if isinstance(found, str):
            place.tell(found)
        elif unused is not None:
            place.warn(f"nothing is verified against it: {unused}")


def _certificates(path: Path) -> list[x509.Certificate] | str:
    data = read_named(path, LARGEST)
    if isinstance(data, str):
        return data
    if not is_whole(data):
        return f"{path} is cut off: it ends within a PEM block"
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        return f"{path} is not a PEM certificate"


def _revocations(path: Path) -> list[x509.CertificateRevocationList] | str:
    data = read_named(path, LARGEST_LIST)
    if isinstance(data, str):
        return data
    blocks = _CRL_BLOCK.findall(data)
    try:
        return [x509.load_pem_x509_crl(block) for block in blocks] or f"{path} is not a PEM revocation list{_DER}"
    except ValueError:
        return f"{path} is not a PEM revocation list{_DER}"


def _key(path: Path) -> PrivateKeyTypes | str:
    data = read_named(path, LARGEST)
    if isinstance(data, str):
        return data
    try:
        # What an RSA key's numbers are is looked at when it is used; to validate thousands takes minutes.
        return load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return f"{path} is encrypted: dcrouter needs the key without a pass phrase"
    except (ValueError, UnsupportedAlgorithm):
        return f"{path} is not a PEM private key"
