"""BIND's named as the resolver of a host: it validates test., which is signed, and knows open., which is not."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import dns.dnssec
import dns.message
import dns.name
import dns.node
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dns.dnssectypes import Algorithm

from dcrouter.tls.credential import Credential
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program
from tests.support.router import until

AUTHORITY = "127.0.0.2"
"""One server in two roles, told apart by the address that is asked; `own_network` has to add this one."""
_CONFIG = """
options {{
    directory "{base}"; pid-file none; session-keyfile none; lock-file none; empty-zones-enable no; notify no;
    listen-on port {port} {{ 127.0.0.1; {authority}; }}; listen-on-v6 {{ none; }}; max-ncache-ttl 1;
    dnssec-validation yes;
}};
controls {{ }};
trust-anchors {{ test. static-key {anchor}; }};
view zones {{
    match-destinations {{ {authority}; }}; recursion no;
    zone test {{ type primary; file "test"; }};
    zone open {{ type primary; file "open"; }};
}};
view resolver {{
    match-destinations {{ any; }}; recursion yes; forward only; forwarders port {port} {{ {authority}; }};
}};
"""
_HEAD = """$TTL 1
@ SOA ns root {serial} 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
"""


class SignedNamed(Program):
    """`dns`: its address. A zone is its lines, relative to its name, with a TTL of 1 s."""

    def __init__(self) -> None:
        named = require("named")
        base = Path(tempfile.mkdtemp(prefix="named-"))
        base.chmod(0o755)
        own = Reserved()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._record = dns.dnssec.make_dnskey(self._key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
        self._serial = int(time.time())
        self._base = base
        self.write([], [])
        flags, protocol, algorithm, key = self._record.to_text().split(" ", 3)
        anchor = f'{flags} {protocol} {algorithm} "{key.replace(" ", "")}"'
        (base / "named.conf").write_text(_CONFIG.format(base=base, port=own.port, authority=AUTHORITY, anchor=anchor))
        # Where AppArmor is on, the program of that path reads only what a host's own server would.
        program = shutil.copy(named, base / "nameserver")
        self.dns = f"127.0.0.1:{own.port}"
        super().__init__([program, "-g", "-4", "-n", "1", "-c", "named.conf"], base, own.port, (own,))

    def serve(self, signed: Iterable[str], unsigned: Iterable[str], bogus: Iterable[str] = ()) -> None:
        """These instead of what there was. `bogus`: of test., as `_25._tcp.mx TLSA`, whose signatures are wrong."""
        self.write(signed, unsigned, bogus)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: all(f" {self._serial} " in self._answer(zone, "SOA") for zone in ("test.", "open.")))

    def write(self, signed: Iterable[str], unsigned: Iterable[str], bogus: Iterable[str] = ()) -> None:
        self._serial += 1
        head = _HEAD.format(serial=self._serial)
        (self._base / "open").write_text("\n".join([head, *unsigned, ""]))
        zone = dns.zone.from_text("\n".join([head, *signed, ""]), origin="test.")
        dns.dnssec.sign_zone(zone, keys=[(self._key, self._record)], dnskey_ttl=1, lifetime=30 * 86400)
        for one in bogus:
            name, kind = one.split()
            _spoil(zone.find_node(name), dns.rdatatype.from_text(kind))
        zone.to_file(str(self._base / "test"), want_origin=True)
        newer = time.time() + 1.0  # than the last load, or it is not loaded; a file system's clock is coarse
        for name in ("open", "test"):
            os.utime(self._base / name, (newer, newer))

    def _answer(self, name: str, kind: str) -> str:
        query = dns.message.make_query(name, kind)
        return dns.query.tcp(query, "127.0.0.1", 60, self.port).to_text()


def _spoil(node: dns.node.Node, kind: dns.rdatatype.RdataType) -> None:
    for rdataset in node.rdatasets:
        if rdataset.rdtype == dns.rdatatype.RRSIG and rdataset.covers == kind:
            for signature in list(rdataset):
                rdataset.remove(signature)
                rdataset.add(signature.replace(signature=bytes(len(signature.signature))))
            return
    raise AssertionError("there is no such signature")


def tlsa(host: str, credential: Credential) -> str:
    """The line of a zone that says whose certificate is that of `host`, by its key (RFC 7672 3.1.1)."""
    key = credential.private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"_25._tcp.{host} TLSA 3 1 1 {sha256(key).hexdigest()}"
