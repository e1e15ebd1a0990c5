"""Whom we believe: certificate authorities, as PEM bytes that the parent reads and the edge uses."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from OpenSSL.crypto import FILETYPE_PEM, X509, Error, load_certificate

from dcrouter.errors import TlsError
from dcrouter.tls.credential import pem_blocks

# Debian, Ubuntu and Alpine; Fedora and RHEL; SUSE; others. The OpenSSL inside cryptography's wheels knows none of them.
_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)


@cache
def system_trust() -> bytes:
    """The system's CA bundle, PEM: SSL_CERT_FILE, else the first place that exists. TlsError where there is none.

    Read once; a process that may not open files later calls it at its start.
    """
    given = os.environ.get("SSL_CERT_FILE")
    for path in (Path(given),) if given else _BUNDLES:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TlsError(f"the system's CA bundle {path} cannot be read: {error.strerror}") from error
    raise TlsError("the system has no CA bundle (Debian: ca-certificates), and no ca was given to verify against")


def certificates_of(pem: bytes) -> list[X509]:
    """The certificates of a CA file. TlsError where there are none, or one cannot be parsed.

    By OpenSSL, because cryptography refuses what some old roots have (a serial number of zero).
    """
    try:
        found = [load_certificate(FILETYPE_PEM, block) for label, block in pem_blocks(pem) if label == b"CERTIFICATE"]
    except Error as error:
        raise TlsError("the CA file holds a certificate that cannot be parsed") from error
    if not found:
        raise TlsError("the CA file holds no PEM certificate")
    return found
