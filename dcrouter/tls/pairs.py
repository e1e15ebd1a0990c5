"""The operator's certificates: pairs of files that are read, watched, and never given up for something worse.

A pair that was good stays in use until its files hold another good one; what is wrong with them is told once. So is an
end that comes near: WARNED seconds before, and when it has come. A chain that is cut exactly between two certificates
is known by what the one before it had.
"""

from __future__ import annotations

from pathlib import Path

from attrs import define
from twisted.logger import Logger

from dcrouter.config.tls import CertificateFiles
from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential, read

_DAY = 86400.0
WARNED = (14 * _DAY, 3 * _DAY, 0.0)
"""Seconds before a certificate ends."""

_log = Logger()

_Signature = tuple[tuple[int, int, int] | None, ...]


@define
class Pair:
    """`credential`: the last good one. `problem`: why the files as they are now are not used; None where they are."""

    files: CertificateFiles
    shared: bool
    credential: Credential | None = None
    problem: str | None = None
    _signature: _Signature = ()

    def again(self) -> Pair:
        """For another configuration: what was read stays, as far as it was good and the files are still the same."""
        if self.problem is not None or self.changed():
            return Pair(self.files, self.shared)
        return Pair(self.files, self.shared, self.credential, None, self._signature)

    def changed(self) -> bool:
        """Whether the files are others than at the last look: a stat of each."""
        return _signature(self.files) != self._signature

    def refresh(self, now: float) -> None:
        """Read the files, if they changed. `now`: UTC epoch seconds."""
        signature = _signature(self.files)  # before the reading: what is written meanwhile is seen the next time
        if signature == self._signature and self.credential is not None:
            return
        self._signature = signature
        try:
            found = read(self.files.cert, self.files.key, shared=self.shared)
            if self.credential is not None and _is_cut(self.credential, found):
                raise TlsError(
                    f"certificate file {self.files.cert} ends before its issuer's certificate, which it had before: "
                    "half written? A reload takes it as it is"
                )
            if found.not_after <= now and self.credential is not None and self.credential.not_after > now:
                raise TlsError(f"certificate file {self.files.cert} has expired")
        except TlsError as error:
            self.problem = str(error)
            if self.credential is not None:
                _log.error("the certificate in use stays: {problem}", problem=self.problem)
        else:
            self.credential, self.problem = found, None

    def tell_end(self, now: float, told: dict[tuple[str, float], int]) -> None:
        """Log that the end is near, or has come, if that was not yet. `told`: (file, its end) -> how often."""
        if self.credential is None:
            return
        left = self.credential.not_after - now
        due = sum(left <= before for before in WARNED)
        key = (str(self.files.cert), self.credential.not_after)
        if due <= told.get(key, 0):
            return
        told[key] = due
        names = ", ".join(self.credential.names)
        if due == len(WARNED):
            _log.error("certificate file {file} has expired: {names}", file=key[0], names=names)
        else:
            _log.warn(
                "certificate file {file} expires in {days} days: {names}",
                file=key[0],
                days=round(left / _DAY, 1),
                names=names,
            )


def _is_cut(before: Credential, now: Credential) -> bool:
    """Whether a chain lacks what the one before had: intermediates at all, or that of its last certificate."""
    if not before.issuers:
        return False
    had = {one.subject for one in before.certificates()[1:] if one.subject != one.issuer}
    chain = now.certificates()
    last = chain[-1]
    return last.subject != last.issuer and bool(had) and (len(chain) == 1 or last.issuer in had)


def _signature(files: CertificateFiles) -> _Signature:
    return tuple(map(file_signature, (files.cert, files.key)))


def file_signature(path: Path) -> tuple[int, int, int] | None:
    """What differs when a file was changed or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
