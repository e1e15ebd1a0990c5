"""Certificates of the operator's that are for other names than those which clients will ask for: a warning, because
clients refuse them, and because a test may want just that.

A `*.` in a certificate stands for exactly one label (RFC 9525 section 6.3); the common name is not looked at. What a
regular expression stands for is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.config.admin import Config
from dcrouter.config.names import REGEX, wildcards
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.tls import CertificateChoice, CertificateFiles

MOST_SHOWN = 3
"""Names in one warning."""


def check_covers(config: Config, root: Place, reader: Reader) -> None:
    """Of routes with a certificate of their own, and of `email`; `root`: the document."""
    for route in config.routes:
        if route.enabled and route.tls is not None and route.match.domains is not None:
            _check(route.tls.certificate, route.match.domains, reader.place(route).at("tls", "certificate"), reader)
    if config.email is not None and not root.findings.touch(("email", "hostname")):
        _check(config.email.certificate, (config.email.hostname,), root.at("email", "certificate"), reader)


def _check(choice: CertificateChoice, wanted: Iterable[str], place: Place, reader: Reader) -> None:
    if not isinstance(choice, CertificateFiles):
        return
    names = reader.files.names(choice.cert)
    if names is None:
        return
    missing = [name for name in wanted if not name.startswith(REGEX) and not covers(names, name)]
    if missing:
        more = f" and {len(missing) - MOST_SHOWN} more" if len(missing) > MOST_SHOWN else ""
        place.warn(f"{choice.cert} is not for {', '.join(missing[:MOST_SHOWN])}{more}: clients would refuse it")


def covers(names: frozenset[str], wanted: str) -> bool:
    """Whether a certificate for `names` is for `wanted` too, a domain pattern. `**.` is taken as `*.`: no certificate
    is for names of any depth.
    """
    if wanted.startswith("*"):
        return "*." + wanted.lstrip("*.") in names
    return wanted in names or next(wildcards(wanted), None) in names
