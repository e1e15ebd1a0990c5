"""`python -m bench.certificates [COUNT]`: what COUNT certificates (10 000) cost a service, beside one with ten.

Certificates of a CA with an intermediate, as a public one's: a leaf of 1.2 KB, RSA keys (the larger ones), one name
each. Measured are

memory       private memory of the edge and of the mail process, per certificate more
handshake    CPU of the edge for a full TLS 1.3 handshake (ECDSA at the client's end), for names that are asked for
             again and again; turn about, because the machine is never equally quiet for long
lookup       from SNI to context, in this process, for names whose contexts are kept: the same ten names beside many
             others, and a thousand in any order. The search alone, without its context, of all names in any order tells
             what the processor's cache has to do with it
first        CPU of the edge for the first handshake of a name, whose context is built: what a name costs that has
             fallen out of the thousand that are kept

Goals: less than 10 KB per certificate in each process; a handshake and a lookup among many at most 1.1 times those
among ten.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.place import free_port
from bench.process import private_kib, started
from dcrouter.admin.client import ApiError, ask
from dcrouter.config.tls import TlsProfile
from dcrouter.tls.chooser import Chooser
from dcrouter.tls.contexts import MOST
from dcrouter.tls.credential import make

FEW = 10
READY_WITHIN = 180.0
TURNS = 6
HANDSHAKES = 400
"""Of each side in each turn."""
LEAF_BYTES = 1200
"""Of a public CA's leaf with its two signed timestamps (DER)."""
_PADDING = x509.ObjectIdentifier("1.3.6.1.4.1.32473.1")  # RFC 5612: for examples

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def signed(
    name: str,
    key: _Key,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    *,
    padding: int = 0,
    ca: bool = False,
    days: int = 89,
) -> x509.Certificate:
    """One for `name`, larger by `padding` octets, valid for `days` from now."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    if padding:
        builder = builder.add_extension(x509.UnrecognizedExtension(_PADDING, bytes(padding)), critical=False)
    return builder.sign(signer, SHA256())


class Site:
    """`count` pairs of files in `directory`, all with one of a few keys: to make ten thousand takes an hour."""

    def __init__(self, directory: Path, count: int) -> None:
        directory.mkdir()
        signer = ec.generate_private_key(ec.SECP256R1())
        issuer = signed("bench intermediate", signer, "bench root", signer, padding=900, ca=True)
        keys = [rsa.generate_private_key(65537, 2048) for _ in range(4)]
        pems = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in keys]
        self.names = [f"host{number}.example.test" for number in range(count)]
        self.files = []
        self.credentials = []
        for number, name in enumerate(self.names):
            key = keys[number % len(keys)]
            leaf = signed(name, key, "bench intermediate", signer, padding=LEAF_BYTES - 700)
            cert, secret = directory / f"{name}.pem", directory / f"{name}.key"
            cert.write_bytes(leaf.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM))
            secret.write_bytes(pems[number % len(keys)])
            self.files.append({"cert": str(cert), "key": str(secret)})
            self.credentials.append(make([leaf, issuer], key, source="file", file=str(cert)))


class Service:
    """One that shows these, until `stop`."""

    def __init__(self, directory: Path, site: Site) -> None:
        self.port = free_port()
        self._socket = directory / "s"
        route = {
            "name": "web",
            "match": {"ports": self.port},
            "tls": {"mode": "terminate"},
            "action": {"type": "respond"},
        }
        email = {
            "hostname": site.names[0],
            "postmaster": "root@a.test",
            "ports": [{"port": free_port(), "kind": "smtp"}],
        }
        email["rules"] = [
            {"name": "r", "match": {"recipients": ["*@a.test"]}, "action": {"type": "deliver", "maildir": "m"}}
        ]
        document = {
            "version": 1,
            "listen": ["127.0.0.1"],
            "state_dir": str(directory / "state"),
            "admin": {"socket": str(self._socket)},
            "certificates": {"files": site.files},
            "routes": [route],
            "email": email,
        }
        source = directory / "routes.yaml"
        source.write_text(json.dumps(document))
        self._log = (directory / "log").open("wb")
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dcrouter.tap", "--config", str(source)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._pids = self._ready(began + READY_WITHIN, directory / "log")
        self.seconds = time.monotonic() - began

    def _ready(self, until: float, log: Path) -> dict[str, int]:
        while time.monotonic() < until and self._process.poll() is None:
            try:
                status = ask(self._socket, "GET", "/status")
            except ApiError:
                status = {"state": "starting"}
            if status["state"] == "ready":
                return {role: child["pid"] for role, child in status["children"].items()}
            time.sleep(0.1)
        raise SystemExit(log.read_text()[-2000:])

    def private(self, role: str) -> int:
        """KiB."""
        return private_kib([self._known(role)])

    def edge_seconds(self) -> float:
        """CPU so far, in clock ticks no longer: nanoseconds of the scheduler (proc(5), schedstat)."""
        return int(Path(f"/proc/{self._pids['edge']}/schedstat").read_text().split()[0]) / 1e9

    def _known(self, role: str) -> tuple[int, int]:
        pid = self._pids[role]
        return pid, started(pid) or 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


def handshakes(service: Service, names: list[str]) -> float:
    """Microseconds of the edge's CPU for each, one after the other."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.options |= ssl.OP_NO_TICKET
    before = service.edge_seconds()
    for name in names:
        with (
            socket.create_connection(("127.0.0.1", service.port)) as plain,
            client.wrap_socket(plain, server_hostname=name),
        ):
            pass
    time.sleep(0.05)
    return (service.edge_seconds() - before) / len(names) * 1e6


def lookups(cases: dict[str, tuple[Site, list[str]]], ask: Callable[[Chooser, str], object]) -> dict[str, float]:
    """Nanoseconds for each, turn about; every name comes as bytes of its own, as from a ClientHello."""
    made = {}
    for label, (site, names) in cases.items():
        chooser = Chooser(TlsProfile())
        chooser.update(site.credentials)
        for name in names:
            ask(chooser, name)
        made[label] = chooser, [random.choice(names).encode() for _ in range(100_000)]
    took: dict[str, list[float]] = {label: [] for label in cases}
    for _ in range(7):
        for label, (chooser, wanted) in made.items():
            began = time.perf_counter()
            for name_bytes in wanted:
                ask(chooser, name_bytes.decode("ascii"))
            took[label].append((time.perf_counter() - began) / len(wanted) * 1e9)
    return {label: statistics.median(times) for label, times in took.items()}


def tell_lookups(what: str, found: dict[str, float]) -> None:
    """The first is what the others are measured by."""
    base, *others = found.items()
    print(f"{what}: {base[0]}: {base[1]:.0f} ns", end="")
    for label, took in others:
        print(f"; {label}: {took:.0f} ns, {took / base[1]:.2f} times as much", end="")
    print()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="bench-certificates-") as directory:
        base = Path(directory)
        sites = {FEW: Site(base / "few", FEW), count: Site(base / "many", count)}
        services = {number: Service(base / folder, sites[number]) for number, folder in ((FEW, "few"), (count, "many"))}
        few, many = services[FEW], services[count]
        try:
            print(f"ready after {few.seconds:.1f} s with {FEW} certificates, {many.seconds:.1f} s with {count}")
            for role in ("edge", "mail"):
                each = (many.private(role) - few.private(role)) / (count - FEW)
                print(f"memory of the {role} process: {each:.2f} KB per certificate (goal: less than 10)")
            spent: dict[int, list[float]] = {FEW: [], count: []}
            for service in (few, many):
                handshakes(service, sites[FEW].names * 10)
            for _ in range(TURNS):
                for number in (FEW, count):
                    names = random.choices(sites[FEW].names, k=HANDSHAKES)
                    spent[number].append(handshakes(services[number], names))
            least, most = (statistics.median(spent[number]) for number in (FEW, count))
            print(f"handshake among {FEW}: {least:.0f} us, among {count}: {most:.0f} us", end="")
            print(f", {most / least:.3f} times as much (goal: at most 1.1)")
            first = handshakes(many, random.sample(sites[count].names[FEW:], min(HANDSHAKES, count - FEW)))
            print(f"first handshake of a name among {count}: {first:.0f} us")
        finally:
            for service in services.values():
                service.stop()
        few_names, site = sites[FEW].names, sites[count]
        cases = {f"{FEW} names among {FEW}": (sites[FEW], few_names), f"among {count}": (site, few_names)}
        some = {f"of {MOST} names in any order": (site, site.names[:MOST])} if count > MOST else {}
        everything = {f"of all {count} in any order": (site, site.names)}
        found = lookups({**cases, **some}, lambda chooser, name: chooser.web_context("auto", name, None))
        tell_lookups("lookup of a context (goal: at most 1.1)", found)
        found = lookups({**cases, **everything}, lambda chooser, name: chooser.shown("auto", name))
        tell_lookups("the search alone", found)


if __name__ == "__main__":
    main()
