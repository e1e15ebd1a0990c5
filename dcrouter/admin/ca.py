"""`dcrouter ca`: the root of the internal CA, shown, or made known to the programs of this host.

Debian and its like: what lies in /usr/local/share/ca-certificates is believed from `update-ca-certificates`(8) on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from dcrouter.admin.control import Command
from dcrouter.admin.places import find_config
from dcrouter.config.load import load
from dcrouter.durable import write_whole
from dcrouter.errors import TlsError
from dcrouter.tls.internal import root_of

PLACE = Path("/usr/local/share/ca-certificates")
UPDATE = "update-ca-certificates"
PATIENCE = 120.0
"""Seconds that it may take."""
_INSTALL = "have the programs of this host trust it (root)"


def add_ca_command(command: Command) -> list[argparse.ArgumentParser]:
    """The parsers, which still want to know where the configuration is."""
    shown = command("ca", ca, "print the root of the internal CA, for clients to trust; or install it on this host")
    verbs = shown.add_subparsers(metavar="[COMMAND]", title="commands")
    installed = verbs.add_parser("install", help=_INSTALL, description=_INSTALL)
    installed.set_defaults(act=install)
    return [shown, installed]


def ca(arguments: argparse.Namespace) -> int:
    path = _path(arguments)
    pem, root = _read(path)
    digest = root.fingerprint(SHA256()).hex(":").upper()
    name = root.subject.rfc4514_string()
    if arguments.json:
        fields = {
            "path": str(path),
            "subject": name,
            "sha256": digest,
            "not_after": root.not_valid_after_utc.timestamp(),
            "pem": pem.decode("ascii"),
        }
        print(json.dumps(fields, indent=1))
    else:
        print(f"# {name}, until {root.not_valid_after_utc:%Y-%m-%d}\n# {path}\n# SHA-256 {digest}")
        print(pem.decode("ascii"), end="")
    return 0


def install(arguments: argparse.Namespace) -> int:
    target = install_root(_path(arguments))
    print(json.dumps({"installed": str(target)}) if arguments.json else f"installed as {target}")
    return 0


def install_root(path: Path, place: Path = PLACE, update: str = UPDATE) -> Path:
    """Puts the root into `place`, and runs `update`: where it lies then. TlsError says what is in the way."""
    pem, root = _read(path)
    # Two routers on one host do not take each other's place.
    token = root.fingerprint(SHA256()).hex()[:8]
    target = place / f"dcrouter-{token}.crt"
    if not place.is_dir():
        raise TlsError(f"{place} is not here: this host has another way to trust {path} (Debian: ca-certificates)")
    try:
        write_whole(target, pem, 0o644)
    except OSError as error:
        raise TlsError(f"{target} cannot be written: {error.strerror}: run this as root") from error
    try:
        done = subprocess.run([update], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except OSError as error:
        raise TlsError(f"{update} cannot be run: {error.strerror} (Debian: ca-certificates)") from error
    except subprocess.TimeoutExpired as error:
        raise TlsError(f"{update} has not ended within {PATIENCE:g} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it does not say why").splitlines()[-1]
        raise TlsError(f"{update} has failed with status {done.returncode}: {said}")
    return target


def _path(arguments: argparse.Namespace) -> Path:
    return root_of(load(find_config(arguments.config), arguments.only).state_dir)


def _read(path: Path) -> tuple[bytes, x509.Certificate]:
    """As it is, and what it says."""
    try:
        pem = path.read_bytes()
        return pem, x509.load_pem_x509_certificate(pem)
    except FileNotFoundError:
        raise TlsError(f"{path} is not there yet: it is made when the service first needs it") from None
    except OSError as error:
        raise TlsError(f"{path} cannot be read: {error.strerror}: run this as root or as dcrouter's user") from error
    except ValueError as error:
        raise TlsError(
            f"{path} holds no certificate: restore it from a backup, or remove it: a start makes it anew"
        ) from error
