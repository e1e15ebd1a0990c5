"""Certificates of the operator's that are for other names than those which clients will ask for: a warning, because
clients refuse them, and because a test may want just that. So are names that none of his is for, where he brings some
and nobody else does: they would be left to the internal CA.

A `*.` in a certificate stands for exactly one label (RFC 9525 section 6.3); the common name is not looked at. What a
regular expression stands for is not compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from dcrouter.config.actions import MailHandover
from dcrouter.config.admin import Config
from dcrouter.config.names import REGEX, wildcards
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.tls import CertificateChoice, CertificateFiles
from dcrouter.config.units import shown

MOST_SHOWN = 3
"""Names in one warning."""


def check_covers(config: Config, root: Place, reader: Reader) -> None:
    """Of routes that terminate, and of `email`; `root`: the document."""
    shared = _shared(config, reader)
    for route in config.routes:
        tls = route.tls if route.enabled else None
        if tls is not None and route.match.domains is not None:
            place = reader.place(route).at("tls")
            _check(tls.certificate, route.match.domains, place.at("certificate"), reader)
            if tls.mode != "passthrough" and not isinstance(route.action, MailHandover):
                _check_shared(tls.certificate, route.match.domains, shared, place)
    if config.email is not None and not root.findings.touch(("email", "hostname")):
        _check(config.email.certificate, (config.email.hostname,), root.at("email", "certificate"), reader)
        _check_shared(config.email.certificate, (config.email.hostname,), shared, root.at("email", "hostname"))


def check_outward(config: Config, root: Place) -> None:
    """Of `certificates`, what has nothing to act upon; `root`: the document."""
    given, email = config.certificates, config.email
    place = root.at("certificates")
    if given.dane.rollover and (email is None or isinstance(email.certificate, CertificateFiles)):
        why = "there is no `email`" if email is None else "email.certificate has a key of its own"
        place.at("dane", "rollover").warn(f"no key rolls over: {why}")
    if given.export is not None and given.export.command and shutil.which(given.export.command[0]) is None:
        place.at("export", "command").warn(f"there is no program {shown(given.export.command[0])} to run here")


def _check(choice: CertificateChoice, wanted: Iterable[str], place: Place, reader: Reader) -> None:
    if not isinstance(choice, CertificateFiles):
        return
    names = reader.files.names(choice.cert)
    missing = _missing(names, wanted)
    if missing:
        place.warn(f"{choice.cert} is not for {missing}: clients would refuse it")


def _check_shared(
    choice: CertificateChoice, wanted: Iterable[str], shared: frozenset[str] | None, place: Place
) -> None:
    missing = _missing(shared, wanted) if choice == "auto" else ""
    if missing:
        place.warn(
            f"no certificate of certificates.files is for {missing}: clients get one of the internal CA "
            "(`certificate: internal` where that is meant)"
        )


def _shared(config: Config, reader: Reader) -> frozenset[str] | None:
    """What certificates.files are for; None where there are none, one cannot be read, or others are issued."""
    given = config.certificates
    names = [reader.files.names(files.cert) for files in given.files]
    known = [one for one in names if one is not None]
    return frozenset().union(*known) if known and known == names and given.acme is None else None


def _missing(names: frozenset[str] | None, wanted: Iterable[str]) -> str:
    """Those of `wanted` that are not among `names`, in words; "" where all are, or nobody knows."""
    missing = [name for name in wanted if names is not None and not name.startswith(REGEX) and not covers(names, name)]
    more = f" and {len(missing) - MOST_SHOWN} more" if len(missing) > MOST_SHOWN else ""
    return ", ".join(missing[:MOST_SHOWN]) + more


def covers(names: frozenset[str], wanted: str) -> bool:
    """Whether a certificate for `names` is for `wanted` too, a domain pattern. `**.` is taken as `*.`: no certificate
    is for names of any depth.
    """
    if wanted.startswith("*"):
        return "*." + wanted.lstrip("*.") in names
    return wanted in names or next(wildcards(wanted), None) in names
